"""Colours and contour levels: one scale for one surface, or for several that are to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import even_values, is_wide, log_ticks, text


@dataclass(frozen=True)
class Levels:
    """A map from values to the count that colours are drawn in, with the levels in that count."""

    low: float
    high: float
    levels: np.ndarray
    ticks: dict[float, str]
    log: bool
    ladder: np.ndarray | None = None

    def place(self, values: Any) -> np.ndarray:
        """Return ``values`` in the count of the colours; NaN stays NaN."""
        array = np.asarray(values, float)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                array = np.log10(array)
        if self.ladder is None:
            return array
        steps = np.arange(len(self.ladder), dtype=float)
        return np.where(np.isfinite(array), np.interp(array, self.ladder, steps), np.nan)


def make_levels(values: Any, levels: Any, log: Any, limits: Any) -> Levels:
    """Choose levels for all ``values`` together.

    Parameters
    ----------
    values : array
        Every value that will be drawn.
    levels : int, sequence of float or None
        About how many levels, or the levels themselves.
    log : "auto", True or False
        Whether levels are even in the logarithm; "auto" when the values span more than a decade.
    limits : (low, high) or None
        The range of the colours; values outside take the colours of the ends.
    """
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    by_hand = _check_levels(levels)
    low, high = _range(finite, by_hand, limits)
    use_log = _check_log(log, low, high, finite, limits is not None or by_hand is not None)
    if by_hand is not None:
        ladder = np.log10(by_hand) if use_log else by_hand
        places = np.arange(len(by_hand), dtype=float)
        ticks = {float(p): text(float(v)) for p, v in zip(places, by_hand, strict=True)}
        return Levels(0.0, float(places[-1]), places, ticks, use_log, ladder)
    about = levels if isinstance(levels, int) else 14
    if use_log:
        bottom, top = np.log10(low), np.log10(high)
        found = np.linspace(bottom, top, about + 1) if top > bottom else np.array([bottom, bottom + 1e-3])
        ticks = {float(np.log10(v)): text(float(v)) for v in log_ticks(low, high)}
        return Levels(float(found[0]), float(found[-1]), found, ticks, True)
    found = even_values(low, high, about)
    if limits is not None:
        found = np.linspace(low, high, about + 1)
    ticks = {float(v): text(float(f"{v:.6g}")) for v in found[:: max(1, len(found) // 8)]}
    return Levels(float(found[0]), float(found[-1]), found, ticks, False)


def _check_levels(levels: Any) -> np.ndarray | None:
    if levels is None:
        return None
    if isinstance(levels, int) and not isinstance(levels, bool):
        if 1 <= levels <= 200:
            return None
    elif isinstance(levels, Sequence | np.ndarray) and not isinstance(levels, str):
        try:
            found = np.asarray(levels, float)
        except (TypeError, ValueError):
            found = np.array([])
        if found.ndim == 1 and len(found) >= 2 and np.isfinite(found).all() and (np.diff(found) > 0).all():
            return found
    raise InputError(
        "levels must be a number from 1 to 200, or at least two increasing values",
        got=levels,
        fix="pass for example levels=20 or levels=[0.1, 0.2, 0.5, 1]",
    )


def check_limits(limits: Any) -> tuple[float, float] | None:
    """Return ``limits`` as (low, high), or None."""
    if limits is None:
        return None
    try:
        low, high = (float(end) for end in limits)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            "limits must be a pair (low, high) of values", got=limits, fix="pass for example limits=(0, 5)"
        )
    return low, high


def _range(finite: np.ndarray, by_hand: np.ndarray | None, limits: Any) -> tuple[float, float]:
    pair = check_limits(limits)
    if by_hand is not None:
        return float(by_hand[0]), float(by_hand[-1])
    if pair is not None:
        return pair
    if len(finite) == 0:
        return 0.0, 1.0
    return float(finite.min()), float(finite.max())


def _check_log(log: Any, low: float, high: float, finite: np.ndarray, given: bool) -> bool:
    if isinstance(log, str) and log == "auto":
        return is_wide([low, high]) and (given or is_wide(finite))
    if not isinstance(log, bool):
        raise InputError('log must be "auto", True or False', got=log, fix='use log="auto"')
    if log and low <= 0:
        raise InputError(
            "a logarithmic scale needs positive values",
            got=f"values from {low:g}",
            fix="pass log=False, or limits=(low, high) with low above 0",
        )
    return log
