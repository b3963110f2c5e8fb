"""Operators made of operators: sums, products, parts, blocks, inverses, and matrices as operators."""
