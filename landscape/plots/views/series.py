"""The series of a recorded run, read out of its dataset, and the axis of things in an order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from landscape.plots.scales import Axis, even_values
from landscape.plots.titles import shorten
from landscape.results.recording import Recording

_GOOD = ("converged", "complete", "")
_POINTS = 2000  # more than a screen is wide
_WINDOWS = 150
_FITTING = 60  # letters of names along an axis


@dataclass(frozen=True)
class Series:
    """Values over steps; ``metric`` names the scheduled metric, None for what every step gives."""

    steps: np.ndarray
    values: np.ndarray
    good: np.ndarray
    metric: str | None


def read_series(result: Recording) -> dict[str, Series]:
    """Return every numeric variable over steps, infinities as NaN."""
    found = {}
    for key, variable in result.dataset.data_vars.items():
        name = str(key)
        if not variable.dims or variable.dtype.kind not in "fiu":
            continue
        dim = str(variable.dims[0])
        metric = dim.removesuffix("_step") if dim != "step" else None
        steps = result.dataset[dim].to_numpy()
        values = variable.to_numpy().astype(float)
        good = np.ones(len(steps), dtype=bool)
        if metric is not None and f"{metric}_status" in result.dataset:
            good = np.isin(result.dataset[f"{metric}_status"].to_numpy().astype(str), _GOOD)
        found[name] = Series(steps, np.where(np.isfinite(values), values, np.nan), good, metric)
    return found


def medians(series: Series) -> tuple[np.ndarray, np.ndarray, int]:
    """Return centres and medians of consecutive windows of finite values, and the windows' length."""
    keep = np.isfinite(series.values)
    steps, values = series.steps[keep].astype(float), series.values[keep]
    window = max(5, len(values) // _WINDOWS)
    whole = len(values) // window * window
    x = steps[:whole].reshape(-1, window).mean(axis=1)
    y = np.median(values[:whole].reshape(-1, window), axis=1)
    if whole < len(values):
        x = np.append(x, steps[whole:].mean())
        y = np.append(y, np.median(values[whole:]))
    return x, y, window


def thin(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a line of few points that keeps the lowest and highest value of every stretch of steps."""
    count = len(series.values)
    if count <= 2 * _POINTS:
        return series.steps, series.values
    edges = np.linspace(0, count, _POINTS // 2 + 1).astype(int)
    keep: list[int] = []
    for start, end in pairwise(edges):
        finite = np.flatnonzero(np.isfinite(series.values[start:end])) + start
        if len(finite) < end - start:
            keep.append(int(start + np.flatnonzero(~np.isfinite(series.values[start:end]))[0]))
        if len(finite):
            keep += [int(finite[np.argmin(series.values[finite])]), int(finite[np.argmax(series.values[finite])])]
    order = np.unique(keep)
    return series.steps[order], series.values[order]


def in_order(names: list[str], by: str, *, upright: bool = False) -> Axis:
    """Return an axis over the numbers of the members: their names where they fit, else those of the first and last.

    Along an ``upright`` axis there is room for the first and last in lines of their own only.
    """
    count = len(names)
    limits = (0.4, count + 0.6)
    if sum(len(name) + 2 for name in names) <= _FITTING:
        return Axis(by, limits=limits, ticks={i + 1.0: name for i, name in enumerate(names)})
    stride = max(1, int(even_values(0, count, 8)[1]))
    ticks = {float(i): str(i) for i in [1, *range(stride, count + 1, stride)]}
    first, last = f"1: {shorten(names[0], 20)}", f"{count}: {shorten(names[-1], 20)}"
    words = f"{by}\n{first}\n{last}" if upright else f"{by} ({first}, {last})"
    return Axis(words, limits=limits, ticks=ticks)
