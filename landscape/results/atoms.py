"""Single eigenvalues among the nodes of quadratures: found by every probe, and counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONVERGED = 3e-3  # the largest residual of nodes that are taken for an eigenvalue, in gaps to the next node
AGREE = 0.02  # how far apart the probes may see it, in gaps
CHANCE = 1e-3  # of weights as large as those seen, below which its multiplicity must be another
NOTHING = 1e-10  # of 1/n: a weight that only a copy has which rounding has brought in
OTHERS = 8  # how many of the first probes' starts each probe's Ritz vectors are compared with


@dataclass(frozen=True)
class Atoms:
    """Eigenvalues that the quadratures have resolved: each has the share multiplicity/n of all, exactly.

    Attributes
    ----------
    values : numpy.ndarray
        Ascending, shape (k,).
    errors : numpy.ndarray
        How far from the truth each may be, shape (k,). Of a simple eigenvalue that several probes see, the residual's
        square by the gap; where another eigenvalue may be closer than the nodes tell, as with one probe, the residual
        itself; of several in one place, as far as any of them may be. Never less than the probes differ, or rounding.
    multiplicities : numpy.ndarray
        How many eigenvalues each is, shape (k,): 1 for nearly all.
    """

    values: np.ndarray
    errors: np.ndarray
    multiplicities: np.ndarray

    def __len__(self) -> int:
        """Return how many different values there are."""
        return len(self.values)

    @property
    def count(self) -> int:
        """How many eigenvalues they are, multiple ones counted as often as they occur."""
        return int(self.multiplicities.sum())


@dataclass(frozen=True)
class _Cluster:
    """Nodes of one probe that their residuals do not tell apart: mostly one, or copies of a multiple eigenvalue."""

    nodes: slice
    size: int
    value: float
    residual: float
    gap: float

    @property
    def spread(self) -> float:
        return self.residual / self.gap


def separate(
    nodes: np.ndarray, weights: np.ndarray, residuals: np.ndarray, crossed: np.ndarray, n: int, eps: float
) -> tuple[Atoms, np.ndarray]:
    """Return the resolved eigenvalues, and the weights (probes, steps) of all the rest, each row of sum 1.

    A node becomes an atom when every probe has it, converged, at the same place, and its multiplicity is known.
    With P the projector on the eigenspace, ``weights`` and ``crossed`` hold vᵢᵀPvᵢ and vᵢᵀPvₗ for the starts v of the
    probes; the rank of that matrix is the multiplicity, if there are more probes. One probe alone cannot tell:
    its values are taken for simple ones, unless a weight is too large for that, n times it being the square
    of a normal variable.
    """
    rounding = eps * float(np.nanmax(np.abs(nodes)))
    counted = np.where(weights > NOTHING / n, nodes, np.nan)
    clusters = [_clusters(*row, rounding) for row in zip(counted, weights, residuals, strict=True)]
    values, errors, multiplicities, rest = [], [], [], weights.copy()
    for group in _common(clusters):
        multiplicity = _multiplicity(group, weights, crossed, n, eps)
        if multiplicity == 0:
            continue
        for row, cluster in zip(rest, group, strict=True):
            row[cluster.nodes] = 0.0
        best = min(group, key=lambda c: c.residual * c.spread)
        values.append(best.value)
        errors.append(max(_error(best, group, multiplicity), 10 * rounding))
        multiplicities.append(multiplicity)
    left = rest.sum(axis=1)
    if values and sum(multiplicities) != n and (sum(multiplicities) > n or left.min() <= 1e-12):
        # counted wrong: something must be left for the other eigenvalues
        values, errors, multiplicities, rest, left = [], [], [], weights.copy(), weights.sum(axis=1)
    rest /= np.maximum(left, 1e-300)[:, None]
    return Atoms(np.array(values), np.array(errors), np.array(multiplicities, int)), rest


def _error(best: _Cluster, group: tuple[_Cluster, ...], multiplicity: int) -> float:
    """Return how far from ``best.value`` the eigenvalues may be; a gap to the next counts only where it is known."""
    apart = max(abs(c.value - best.value) for c in group)
    if multiplicity > 1:  # each probe sees some mean of them
        return max(c.residual for c in group) + 2 * apart
    return max(best.residual * (best.spread if len(group) > 1 else 1.0), apart)


def _clusters(nodes: np.ndarray, weights: np.ndarray, residuals: np.ndarray, rounding: float) -> list[_Cluster]:
    """Return the converged clusters of one probe, ascending."""
    at = np.flatnonzero(np.isfinite(nodes))
    theta, near = nodes[at], np.maximum(residuals[at], rounding)
    first = np.flatnonzero(np.concatenate([[True], np.diff(theta) > near[1:] + near[:-1] + 20 * rounding]))
    last = np.concatenate([first[1:], [len(at)]])
    found = []
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        below = theta[a] - theta[a - 1] if i else np.inf
        above = theta[b] - theta[b - 1] if b < len(at) else np.inf
        value = float(np.average(theta[a:b], weights=weights[at][a:b] + 1e-300))
        reach = float(near[a:b].max() + theta[b - 1] - theta[a])
        cluster = _Cluster(slice(at[a], at[b - 1] + 1), b - a, value, reach, float(min(below, above)))
        if cluster.spread <= CONVERGED:
            found.append(cluster)
    return found


def _common(clusters: list[list[_Cluster]]) -> list[tuple[_Cluster, ...]]:
    """Return the clusters that are in the same place in all probes, together."""
    if not all(clusters):
        return []
    places = [np.array([c.value for c in row]) for row in clusters]
    found = []
    for first in clusters[0]:
        group = [row[int(np.abs(at - first.value).argmin())] for row, at in zip(clusters, places, strict=True)]
        if all(abs(c.value - first.value) <= AGREE * min(c.gap, first.gap) for c in group):
            found.append(tuple(group))
    return found


def _multiplicity(group: tuple[_Cluster, ...], weights: np.ndarray, crossed: np.ndarray, n: int, eps: float) -> int:
    """Return how many eigenvalues the clusters stand for; 0 when the probes cannot tell."""
    shares = np.array([row[c.nodes].sum() for row, c in zip(weights, group, strict=True)])
    count = min(len(group), crossed.shape[1] + 1)
    overlaps = np.diag(shares[:count])
    for i, cluster in enumerate(group[:count]):
        overlaps[i, :i] = overlaps[:i, i] = crossed[i, :i, cluster.nodes].sum(axis=-1)
    rank = 1
    if count > 1 and not np.isnan(overlaps).any():
        sizes = np.linalg.eigvalsh(overlaps) / shares[:count].sum()
        zero = 4 * max(c.spread for c in group[:count]) + 20 * eps + 4 * max(-sizes[0], 0.0)
        rank = int((sizes > zero).sum())
        if rank == count or (rank > 1 and sizes[-rank] < 100 * zero):
            return 0
    if rank < max(c.size for c in group):  # the basis is orthogonal: each node has a vector of its own
        return 0
    chance = stats.chi2.cdf(n * shares.sum(), rank * len(group))
    return rank if CHANCE <= chance <= 1 - CHANCE or (rank == 1 and chance < CHANCE) else 0
