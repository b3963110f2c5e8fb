"""Which eigenvalues are wanted, and on which side of each those would lie that are wanted more."""

from __future__ import annotations

import numpy as np

KINDS = ("LA", "SA", "LM", "BE")


def order(values: np.ndarray, which: str) -> np.ndarray:
    """Return indices of ascending ``values``, most wanted first; for ``"BE"`` high and low in turn."""
    ascending = np.arange(len(values))
    if which == "LA":
        return ascending[::-1]
    if which == "SA":
        return ascending
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    both = np.empty_like(ascending)
    both[0::2] = ascending[::-1][: (len(values) + 1) // 2]
    both[1::2] = ascending[: len(values) // 2]
    return both


def shown(values: np.ndarray, which: str) -> np.ndarray:
    """Return indices of ``values`` in the order of a result: for ``"BE"`` from high to low."""
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    return np.argsort(values if which == "SA" else -values, kind="stable")


def outward(values: np.ndarray, which: str) -> np.ndarray:
    """Return for each of the wanted ``values``, as ordered by :func:`order`, the sign of where more wanted ones lie."""
    if which == "LM":
        return np.where(values < 0, -1.0, 1.0)
    if which == "BE":
        return np.where(np.arange(len(values)) % 2 == 0, 1.0, -1.0)
    return np.full(len(values), -1.0 if which == "SA" else 1.0)
