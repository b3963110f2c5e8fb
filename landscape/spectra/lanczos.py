"""Band Lanczos with thick restarts: an orthonormal basis of what was multiplied, and a queue of what was not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from landscape.seeds import normal
from landscape.spectra.interrupts import unbroken
from landscape.spectra.operators import Operator, not_finite
from landscape.spectra.probes import Probe

# Multiples of rounding, relative to |A|: below the first a new direction is noise, below the second no further
# step makes a residual smaller.
BREAKDOWN, EXHAUSTED = 10.0, 5.0

SHORT = 0.2  # how much of the longest direction a missing one must have to be multiplied next


class Krylov:
    """Orthonormal rows ``basis``: first V, which has been multiplied, then the queue Q, which has not.

    With H = [V Q]ᵀ A V in float64 it always holds that ``A V = [V Q] H``. T is the symmetric part of the upper
    square of H, and C, its lower rows, says what the products left outside V: the residual of the Ritz pair
    (θ, Vy) is ``|C y|``. Each product is orthogonalised twice against all rows; what is left joins the queue, or
    is dropped where it is rounding. Several start vectors, earlier eigenvectors, and the fresh random ones that
    follow when the queue is empty or a result is to be confirmed, are all vectors put into the queue.

    Parameters
    ----------
    operator : Operator
        What is multiplied.
    size : int
        Most vectors in V.
    start : Tensor, shape (n,) or (n, m), optional
        Where to start; by default a random vector.
    seed : int
        Seeds the random vectors.
    lazy : bool, optional
        Leave T on the device, and find breakdowns and numbers that are not finite only when it is looked at:
        so by default on an accelerator. A dead direction is then a row of zeros until the next look.

    Notes
    -----
    Memory: ``size`` vectors and the queue, which is as long as there are start vectors and random ones.
    """

    def __init__(
        self, operator: Operator, size: int, start: torch.Tensor | None = None, seed: int = 0, *,
        lazy: bool | None = None,
    ) -> None:  # fmt: skip
        self.operator, self.size, self.seed = operator, min(size, operator.n), seed
        self.warm = start is not None
        self.lazy = operator.device.type != "cpu" if lazy is None else lazy
        width = 1 if start is None or start.ndim == 1 else start.shape[1] + 1
        rows = min(self.size + width, operator.n)
        device = operator.device
        self.basis = torch.empty(rows, operator.n, dtype=operator.dtype, device=device)
        self._H = torch.zeros(rows, self.size, dtype=torch.float64, device=device)
        self._alive = torch.ones(rows, dtype=torch.bool, device=device)
        self._scale = torch.zeros((), dtype=torch.float64, device=device)  # a running lower bound of |A|
        self.filled = self.count = 0  # rows of V, and of V and Q
        self.width = 0  # how many of the queue :meth:`turn` put first; 0 where that is not decided
        self.breakdowns = self.restarts = self.looks = 0
        self._settled = True
        self.probes: list[Probe] = []
        if start is None:
            self.probe()
        else:
            for v in start.unbind(1) if start.ndim == 2 else [start]:
                self.push(v)

    # -- growing ---------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether a restart must make room before anything is multiplied or pushed."""
        rows = len(self.basis)
        return self.filled >= self.size or (self.count >= rows and rows < self.operator.n)

    def extend(self, most: int | None = None) -> None:
        """Multiply the queue, or the vectors put first in it, in one block; what they open joins the queue.

        ``most`` limits how many.
        """
        if self.count == self.filled:
            self.probe()
        room = self.size - self.filled
        if len(self.basis) < self.operator.n:
            room = min(room, len(self.basis) - self.count)
        width = min(self.width or self.count - self.filled, room, *([] if most is None else [most]))
        products = self.operator @ self.basis[self.filled : self.filled + width].T
        with unbroken():
            self.width = 0
            for w in products.unbind(1):
                length = self._length(w)
                self._scale = torch.maximum(self._scale, length)
                w, coefficients = self._orthogonalised(w)
                self._H[: self.count, self.filled] = coefficients
                self.filled += 1
                self._append(w, self._scale, column=self.filled - 1)
            if not self.lazy:
                self.settle()

    def push(self, v: torch.Tensor) -> np.ndarray | None:
        """Put what is new in ``v`` at the end of the queue; return the coordinates of ``v`` in all rows."""
        length = self._length(v)
        w, coefficients = self._orthogonalised(v)
        if self.count == self.operator.n:
            return None
        rest = self._append(w, length)
        self.settle()
        return torch.cat([coefficients, rest[None]]).div(length).cpu().numpy()

    def probe(self) -> None:
        """Put a fresh random vector into the queue."""
        op, number = self.operator, len(self.probes)
        index = 1_000_000 + number if number else 0
        known = self.count
        with unbroken():
            coordinates = self.push(normal(op.n, self.seed, index, dtype=op.dtype, device=op.device))
            if coordinates is not None:
                self.probes.append(Probe.pushed(coordinates, known, self.count))

    def _append(self, w: torch.Tensor, scale: torch.Tensor, column: int | None = None) -> torch.Tensor:
        """Make ``w`` the last row, or a row of zeros where it is rounding beside ``scale``; return its length."""
        length, self._settled = self._length(w), False
        if self.count == self.operator.n:
            return length
        alive = length > BREAKDOWN * self.operator.eps * scale
        self.basis[self.count] = w * torch.where(alive, 1 / length, 0.0).to(w.dtype)
        self._alive[self.count] = alive
        if column is not None:
            self._H[self.count, column] = torch.where(alive, length, 0.0)
        self.count += 1
        return length

    def _orthogonalised(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is new in ``w``, and its coordinates in the rows: the second pass finds what the first left."""
        rows = self.basis[: self.count]
        rough = rows @ w
        w = torch.addmv(w, rows.T, rough, alpha=-1)
        exact = _coefficients(rows, w)
        return torch.addmv(w, rows.T, exact.to(w.dtype), alpha=-1), rough.double() + exact

    def _length(self, w: torch.Tensor) -> torch.Tensor:
        return self.operator.inner(w, w).sqrt()

    def settle(self) -> None:
        """Drop dead rows, and refuse numbers that are not finite: the one place where the host waits."""
        if self._settled:
            return
        self.looks, self._settled = self.looks + 1, True
        flags = torch.cat([self._alive[: self.count], torch.isfinite(self._H[: self.count, : self.filled]).all()[None]])
        *alive, finite = flags.tolist()
        if not finite:
            raise not_finite()
        if all(alive):
            return
        keep = np.flatnonzero(alive)
        rows = torch.from_numpy(keep).to(self.basis.device)
        columns = rows[: int(np.sum(alive[: self.filled]))]
        self.basis[: len(keep)] = self.basis[rows]
        H = self._H[rows][:, columns]
        self._H.zero_()
        self._H[: len(keep), : len(columns)] = H
        self._alive.fill_(True)
        self.breakdowns += self.count - len(keep)
        self.count, self.filled = len(keep), len(columns)
        for probe in self.probes:
            probe.keep(keep)

    # -- looking ---------------------------------------------------------------------------------------------

    def _looked(self) -> np.ndarray:
        """Return H on the host, (rows, columns) in use."""
        self.settle()
        return self._H[: self.count, : self.filled].cpu().numpy()

    @property
    def T(self) -> np.ndarray:
        """The projected matrix VᵀAV, float64."""
        top = self._looked()[: self.filled]
        return (top + top.T) / 2

    @property
    def scale(self) -> float:
        """A lower bound of |A|: the longest product of a unit vector so far."""
        return float(self._scale)

    @property
    def floor(self) -> float:
        """The residual that no further step can lower."""
        return EXHAUSTED * self.operator.eps * self.scale

    @property
    def lost(self) -> float:
        """How long what was dropped as rounding may have been."""
        return BREAKDOWN * self.operator.eps * self.scale if self.breakdowns else 0.0

    @property
    def beta(self) -> float:
        """How large the part of A V is that lies in the queue; 0 where V is invariant."""
        return float(np.linalg.norm(self._looked()[self.filled :]))

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (ascending), their coefficient columns in V, and residual norms."""
        values, coefficients, left = self.residual_columns()
        return values, coefficients, np.linalg.norm(left, axis=0)

    def residual_columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Ritz values (ascending), their coefficient columns, and their residuals in all rows."""
        H = self._looked()
        top = H[: self.filled]
        values, coefficients = np.linalg.eigh((top + top.T) / 2)
        left = H @ coefficients
        left[: self.filled] -= coefficients * values
        return values, coefficients, left

    def combined(self, coordinates: np.ndarray) -> torch.Tensor:
        """Return combinations (n, k) of the first rows by the columns of ``coordinates``."""
        mix = torch.from_numpy(np.ascontiguousarray(coordinates.T)).to(self.basis)
        return (mix @ self.basis[: len(coordinates)]).T

    vectors = combined  # of coefficient columns in V: the Ritz vectors

    # -- restarting ------------------------------------------------------------------------------------------

    def restart(self, values: np.ndarray, coefficients: np.ndarray, keep: np.ndarray, levels: np.ndarray) -> None:
        """Keep the Ritz pairs of the indices ``keep``, and the queue; forget the rest of V.

        ``levels`` are the eigenvalues for which the probes go on to bound what is hidden.
        """
        H, m = self._looked(), self.filled
        kept, queue = coefficients[:, keep], self.count - m
        new = np.zeros(tuple(self._H.shape))
        new[: len(keep), : len(keep)] = kept.T @ H[:m] @ kept
        new[len(keep) : len(keep) + queue, : len(keep)] = H[m:] @ kept
        with unbroken():
            for probe in self.probes:
                probe.restart(values, coefficients, H[m:] @ coefficients, keep, levels)
            self._combine(kept, m)
            self._H.copy_(torch.from_numpy(new))
            self.filled, self.count = len(keep), len(keep) + queue
            self.restarts += 1

    def turn(self, missing: np.ndarray, short: float = SHORT) -> None:
        """Turn the queue so that its first vectors, which are multiplied next, span what is ``missing``, columns in it.

        Directions in which the columns are shorter than 1, or than ``short`` times the longest, are left for later.
        """
        queue = self.count - self.filled
        if queue < 2 or not missing.size:
            return
        axes, lengths, _ = np.linalg.svd(missing, full_matrices=True)
        with unbroken():
            mix = torch.from_numpy(np.ascontiguousarray(axes.T))
            rows = slice(self.filled, self.count)
            self.basis[rows] = mix.to(self.basis) @ self.basis[rows]
            self._H[rows] = mix.to(self._H) @ self._H[rows]
            for probe in self.probes:
                probe.turn(axes, self.count)
            self.width = max(1, int(np.sum(lengths >= max(1.0, short * lengths[0]))))

    def _combine(self, coefficients: np.ndarray, m: int, columns: int = 1 << 16) -> None:
        """Replace V by combinations of it, and move the queue behind them, a slab of columns at a time."""
        mix = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(self.basis)
        kept, count = len(mix), self.count
        for begin in range(0, self.operator.n, columns):
            slab = self.basis[:, begin : begin + columns]
            slab[: kept + count - m] = torch.cat([mix @ slab[:m], slab[m:count]])

    # -- keeping ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return everything from which :meth:`resume` goes on in the same way."""
        H = self._looked()
        counts = [self.filled, self.count, self.breakdowns, self.restarts, self.looks, self.width, len(self.probes)]
        found = {
            "basis": self.basis[: self.count].cpu().numpy(),
            "H": H,
            "scale": np.array(self.scale),
            "counts": np.array(counts),
        }
        for i, probe in enumerate(self.probes):
            found |= {f"probe_{i}_{name}": array for name, array in probe.state().items()}
        return found

    def resume(self, found: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        self.filled, self.count, self.breakdowns, self.restarts, self.looks, self.width, probes = found[
            "counts"
        ].tolist()
        self.basis[: self.count] = torch.from_numpy(found["basis"]).to(self.basis)
        self._H.zero_()
        self._H[: self.count, : self.filled] = torch.from_numpy(found["H"]).to(self._H)
        self._scale.fill_(float(found["scale"]))
        self._alive.fill_(True)
        prefixes = [f"probe_{i}_" for i in range(probes)]
        self.probes = [
            Probe(**{name.removeprefix(p): found[name] for name in found if name.startswith(p)}) for p in prefixes
        ]


def _coefficients(rows: torch.Tensor, w: torch.Tensor, columns: int = 1 << 16) -> torch.Tensor:
    """Return ``rows @ w`` accumulated in float64: over millions of entries float32 loses digits here."""
    if w.dtype == torch.float64:
        return rows @ w
    total = torch.zeros(len(rows), dtype=torch.float64, device=w.device)
    for part, piece in zip(rows.split(columns, dim=1), w.split(columns), strict=True):
        total += part.double() @ piece.double()
    return total
