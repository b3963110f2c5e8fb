"""The Lanczos process with two passes of classical Gram-Schmidt and a relative breakdown test."""

from __future__ import annotations

import numpy as np
import torch

from landscape.seeds import normal
from landscape.spectra.operators import Operator

BREAKDOWN = 10.0  # multiples of rounding, relative to |T|, below which a new direction is noise


class Krylov:
    """An orthonormal basis V, the projected matrix T = VᵀAV in float64, and the coupling to the next vector.

    ``basis`` holds at most ``size + 1`` vectors as rows, ``filled`` of which have been multiplied.
    ``beta`` is the norm of what the last product left outside the basis: the residual of the Ritz pair
    (θ, Vy) is ``beta * |y[-1]|``. Two Gram-Schmidt passes keep V orthonormal to rounding, so that no
    Ritz value can be a copy of another. ``scale`` is a running lower bound of |A|.
    """

    def __init__(self, operator: Operator, size: int, start: torch.Tensor, seed: int) -> None:
        self.operator, self.size, self.seed = operator, min(size, operator.n), seed
        rows = min(self.size + 1, operator.n)
        self.basis = torch.empty(rows, operator.n, dtype=operator.dtype, device=operator.device)
        self.T = np.zeros((self.size, self.size))
        self.filled = 0
        self.beta = 0.0
        self.breakdowns = 0
        self.scale = 0.0
        self._draws = 0
        self.basis[0] = start / operator.norm(start)

    def extend(self) -> None:
        """Multiply the next basis vector, and append the direction that it opens."""
        j, op = self.filled, self.operator
        v = self.basis[j]
        w = (op @ v[:, None])[:, 0].clone()
        self.scale = max(self.scale, op.norm(w))
        self.T[j, j] = op.dot(v, w)
        w = self._orthogonalised(w, j + 1)
        self.beta = op.norm(w)
        self.filled = j + 1
        if self.filled == op.n:
            self.beta = 0.0
            return
        if self.beta <= BREAKDOWN * op.eps * self.scale:
            # the basis spans an invariant subspace: go on in a fresh direction, uncoupled
            self.beta = 0.0
            self.breakdowns += 1
            w = self._fresh()
            self.basis[j + 1] = w
        else:
            self.basis[j + 1] = w / self.beta
        if self.filled < self.size:
            self.T[j + 1, j] = self.T[j, j + 1] = self.beta

    def _orthogonalised(self, w: torch.Tensor, count: int) -> torch.Tensor:
        rows = self.basis[:count]
        for _ in range(2):
            w = torch.addmv(w, rows.T, self._coefficients(rows, w), alpha=-1)
        return w

    @staticmethod
    def _coefficients(rows: torch.Tensor, w: torch.Tensor, columns: int = 1 << 16) -> torch.Tensor:
        """Return ``rows @ w`` accumulated in float64: over millions of entries float32 loses digits here."""
        if w.dtype == torch.float64:
            return rows @ w
        total = torch.zeros(len(rows), dtype=torch.float64, device=w.device)
        for part, piece in zip(rows.split(columns, dim=1), w.split(columns), strict=True):
            total += part.double() @ piece.double()
        return total.to(w.dtype)

    def _fresh(self) -> torch.Tensor:
        op = self.operator
        self._draws += 1
        w = normal(op.n, self.seed, 1_000_000 + self._draws, dtype=op.dtype, device=op.device)
        w = self._orthogonalised(w / op.norm(w), self.filled)
        return w / op.norm(w)

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (ascending), their coefficient columns in the basis, and residual estimates."""
        m = self.filled
        values, coefficients = np.linalg.eigh(self.T[:m, :m])
        return values, coefficients, self.beta * np.abs(coefficients[-1])

    def restart(self, values: np.ndarray, coefficients: np.ndarray) -> None:
        """Keep the Ritz pairs ``values`` with ``coefficients`` (m, kept) and the next vector; forget the rest."""
        m, kept = self.filled, len(values)
        self._combine(coefficients, m)
        self.basis[kept] = self.basis[m]
        self.T[:] = 0
        self.T[np.arange(kept), np.arange(kept)] = values
        coupling = self.beta * coefficients[-1]
        self.T[kept, :kept] = self.T[:kept, kept] = coupling
        self.filled = kept

    def _combine(self, coefficients: np.ndarray, m: int, columns: int = 1 << 16) -> None:
        """Overwrite the first rows of the basis by the combinations, a slab of columns at a time."""
        mix = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(self.basis)
        for begin in range(0, self.operator.n, columns):
            slab = self.basis[:, begin : begin + columns]
            slab[: len(mix)] = mix @ slab[:m]

    def vectors(self, coefficients: np.ndarray) -> torch.Tensor:
        """Return Ritz vectors as columns (n, k)."""
        mix = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(self.basis)
        return (mix @ self.basis[: self.filled]).T
