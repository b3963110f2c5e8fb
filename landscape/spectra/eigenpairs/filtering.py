"""Eigenvalues inside the spectrum: a polynomial that is largest at a shift makes them those of one end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from landscape.spectra.eigenpairs.pairs import Pairs
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

# Steps that survey the spectrum; how steep the filter is, as the hyperbolic angle that its window spans; the highest
# degree.
SURVEY, STEEP, MOST = 24, 1.0, 301


class Filter(Operator):
    """F = T_d(g((A - σ)²)) / T_d(g(0)), with g linear such that distances from ``window`` to ``reach`` go to [-1, 1].

    T_d is the Chebyshev polynomial of an odd degree d. F is 1 at σ and falls strictly with the distance |λ - σ| up
    to ``window``; beyond it is small. So the largest eigenvalues of F are those of A nearest to σ, in that order,
    and whatever proves that none of them is missing proves it for A. One product takes ``2 d`` of A.
    """

    def __init__(self, operator: Operator, sigma: float, window: float, reach: float) -> None:
        self.operator, self.sigma, self.window, self.reach = operator, sigma, window, reach
        self.n, self.dtype, self.device, self._space = operator.n, operator.dtype, operator.device, operator._space
        # odd: an eigenvalue beyond the reach, if the survey missed one, goes to the low end
        self.degree = int(np.clip(2 * round(STEEP * reach / window / 4) + 1, 1, MOST))
        self.cost = 2 * self.degree

    @property
    def matvecs(self) -> int:
        """Products of A so far."""
        return self.operator.matvecs

    @matvecs.setter
    def matvecs(self, count: int) -> None:
        self.operator.matvecs = count

    def value(self, distance: np.ndarray) -> np.ndarray:
        """Return F for eigenvalues at ``distance`` from σ, up to the window."""
        far, near = self.reach**2, self.window**2
        angle = np.arccosh(np.maximum(1.0, (far + near - 2 * np.minimum(distance, self.window) ** 2) / (far - near)))
        found: np.ndarray = np.cosh(self.degree * angle) * self.edge
        return found

    def needed(self, pairs: Pairs, now: float) -> float:
        """Return the tolerance of F at which residuals of A are small enough and values a tolerance apart distinct.

        ``now`` is the tolerance at which the pairs were found.
        """
        sizes = pairs.tol * np.abs(pairs.values)
        distance = np.abs(pairs.values - self.sigma)
        use = ~pairs.zero & (sizes > pairs.floor)
        if not use.any():
            return 1.0
        drop = 1 - self.value(distance + sizes) / self.value(distance)
        short = np.minimum(1.0, sizes / np.maximum(pairs.residuals, np.finfo(float).tiny))
        return float(np.minimum(drop, np.where(short < 1, short * now, 1.0))[use].min())

    @property
    def edge(self) -> float:
        """The value of F at the edge of the window: only above it does F tell distances apart."""
        far, near = self.reach**2, self.window**2
        return float(1 / np.cosh(self.degree * np.arccosh((far + near) / (far - near))))

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k), by the scaled three-term recurrence."""
        far, near = self.reach**2, self.window**2
        half, middle = (far - near) / 2, (far + near) / 2
        top = middle / half  # g(0)
        before, now, ratio = block, self._folded(block, middle) / (half * top), 1 / top
        for _ in range(self.degree - 1):
            following = 1 / (2 * top - ratio)
            step = self._folded(now, middle) * (2 * following / half)
            before, now = now, step - (following * ratio) * before
            ratio = following
        return now

    def _folded(self, block: torch.Tensor, middle: float) -> torch.Tensor:
        """Return ``(middle - (A - σ)²)`` times ``block``."""
        once = self.operator @ block - self.sigma * block
        return middle * block - (self.operator @ once - self.sigma * once)


def survey(operator: Operator, sigma: float, count: int, seed: int) -> dict[str, float]:
    """Return how far the spectrum reaches from ``sigma``, and a window that holds about ``count`` eigenvalues."""
    krylov = Krylov(operator, SURVEY, None, seed)
    for _ in range(krylov.size):
        krylov.extend()
        if krylov.beta == 0:
            break
    values, coefficients, estimates = krylov.ritz()
    low, high = values[0] - estimates[0], values[-1] + estimates[-1]
    reach = 1.01 * max(abs(high - sigma), abs(sigma - low), float(np.finfo(float).tiny))
    shares = np.cumsum(coefficients[0] ** 2)
    edges = np.concatenate([[low], (values[1:] + values[:-1]) / 2, [high]])
    cumulative = np.concatenate([[0.0], shares / shares[-1]])
    windows = reach * np.geomspace(1e-4, 0.7, 200)
    inside = np.interp(sigma + windows, edges, cumulative) - np.interp(sigma - windows, edges, cumulative)
    held = np.flatnonzero(operator.n * inside >= count)
    return {"reach": float(reach), "window": float(windows[held[0] if len(held) else -1])}


def rayleigh_ritz(operator: Operator, vectors: torch.Tensor) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Return the Ritz values of A in the span of ``vectors`` (n, k), their vectors and true residuals; k products."""
    basis = torch.linalg.qr(vectors)[0]
    products = operator @ basis
    small: Any = np.array([[operator.dot(u, p) for p in products.T] for u in basis.T])
    values, mix = np.linalg.eigh((small + small.T) / 2)
    turn = torch.from_numpy(mix).to(basis)
    found, products = basis @ turn, products @ turn
    left = products - found * torch.from_numpy(values).to(basis)
    return values, found, np.array([operator.norm(r) for r in left.T])
