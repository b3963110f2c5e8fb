"""Matrices made to break solvers, each with its known spectrum."""

from __future__ import annotations

import numpy as np
import torch


def with_spectrum(values: torch.Tensor, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a symmetric matrix with the eigenvalues ``values`` and random eigenvectors."""
    n = len(values)
    random = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, n)))
    vectors, _ = torch.linalg.qr(random)
    matrix = (vectors * values.double()) @ vectors.T
    return ((matrix + matrix.T) / 2).to(dtype)


def rank_ten(n: int = 300, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a matrix with the eigenvalues 10, 9, ..., 1 and zeros."""
    values = torch.zeros(n, dtype=torch.float64)
    values[:10] = torch.arange(10, 0, -1)
    return with_spectrum(values, seed=seed, dtype=dtype)


def hard(seed: int) -> tuple[str, torch.Tensor, np.ndarray]:
    """Return one of the hard cases by number: its name, the matrix, and its spectrum in descending order."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 120))
    bulk = rng.standard_normal(n) * 0.05
    scale = 10.0 ** int(rng.choice([-8, -4, 0, 4, 8]))
    kind = ("clustered", "pairs", "close top", "rank deficient", "indefinite", "outliers")[seed % 6]
    if kind == "clustered":
        bulk[:6] = 1 + 1e-3 * rng.standard_normal(6)
    elif kind == "pairs":
        bulk[:6] = [3, -3, 2, -2, 1, -1]
    elif kind == "close top":
        bulk[:2] = [1.0, 1 - 1e-3]
    elif kind == "rank deficient":
        bulk[:] = 0
        bulk[:5] = rng.uniform(0.5, 2, 5)
    elif kind == "indefinite":
        bulk = rng.standard_normal(n)
    else:
        bulk[:4] = [50, 20, -10, 5]
    dtype = torch.float32 if seed % 2 else torch.float64
    matrix = with_spectrum(torch.from_numpy(bulk * scale), seed=seed, dtype=dtype)
    return kind, matrix, np.sort(np.linalg.eigvalsh(matrix.double().numpy()))[::-1]


#: What the random cases are of; each is made to break a solver in its own way.
CASES = ("rank deficient", "clustered", "multiple", "pairs", "close top", "gaussian", "network", "copies in the bulk")


def random_case(seed: int) -> tuple[str, torch.Tensor, np.ndarray]:
    """Return one of the random cases: its name, the matrix, and its spectrum in descending order.

    Scales from 1e-8 to 1e8, float32 and float64, 30 to 300 rows.
    """
    rng = np.random.default_rng([seed, 7])
    kind = CASES[seed % len(CASES)]
    n = int(rng.integers(30, 300))
    values = rng.standard_normal(n) * 0.05
    if kind == "rank deficient":
        values[:] = 0
        rank = int(rng.integers(1, 12))
        values[:rank] = rng.uniform(0.2, 2, rank)
    elif kind == "clustered":
        values[:8] = 1 + 10.0 ** -rng.integers(2, 6) * rng.standard_normal(8)
    elif kind == "multiple":
        tops = rng.uniform(0.5, 2, 4)
        values[:12] = np.repeat(tops, 3) * rng.choice([1, 1, 1, -1])
        values[: int(rng.integers(0, 6))] = 0
    elif kind == "pairs":
        values[:8] = np.repeat(rng.uniform(0.5, 3, 4), 2) * np.tile([1, -1], 4)
    elif kind == "close top":
        values[:3] = [1.0, 1 - 1e-3, 1 - 2e-3]
    elif kind == "gaussian":
        values = rng.standard_normal(n)
    elif kind == "network":
        outliers = int(rng.integers(3, 12))
        values = np.arange(1.0, n + 1) ** -1.0 * rng.choice([1, 1, -0.3], n)
        values[:outliers] = 10 * rng.uniform(0.5, 0.9) ** np.arange(outliers)
    else:  # the last of the wanted is one of several copies, just above the rest
        values[:2] = [3, 2]
        values[2 : 2 + int(rng.integers(2, 4))] = rng.uniform(0.2, 1)
    dtype = torch.float32 if rng.integers(2) else torch.float64
    matrix = with_spectrum(torch.from_numpy(values * 10.0 ** rng.choice([-8, -4, 0, 4, 8])), seed=seed, dtype=dtype)
    return kind, matrix, np.sort(np.linalg.eigvalsh(matrix.double().numpy()))[::-1]


def wanted(truth: np.ndarray, k: int, which: str) -> np.ndarray:
    """Return the values that a solver should give, from all of them in descending order."""
    if which == "LM":
        return truth[np.argsort(-np.abs(truth), kind="stable")][:k]
    if which == "BE":
        low = k // 2
        return np.concatenate([truth[: k - low], truth[len(truth) - low :]])
    return truth[:k] if which == "LA" else truth[::-1][:k]
