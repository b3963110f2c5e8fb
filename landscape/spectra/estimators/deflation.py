"""Directions whose share is known exactly, so that probes need to estimate the rest only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from landscape.seeds import normal, rademacher
from landscape.spectra.estimators.work import CHUNK, START, Work
from landscape.spectra.lanczos import Krylov

SLAB = 1 << 16  # columns of a basis that are worked on at a time
MOST = 100  # basis vectors
MOST_BYTES = 4 << 30  # of them


@dataclass(frozen=True)
class Deflation:
    """A in the blocks of a basis Q and of its complement P: ``QᵀAQ = T``, ``PAQ = E`` and the rest ``B = PAP``.

    ``Q`` (m, n) holds orthonormal rows; ``E`` is ``edge`` (r, n), rows orthogonal to Q, mixed by ``link`` (r, m).
    Everything but B is known, so that tr A = tr T + tr B, |A|² = |T|² + 2|E|² + |B|², and so on.
    """

    Q: torch.Tensor
    T: np.ndarray
    edge: torch.Tensor
    link: np.ndarray

    def outside(self, block: torch.Tensor) -> torch.Tensor:
        """Return P times the columns (n, k)."""
        return torch.addmm(block, self.Q.T, self.Q @ block, alpha=-1)

    def rest(self, probes: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
        """Return B times ``probes`` from A times them, both (n, k), without a product."""
        coupling = torch.from_numpy(self.link).to(probes) @ (self.Q @ probes)
        return torch.addmm(self.outside(products), self.edge.T, coupling, alpha=-1)

    def multiply(self, work: Work, probes: torch.Tensor) -> torch.Tensor:
        """Return B times ``probes`` (n, k), one product each; a large part is not made, only to be taken off."""
        return self.outside(work.multiply(self.outside(probes)))

    def diagonal(self) -> torch.Tensor:
        """Return the diagonal of A - B (n,), in float64."""
        T, link = (torch.from_numpy(np.ascontiguousarray(x)).to(self.Q.device) for x in (self.T, self.link))
        found = torch.empty(self.Q.shape[1], dtype=torch.float64, device=self.Q.device)
        for begin in range(0, len(found), SLAB):
            Q, edge = self.Q[:, begin : begin + SLAB].double(), self.edge[:, begin : begin + SLAB].double()
            found[begin : begin + SLAB] = (Q * (T @ Q + 2 * (link.T @ edge))).sum(dim=0)
        return found

    def coupling(self) -> np.ndarray:
        """Return EᵀE (m, m)."""
        found: np.ndarray = self.link.T @ gram(self.edge, self.edge) @ self.link
        return found

    def norm2(self) -> float:
        """Return the squared Frobenius norm of A - B."""
        return float((self.T**2).sum() + 2 * np.trace(self.coupling()))

    def cube(self, work: Work) -> float:
        """Return tr A³ - tr B³; as many products as ``edge`` has rows."""
        mixed = self.T @ self.coupling()
        if len(self.edge):
            mixed += self.link.T @ gram(self.edge, self.rest(self.edge.T, work @ self.edge.T).T) @ self.link
        return float(np.trace(self.T @ self.T @ self.T) + 3 * np.trace(mixed))


def gram(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Return the inner products of the rows of ``a`` and ``b``, in float64."""
    found = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    for left, right in zip(a.split(SLAB, dim=1), b.split(SLAB, dim=1), strict=True):
        found += left.double() @ right.double().T
    return found.cpu().numpy()


class Basis(Protocol):
    """Directions to deflate, some more at a time."""

    cost: int  # products for each
    step: int  # how many are added at a time

    def __len__(self) -> int: ...

    def grow(self, count: int) -> None:
        """Add ``count`` directions, or fewer where there are no more."""
        ...

    @property
    def full(self) -> bool:
        """Whether no further direction can be added."""
        ...

    def deflation(self) -> Deflation:
        """Return A in the blocks of the present basis."""
        ...


def room(work: Work) -> int:
    """Return how many basis vectors may be held."""
    return max(1, min(work.n, MOST, max(CHUNK, MOST_BYTES // (work.n * torch.finfo(work.dtype).bits // 8))))


class KrylovBasis:
    """The Krylov space of one random vector: its products are part of the process, and outliers come first."""

    cost, step = 1, 4

    def __init__(self, work: Work) -> None:
        start = normal(work.n, work.seed, START, dtype=work.dtype, device=work.device)
        self.krylov = Krylov(work, min(room(work), max(1, work.most // 2)), start, work.seed)

    def __len__(self) -> int:
        """Return the number of directions."""
        return self.krylov.filled

    def grow(self, count: int) -> None:
        """Add ``count`` directions, or fewer where there are no more."""
        for _ in range(count):
            if not self.full:
                self.krylov.extend()

    @property
    def full(self) -> bool:
        """Whether no further direction can be added."""
        return self.krylov.filled == self.krylov.size

    def deflation(self) -> Deflation:
        """Return A in the blocks of the present basis."""
        k = self.krylov
        _, coefficients, left = k.residual_columns()  # before its sizes are read: the look may drop dead rows
        m = k.filled
        return Deflation(k.basis[:m], k.T, k.basis[m : k.count], left[m:] @ coefficients.T)


class SketchBasis:
    """The range of A times random signs, as in Hutch++: two products a direction."""

    cost, step = 2, CHUNK

    def __init__(self, work: Work) -> None:
        self.work, self.most = work, min(room(work), max(1, work.most // 3))
        self.Q = torch.empty(0, work.n, dtype=work.dtype, device=work.device)
        self.Z = self.Q

    def __len__(self) -> int:
        """Return the number of directions."""
        return len(self.Q)

    def grow(self, count: int) -> None:
        """Add ``count`` directions, or fewer where there are no more."""
        work, have = self.work, len(self)
        count = min(count, self.most - have)
        draw = [rademacher(work.n, work.seed, START + have + i, dtype=work.dtype, device=work.device)
                for i in range(count)]  # fmt: skip
        added = orthonormal(self.Q, work @ torch.stack(draw, dim=1))
        self.Q, self.Z = torch.cat([self.Q, added]), torch.cat([self.Z, (work @ added.T).T])

    @property
    def full(self) -> bool:
        """Whether no further direction can be added."""
        return len(self) >= self.most

    def deflation(self) -> Deflation:
        """Return A in the blocks of the present basis."""
        T = gram(self.Q, self.Z)
        T = (T + T.T) / 2
        edge = self.Z - torch.from_numpy(T).to(self.Q) @ self.Q
        return Deflation(self.Q, T, edge, np.eye(len(self)))


def orthonormal(Q: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Return rows (k, n) that extend ``Q`` (m, n) by the range of ``block`` (n, k).

    Where the block adds nothing new the rows are rounding, made orthonormal like the others: any further
    direction may be deflated.
    """
    added = block / torch.linalg.vector_norm(block, dim=0).clamp(min=torch.finfo(block.dtype).tiny)
    for _ in range(3):
        for _ in range(2):
            added = torch.addmm(added, Q.T, Q @ added, alpha=-1)
        added = torch.linalg.qr(added).Q
    return added.T
