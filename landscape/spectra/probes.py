"""Random vectors as witnesses: how likely it is that an eigenvalue has stayed hidden from all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HUGE = 1e100  # coordinates beyond which a level so near to a dropped value is given up


@dataclass
class Probe:
    """A unit random vector s, by what is known of it in the present rows [V Q] of a Krylov space.

    Let u be a unit eigenvector of a value μ that is not among the pairs found. With ``A V = [V Q] H`` its
    coordinates in V are (μ - T)⁻¹Cᵀh, where h are those in the queue, so s·u is a linear function of h:
    were u hidden, |s·u| would be small. For a random s that is unlikely.

    ``coordinates`` (levels, rows) are those of a vector that has the same product with u as s; they depend on
    μ once a restart has dropped a part of V, and hold for the ``levels`` named then (NaN: for any).
    ``known`` (rows, rows) projects on the space that was there when s came: it can tell about no more copies of a
    value than were not made from itself.
    """

    coordinates: np.ndarray
    levels: np.ndarray
    known: np.ndarray

    @classmethod
    def pushed(cls, coordinates: np.ndarray, known: int, count: int) -> Probe:
        """Return the probe that has just become the last of ``count`` rows, ``known`` of which were there."""
        return cls(coordinates[None], np.array([np.nan]), np.diag((np.arange(count) < known).astype(float)))

    def state(self) -> dict[str, np.ndarray]:
        """Return its arrays by name."""
        return {"coordinates": self.coordinates, "levels": self.levels, "known": self.known}

    def keep(self, rows: np.ndarray) -> None:
        """Forget all but ``rows``."""
        rows = rows[rows < self.coordinates.shape[1]]
        self.coordinates, self.known = self.coordinates[:, rows], self.known[np.ix_(rows, rows)]

    def padded(self, count: int) -> Probe:
        """Return it with zeros for the rows that came later, ``count`` rows in all."""
        coordinates, known = np.zeros((len(self.levels), count)), np.zeros((count, count))
        rows = self.coordinates.shape[1]
        coordinates[:, :rows], known[:rows, :rows] = self.coordinates, self.known
        return Probe(coordinates, self.levels, known)

    def news(self, coefficients: np.ndarray) -> float:
        """Return how many dimensions of the space of these Ritz vectors were not there when s came."""
        m, k = coefficients.shape
        return float(k - np.sum(coefficients * (self.known[:m, :m] @ coefficients)))

    def at(self, level: float, slack: float) -> np.ndarray | None:
        """Return the coordinates that hold for an eigenvalue ``level``, to within ``slack``; None where none do."""
        distance = np.nan_to_num(np.abs(self.levels - level), nan=0.0)
        nearest = int(np.argmin(distance))
        return self.coordinates[nearest] if distance[nearest] <= slack else None

    def turn(self, axes: np.ndarray, count: int) -> None:
        """Go over to the queue turned by the orthogonal ``axes``."""
        change = np.eye(count)
        change[-len(axes) :, -len(axes) :] = axes
        whole = self.padded(count)
        self.coordinates, self.known = whole.coordinates @ change, change.T @ whole.known @ change

    def restart(
        self, values: np.ndarray, coefficients: np.ndarray, left: np.ndarray, keep: np.ndarray, levels: np.ndarray
    ) -> None:
        """Go over to the Ritz vectors ``keep``; what the others held of s passes to the queue.

        The dropped Ritz vector y of the value θ has the product (C y)·h / (μ - θ) with u: the same as the
        vector ``left`` / (μ - θ) in the queue.
        """
        m, queue = len(coefficients), len(left)
        whole = self.padded(m + queue)
        drop = np.setdiff1d(np.arange(m), keep)
        rows, held = np.zeros((len(levels), len(keep) + queue)), np.full(len(levels), np.inf)
        for i, level in enumerate(levels):
            c = whole.at(level, 1e-2 * abs(level))
            if c is None or (level == values[drop]).any():
                continue  # it can say no more of this value
            inside = coefficients.T @ c[:m]
            passed = left[:, drop] @ (inside[drop] / (level - values[drop]))
            row = np.concatenate([inside[keep], c[m:] + passed])
            if np.abs(row).max() < HUGE:
                rows[i], held[i] = row, level
        self.coordinates, self.levels = rows, held
        change = np.zeros((m + queue, len(keep) + queue))
        change[:m, : len(keep)] = coefficients[:, keep]
        change[m:, len(keep) :] = np.eye(queue)
        self.known = change.T @ whole.known @ change
