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
