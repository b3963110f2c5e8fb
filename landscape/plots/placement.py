"""Where words can stand without covering data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from landscape.plots.scales import Axis
from landscape.plots.sheets import Curve, Curves

_BETWEEN = 8  # points looked at on each piece of a line
_FEW = 400
_LINE = 0.09  # the height of a line of words, as a share of the panel's
_LETTER = 0.009  # the width of a letter


def quiet_corner(panel: Curves) -> str:
    """Return the corner of the panel with the fewest points in it."""
    side, top = quiet_box(panel, 0.5, 0.3, between=0)
    return f"{'top' if top == 1.0 else 'bottom'} {side}"


def quiet_box(
    panel: Curves, across: float, up: float, *, between: int = 3, letter: float = _LETTER
) -> tuple[str, float]:
    """Return at which side, and with its top how high (0 to 1), a box of that size covers the fewest points.

    Corners come first, then as many places ``between`` them. ``letter`` is how wide one is, as a share of the width.
    """
    shown = np.concatenate([cloud(panel), _marks(panel, letter), *_bands(panel)])
    tops = np.linspace(1.0, min(up, 1.0), between + 2)
    crowd = {}
    for top in (tops[0], tops[-1], *tops[1:-1]):
        for side in ("right", "left"):
            near_x = shown[:, 0] > 1 - across if side == "right" else shown[:, 0] < across
            near_y = (shown[:, 1] > top - up - 0.01) & (shown[:, 1] < top + 0.01)
            crowd[side, float(top)] = int((near_x & near_y).sum())
    return min(crowd, key=lambda spot: crowd[spot])


def reach_of(panel: Curves) -> tuple[float, float] | None:
    """Return how far the y axis may reach, so that single error bars far larger than the rest do not flatten it."""
    values = np.concatenate([c.y[np.isfinite(c.y)] for c in panel.curves] or [np.array([])])
    if len(values) < 2:
        return None
    bars = [c.high - c.low for c in panel.curves if c.interval == "bars" and c.low is not None and c.high is not None]
    lengths = np.concatenate([bar[np.isfinite(bar)] for bar in bars] or [np.array([])])
    reach = (values.max() - values.min()) or abs(values.max()) or 1.0
    reach = 1.5 * max(reach, float(np.median(lengths)) if len(lengths) else 0.0)
    return float(values.min() - reach), float(values.max() + reach)


def quiet_spot(panel: Curves, value: float, length: float) -> tuple[float, str, str]:
    """Return where on the horizontal line at ``value`` words of ``length`` (a share of the width) cover least.

    The answer is a place along the width (0 to 1), what part of the words stands there ("left", "center" or
    "right"), and whether they stand "above" or "below" the line.
    """
    shown = np.concatenate([cloud(panel), _marks(panel)])
    height = float(_unit(panel.y, np.array([value]), _every(panel))[0])
    length = min(length, 1.0)
    spots = [(1.0, "right"), (0.0, "left")]
    spots += [(float(middle), "center") for middle in np.linspace(1 - length / 2, length / 2, 9)[1:-1]]
    crowd = {}
    for where in ("above", "below"):
        low = height + 0.005 if where == "above" else height - _LINE
        for place, side in spots:
            start = place - {"left": 0.0, "center": length / 2, "right": length}[side]
            inside = (shown[:, 0] > start - 0.02) & (shown[:, 0] < start + length + 0.02)
            inside &= (shown[:, 1] > low - 0.02) & (shown[:, 1] < low + _LINE)
            outside = low < 0.0 or low + _LINE > 1.02
            crowd[place, side, where] = float(inside.sum()) + (1e9 if outside else 0.0)
    return min(crowd, key=lambda spot: crowd[spot])


def cloud(panel: Curves) -> np.ndarray:
    """Return points (x, y) all along what the panel shows, from 0 to 1 between the ends of its axes."""
    every_x, every_y = [c.x for c in panel.curves], _every(panel)
    parts = [np.empty((0, 2))]
    for curve in panel.curves:
        x, y = _unit(panel.x, curve.x, every_x), _unit(panel.y, curve.y, every_y)
        parts.append(_along(x, y) if curve.line else np.stack([x, y], axis=1))
        parts += _bars(panel, curve, x, every_y)
    if panel.path is not None:
        parts.append(_along(_unit(panel.x, panel.path.x), _unit(panel.y, panel.path.y)))
    points = np.concatenate(parts)
    return points[np.isfinite(points).all(axis=1)]


def _bands(panel: Curves) -> list[np.ndarray]:
    """Return points all over the bands, a few on each of many uprights."""
    found = []
    for curve in panel.curves:
        if curve.low is not None and curve.high is not None and curve.interval == "band":
            some = slice(None, None, max(1, len(curve.x) // _FEW))
            ends = replace(curve, x=curve.x[some], low=curve.low[some], high=curve.high[some], interval="bars")
            found += _bars(panel, ends, _unit(panel.x, ends.x, [c.x for c in panel.curves]), _every(panel))
    points = np.concatenate(found) if found else np.empty((0, 2))
    return [points[np.isfinite(points).all(axis=1)]]


def _marks(panel: Curves, letter: float = _LETTER) -> np.ndarray:
    """Return points all along the upright references and the words at their upper ends."""
    every = [c.x for c in panel.curves]
    parts = [np.empty((0, 2))]
    for reference in panel.references:
        if reference.along == "x":
            place = float(_unit(panel.x, np.array([reference.value]), every)[0])
            up = np.linspace(0, 1, 4 * _BETWEEN)
            parts.append(np.stack([np.full(len(up), place), up], axis=1))
            words = place + letter * np.arange(len(reference.text))
            parts.append(np.stack([words, np.full(len(words), 1 - _LINE / 2)], axis=1))
    points = np.concatenate(parts)
    return points[np.isfinite(points).all(axis=1) & (points[:, 0] >= 0) & (points[:, 0] <= 1)]


def _every(panel: Curves) -> list[np.ndarray]:
    return [np.asarray(c.y, float) for c in panel.curves]


def _along(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return points on the lines between (x, y) as well, where those are few."""
    if not 1 < len(x) <= _FEW:
        return np.stack([x, y], axis=1)
    fine = np.linspace(0, len(x) - 1, (len(x) - 1) * _BETWEEN + 1)
    rank = np.arange(len(x))
    return np.stack([np.interp(fine, rank, x), np.interp(fine, rank, y)], axis=1)


def _bars(panel: Curves, curve: Curve, x: np.ndarray, every_y: list[np.ndarray]) -> list[np.ndarray]:
    """Return points along the error bars of ``curve``."""
    if curve.low is None or curve.high is None or curve.interval != "bars" or len(x) > _FEW:
        return []
    low, high = (_unit(panel.y, ends, every_y) for ends in (curve.low, curve.high))
    shares = np.linspace(0, 1, _BETWEEN)[:, None]
    heights = low + shares * (high - low)
    return [np.stack([np.broadcast_to(x, heights.shape).ravel(), heights.ravel()], axis=1)]


def _unit(axis: Axis, values: np.ndarray, every: list[np.ndarray] | None = None) -> np.ndarray:
    """Return where ``values`` lie between the ends of the axis, 0 to 1; NaN compares as nowhere."""

    def scaled(array: Any) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(array) if axis.scale == "log" else axis.place(array)

    places = scaled(np.asarray(values, float))
    whole = scaled(np.concatenate(every)) if every else places
    ends = scaled(np.asarray(axis.limits, float)) if axis.limits is not None else whole[np.isfinite(whole)]
    if len(ends) == 0 or ends.max() == ends.min():
        return np.full(len(places), 0.5)
    return (places - ends.min()) / (ends.max() - ends.min())
