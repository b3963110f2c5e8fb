"""Where words can stand without covering data."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.plots.scales import Axis
from landscape.plots.sheets import Curves


def quiet_corner(panel: Curves) -> str:
    """Return the corner of the panel with the fewest points in it."""
    shown = [(_unit(panel.x, c.x), _unit(panel.y, c.y, [d.y for d in panel.curves])) for c in panel.curves]
    if panel.path is not None:
        shown.append((_unit(panel.x, panel.path.x), _unit(panel.y, panel.path.y)))
    crowd = {}
    for corner in ("top right", "top left", "bottom right", "bottom left"):
        count = 0.0
        for x, y in shown:
            near_x = x > 0.5 if "right" in corner else x < 0.5
            near_y = y > 0.7 if "top" in corner else y < 0.3
            count += float((near_x & near_y).mean()) if len(x) else 0.0
        crowd[corner] = count
    return min(crowd, key=lambda corner: crowd[corner])


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


def quiet_side(panel: Curves, value: float) -> str:
    """Return the end, "left" or "right", at which fewer points lie near the horizontal line at ``value``."""
    every = [c.y for c in panel.curves]
    crowd = {"right": 0.0, "left": 0.0}
    for curve in panel.curves:
        x = _unit(panel.x, curve.x, [c.x for c in panel.curves])
        y = _unit(panel.y, np.append(curve.y, value), every)
        near = np.abs(y[:-1] - y[-1] - 0.04) < 0.07
        for side, there in (("right", x > 0.6), ("left", x < 0.4)):
            crowd[side] += float((near & there).sum())
    return min(crowd, key=lambda side: crowd[side])
