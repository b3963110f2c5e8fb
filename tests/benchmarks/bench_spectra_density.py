"""The distribution of all eigenvalues beside that of a dense Hessian, at equal products, beside other libraries.

``make bench-spectra`` prints the table. All libraries multiply by the same matrix. What is compared is what they give
to be looked at: their densities as they smooth them by default, summed up, and our cumulative view.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import landscape as ls
from tests.benchmarks import peers
from tests.benchmarks.timing import table
from tests.benchmarks.trained import dense, trained_small

SEEDS = 3
SIZES = [(1, 100), (8, 80)]  # PyHessian's default, ours
MEASURES = ("mean", "largest", "Wasserstein")

Cdf = Callable[[np.ndarray], np.ndarray]


def errors(cdf: Cdf, eigenvalues: np.ndarray) -> np.ndarray:
    """Return how far ``cdf`` is from the share of ``eigenvalues`` at or below: the three ``MEASURES``.

    The mean is over the eigenvalues, the largest over all numbers, and Wasserstein's is the area between the two.
    """
    values = np.sort(eigenvalues)
    n, reach = len(values), values[-1] - values[0]
    grid = np.union1d(np.linspace(values[0] - reach / 4, values[-1] + reach / 4, 20_001), values)
    off = np.abs(cdf(grid) - np.searchsorted(values, grid, side="right") / n)
    before = np.abs(cdf(np.nextafter(values, -np.inf)) - np.searchsorted(values, values) / n)
    at = off[np.searchsorted(grid, values)]
    area = ((off[1:] + off[:-1]) / 2 * np.diff(grid)).sum()
    return np.array([(at.mean() + before.mean()) / 2, max(off.max(), before.max()), area])


def summed(grid: np.ndarray, density: np.ndarray) -> Cdf:
    """Return the cumulative view of a density on an even grid."""
    shares = np.cumsum(density)
    edges = grid + (grid[1] - grid[0]) / 2
    return lambda at: np.interp(at, edges, shares / shares[-1], left=0.0, right=1.0)


def ours(matrix: torch.Tensor, probes: int, steps: int, seed: int) -> tuple[Cdf, int]:
    """Return our cumulative view and its products."""
    result = ls.spectral_density(matrix, probes=probes, steps=steps, seed=seed)
    return result.cdf, result.matvecs


def eigenthings(matrix: torch.Tensor, probes: int, steps: int, seed: int) -> tuple[Cdf, int]:
    """Return hessian-eigenthings' density, summed, and its products."""
    counter = peers.Counter()
    operator = peers.eigenthings_matrix(matrix, counter)
    from hessian_eigenthings import spectral_density

    found = spectral_density(operator, num_runs=probes, lanczos_steps=steps, seed=1000 * seed)
    return summed(found.grid.double().numpy(), found.density.double().numpy()), counter.count


def pyhessian(matrix: torch.Tensor, probes: int, steps: int, seed: int) -> tuple[Cdf, int]:
    """Return PyHessian's density, summed, and its products."""
    counter, trained = peers.Counter(), trained_small()
    operator = peers.pyhessian_operator(trained.model, trained.data)
    return summed(*peers.pyhessian_density(operator, matrix, probes, steps, counter, seed)), counter.count


@pytest.mark.filterwarnings("ignore")
def test_density() -> None:
    trained, matrix = trained_small(), dense()
    eigenvalues = torch.linalg.eigvalsh(matrix).numpy()
    matrix = matrix.float()
    rows: list[tuple[str, ...]] = []
    for probes, steps in SIZES:
        for name, estimate in (
            ("landscape", ours), ("PyHessian", pyhessian), ("hessian-eigenthings", eigenthings),
        ):  # fmt: skip
            try:
                runs = [estimate(matrix, probes, steps, seed) for seed in range(SEEDS)]
            except ImportError:
                rows.append((f"{probes} x {steps}", name, "not installed", *[""] * len(MEASURES)))
                continue
            off = np.median([errors(cdf, eigenvalues) for cdf, _ in runs], axis=0)
            rows.append((f"{probes} x {steps}", name, str(runs[0][1]), *(f"{value:.2g}" for value in off)))
            print("  " + ", ".join(rows[-1]), flush=True)
    head = ("probes x steps", "", "products", *MEASURES)
    spread = f"from {eigenvalues[0]:.2g} to {eigenvalues[-1]:.2g}, half of them below {np.median(eigenvalues):.2g}"
    table(f"Errors of the CDF, medians of {SEEDS} seeds: {trained.title}, {spread}", head, rows)
