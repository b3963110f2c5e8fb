"""Whether two mean gradients oppose each other beyond noise: tests on the inner products of group means."""

from __future__ import annotations

import math

import numpy as np


def independent(products: np.ndarray) -> tuple[float, float]:
    """Return the unbiased inner product of two tasks and its z, from ``products`` (g, h) of their group means.

    The tasks share no example. products_ij = μ + α_i + β_j + ε_ij, where α and β are the noise of each task
    along the other's signal and ε that of noise along noise; the variance of the mean of all is
    (σ_α²/h' + ...) in the terms of a two-way analysis of variance.
    """
    g, h = products.shape
    value = float(products.mean()) if g and h else math.nan
    if g < 2 or h < 2:
        return value, math.nan
    rows, columns = products.mean(axis=1), products.mean(axis=0)
    rest = ((products - rows[:, None] - columns + value) ** 2).sum() / ((g - 1) * (h - 1))
    by_row = h * ((rows - value) ** 2).sum() / (g - 1)
    by_column = g * ((columns - value) ** 2).sum() / (h - 1)
    parts = [(by_row, 1.0, g - 1), (by_column, 1.0, h - 1)]
    return value, _z(value, parts, rest, (g - 1) * (h - 1), g * h)


def shared(products: np.ndarray) -> tuple[float, float]:
    """Return the same for tasks whose groups i hold the same examples: products_ii are left out.

    The noise of two losses of one example is correlated, which biases products_ii alone. The others, made
    symmetric, are μ + τ_i + τ_j + η_ij: a half diallel without the diagonal.
    """
    p = len(products)
    if p < 2:
        return math.nan, math.nan
    half = (products + products.T) / 2
    off = ~np.eye(p, dtype=bool)
    value = float(half[off].mean())
    if p < 4:
        return value, math.nan
    lines = np.where(off, half, 0).sum(axis=1)
    effect = (p * lines - lines.sum()) / (p * (p - 2))
    fitted = value + effect[:, None] + effect
    rest = ((half - fitted)[off] ** 2).sum() / (p * (p - 3))
    by_line = (p - 2) * (effect**2).sum() / (p - 1)
    pairs = p * (p - 1) / 2
    return value, _z(value, [(by_line, 2 * (p - 1) / (p - 2), p - 1)], rest, p * (p - 3) // 2, pairs)


def _z(value: float, parts: list[tuple[float, float, int]], rest: float, rest_freedom: int, count: float) -> float:
    """Return the normal score of ``value``, the mean of ``count`` products.

    Its variance is [rest + Σ_k c_k (ms_k - rest)] / count over ``parts`` (ms, c, degrees of freedom). Mean
    squares ms have few degrees of freedom: each excess over ``rest`` counts by how sure it is, and
    Satterthwaite's degrees of freedom of the whole turn Student's t into a normal score (Wallace 1959).
    """
    variance, spread, share = 0.0, 0.0, 1.0
    for mean_square, factor, freedom in parts:
        weight = factor * math.sqrt(max(0.0, 1 - rest / mean_square)) if mean_square > 0 else 0.0
        variance += weight * mean_square
        spread += (weight * mean_square) ** 2 / freedom
        share -= weight
    variance += share * rest
    spread += (share * rest) ** 2 / rest_freedom
    if not variance > 0:  # no noise at all, or NaN
        return math.nan if math.isnan(variance) else math.copysign(math.inf, value) if value else 0.0
    freedom_of_all = variance**2 / spread
    t2 = value**2 / (variance / count)
    score = (
        (8 * freedom_of_all + 1)
        / (8 * freedom_of_all + 3)
        * math.sqrt(freedom_of_all * math.log1p(t2 / freedom_of_all))
    )
    return math.copysign(score, value)
