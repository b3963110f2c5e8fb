"""Per-example gradients as a stream, and what they say together."""

from landscape.gradients.conflict import gradient_conflict
from landscape.gradients.per_example import ExampleGradients, per_example
from landscape.gradients.statistics import gradient_statistics

__all__ = ["ExampleGradients", "gradient_conflict", "gradient_statistics", "per_example"]
