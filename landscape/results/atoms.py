"""Single eigenvalues among the nodes of quadratures: found by every probe, and proven to be simple."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONVERGED = 1e-3  # the largest residual of a node that is taken for an eigenvalue, in gaps to the next node
AGREE = 0.02  # how far apart the probes may see it, in gaps
CHANCE = 1e-3  # of a weight as large as the one seen, below which a lone probe's value is not taken for simple


@dataclass(frozen=True)
class Atoms:
    """Eigenvalues that the quadratures have resolved, each one of n: its share of all is exactly 1/n.

    Attributes
    ----------
    values : numpy.ndarray
        Ascending, shape (k,).
    errors : numpy.ndarray
        How far from the truth each may be, shape (k,): the spread over probes, or the bound by the Ritz residual.
    mass : float
        The share of each, 1/n.
    """

    values: np.ndarray
    errors: np.ndarray
    mass: float

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.values)


def separate(
    nodes: np.ndarray, weights: np.ndarray, residuals: np.ndarray, crossed: np.ndarray, n: int, eps: float
) -> tuple[Atoms, np.ndarray]:
    """Return the resolved eigenvalues, and the weights (probes, steps) of all the rest, each row of sum 1.

    A node becomes an atom when every probe has it, converged, at the same place, and it is simple. For a
    simple eigenvalue the Ritz vectors of all probes are the same, so the weight that one probe's Ritz vector has
    in the start of another (``crossed``) is the weight that the other has found there. For a multiple one they
    are different vectors of its space, and the weights differ. One probe alone cannot tell; its value is then
    taken for simple unless its weight is too large for one: n times it is a squared normal variable.
    """
    gaps = _gaps(nodes)
    rounding = 10 * eps * float(np.nanmax(np.abs(nodes)))
    near = np.fmax(residuals, rounding)
    spread = near / gaps
    places = _common(nodes, gaps, np.isfinite(nodes) & (spread <= CONVERGED))
    rows = np.arange(len(nodes))
    places = [at for at in places if _is_simple(weights[rows, at], crossed[rows, at], spread[rows, at], n, eps)]
    rest = weights.copy()
    for at in places:
        rest[rows, at] = 0.0
    left = rest.sum(axis=1)
    if places and len(places) < n and left.min() <= 1e-12:  # counted wrong: something must be left for the others
        places, rest, left = [], weights.copy(), weights.sum(axis=1)
    rest /= np.maximum(left, 1e-300)[:, None]
    values, errors = [], []
    for at in places:
        theta, bound = nodes[rows, at], (near * spread)[rows, at]
        best = int(bound.argmin())
        values.append(float(theta[best]))
        errors.append(max(float(bound[best]), float(theta.std(ddof=1)) if len(theta) > 1 else 0.0, rounding))
    return Atoms(np.array(values), np.array(errors), 1.0 / n), rest


def _gaps(nodes: np.ndarray) -> np.ndarray:
    """Return the distance from each node to the nearest other one of its probe; infinite for one alone."""
    steps = np.diff(nodes, axis=1)
    none = np.full((len(nodes), 1), np.inf)
    left, right = np.concatenate([none, steps], axis=1), np.concatenate([steps, none], axis=1)
    return np.fmin(left, right)


def _common(nodes: np.ndarray, gaps: np.ndarray, converged: np.ndarray) -> list[np.ndarray]:
    """Return the columns, one for each probe, of nodes that are converged and in the same place in all of them."""
    found = []
    others = np.where(converged, nodes, np.inf)
    for j in np.flatnonzero(converged[0]):
        distance = np.abs(others - nodes[0, j])
        at = distance.argmin(axis=1)
        near = distance[np.arange(len(nodes)), at]
        if np.all(near <= AGREE * np.fmin(gaps[np.arange(len(nodes)), at], gaps[0, j])):
            found.append(at)
    return found


def _is_simple(weights: np.ndarray, crossed: np.ndarray, spread: np.ndarray, n: int, eps: float) -> bool:
    """Whether what the probes say of one eigenvalue is compatible with one eigenvector."""
    count = len(weights)
    if stats.chi2.sf(n * weights.sum(), count) < CHANCE:
        return False
    if count == 1 or np.isnan(crossed).any():
        return True
    other = neighbours(count)
    seen, expected = np.sqrt(n * weights[other]), np.sqrt(n * crossed)
    return bool(np.all(np.abs(seen - expected) <= 5 * (spread + spread[other]) + 100 * eps))


def neighbours(count: int) -> np.ndarray:
    """Return for each probe the number of the one whose start its Ritz vectors are compared with."""
    return np.array([1, *range(count - 1)])[:count]
