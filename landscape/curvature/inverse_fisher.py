"""The inverse empirical Fisher of a window of gradients, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

import torch

from landscape.curvature.algebra.matrix import plain_space
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError, NonFiniteError
from landscape.objective.sharded import refuse_shards
from landscape.space import Space

SLAB = 1 << 16  # columns of the window that are widened to float64 at a time


class InverseFisher(LinearOperator):
    """The inverse of F = damping I + (1/m) Σ g_i g_iᵀ over a window of m gradients.

    Parameters
    ----------
    gradients : tensor (m, n), or iterable of vectors (n,) or of dictionaries by parameter name
        The window to begin with, oldest first; ``()`` for an empty one, of which the inverse is I / damping: it
        needs ``space`` and ``window``.
    damping : float
        Positive.
    space : Space, optional
        What the entries of a vector stand for, such as ``objective.space``. Needed for dictionaries and for an
        empty window; plain numbers by default.
    window : int, optional
        Most gradients held, the last ones given; by default as many as are given.

    Notes
    -----
    By the Woodbury identity F^-1 x = (x - Gᵀ (m damping I + G Gᵀ)^-1 G x) / damping with the gradients as rows
    of G (m, n): a product reads the m·n numbers of the window twice. All sums and the m by m matrix are in
    float64. A product loses about as many digits as |G Gᵀ| / (m damping) has. Memory: the window, in the
    precision of the space.

    Here F is of the gradients given, whatever they are: of single examples it is the empirical Fisher, which
    differs from the Hessian near interpolation. The gradients of batches do not give that of the examples.

    References
    ----------
    E. Frantar, E. Kurtic, D. Alistarh, M-FAC: Efficient matrix-free approximations of second-order
    information (2021), arXiv:2107.03356.
    """

    psd = True

    def __init__(
        self,
        gradients: torch.Tensor | Iterable[Any],
        damping: float,
        *,
        space: Space | None = None,
        window: int | None = None,
    ) -> None:
        if not 0 < damping < math.inf:
            raise InputError("damping must be a positive number", got=damping,
                             why="the Fisher of fewer gradients than parameters is singular",
                             fix="pass damping=1e-3")  # fmt: skip
        if window is None:
            gradients = list(gradients)
            window = len(gradients)
        given = iter(gradients)
        first = list(islice(given, 1))
        space = _space_of(first) if space is None else space
        refuse_shards(space, "an inverse Fisher")
        if window < 1:
            raise InputError("the window must hold at least one gradient", got=window, fix="pass window=64")
        super().__init__(space)
        self.damping, self.window = float(damping), window
        self._rows = torch.zeros(window, space.n, dtype=space.dtype, device=space.device)
        self._gram = torch.zeros(window, window, dtype=torch.float64, device=space.device)
        self._pushed = 0
        self._core: torch.Tensor | None = None
        for gradient in chain(first, given):
            self.push(gradient)

    def __len__(self) -> int:
        """Return m, the number of gradients in the window."""
        return min(self._pushed, self.window)

    def push(self, gradient: Any) -> None:
        """Take in a gradient (n,), or by parameter name; the oldest one leaves a full window. Reads it once."""
        row = self.space.flatten(gradient if isinstance(gradient, Mapping) else [torch.as_tensor(gradient)])
        if not bool(torch.isfinite(row).all()):
            raise NonFiniteError("a gradient is not finite", got="NaN or infinity",
                                 fix="check the loss, and leave this one out")  # fmt: skip
        place = self._pushed % self.window
        self._rows[place] = row
        self._pushed += 1
        overlaps = self._inner(row[:, None])[:, 0]
        self._gram[place, : len(self)] = overlaps
        self._gram[: len(self), place] = overlaps
        self._core = None

    def _inner(self, block: torch.Tensor) -> torch.Tensor:
        """Return G block (m, k) in float64."""
        rows = self._rows[: len(self)]
        total = torch.zeros(len(rows), block.shape[1], dtype=torch.float64, device=self.device)
        for part, piece in zip(rows.split(SLAB, dim=1), block.split(SLAB), strict=True):
            total += part.double() @ piece.double()
        return total

    def _dual(self) -> torch.Tensor:
        """Return (m damping I + G Gᵀ)^-1 (m, m)."""
        if self._core is None:
            m = len(self)
            values, vectors = torch.linalg.eigh(self._gram[:m, :m])
            self._core = (vectors / (values.clamp_min(0) + m * self.damping)) @ vectors.T
        return self._core

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        inside = self._dual() @ self._inner(block)
        product = torch.empty_like(block)
        rows = self._rows[: len(self)]
        for part, piece, out in zip(rows.split(SLAB, dim=1), block.split(SLAB), product.split(SLAB), strict=True):
            out.copy_((piece.double() - part.double().T @ inside) / self.damping)
        return product

    def diagonal(self) -> torch.Tensor:
        """Return the diagonal (n,), exactly; reads the window once."""
        parts = []
        for part in self._rows[: len(self)].split(SLAB, dim=1):
            wide = part.double()
            parts.append((1 - (wide * (self._dual() @ wide)).sum(0)) / self.damping)
        return torch.cat(parts).to(self.dtype)

    def newton_decrement(self, gradient: Any) -> float:
        """Return sqrt(gᵀ F^-1 g): half of its square is by how much the quadratic model with F falls at most."""
        g = self.space.flatten(gradient if isinstance(gradient, Mapping) else [torch.as_tensor(gradient)])
        return max(0.0, float(self.space.dot(g, self @ g))) ** 0.5

    def provenance(self) -> dict[str, Any]:
        """Return what it is of: the gradients in the window and the damping."""
        facts = {"gradients": len(self), "window": self.window, "damping": self.damping}
        return {**super().provenance(), "operator": "inverse empirical Fisher", **facts}


def _space_of(gradients: list[Any]) -> Space:
    if not gradients or isinstance(gradients[0], Mapping):
        raise InputError("the space of the gradients is not known", got="no space",
                         fix="pass space=objective.space")  # fmt: skip
    first = torch.as_tensor(gradients[0])
    return plain_space(first.numel(), first)
