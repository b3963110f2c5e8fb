"""Spectral densities of several members on one axis: as curves, or where they are many as a heat map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landscape.plots.scales import Axis, Symlog, log_ticks, symlog_axis, text
from landscape.plots.sheets import Curve, Curves, Panel, Plane, Reference
from landscape.plots.style import PALETTE, RAMPS
from landscape.plots.titles import shorten
from landscape.plots.views.density import eigenvalue_axis
from landscape.plots.views.series import in_order
from landscape.results import Family, SpectralDensity

CURVES = 8  # more than that cannot be told apart
_BANDS = 3  # bands of more than that hide each other
_POINTS = 800
_UNORDERED = ("operator", "class", "model")
_LABEL = "density (share per unit of λ)"


def densities(result: Family) -> list[Panel]:
    """Return the smoothed densities and the cumulative shares of all members, over one axis of eigenvalues."""
    named: dict[str, SpectralDensity] = result.members
    axis = common_axis([eigenvalue_axis(member) for member in named.values()])
    grid = even_grid(axis)
    heights = np.array([member.density(grid) for member in named.values()])
    cells = np.gradient(grid)
    floor = 1.0 / (max(m.n for m in named.values()) * float(cells.max())) / 3  # a single eigenvalue shows everywhere
    top = max(3.0 * float(heights.max()), 10 * floor)
    colours = colours_of(result)
    if len(named) > CURVES:
        upper: Panel = _heat_map(result, axis, grid, heights, floor, top)
    else:
        upper = _curves(named, axis, grid, heights, colours, (floor, top))
    cumulative = Curves(
        axis,
        Axis("share of eigenvalues at or below λ", limits=(-0.03, 1.03)),
        [
            Curve(grid, member.cdf(grid), shorten(name, 24) if len(named) <= CURVES else "", colour,
                  width=1.6 if len(named) <= CURVES else 0.8)
            for (name, member), colour in zip(named.items(), colours, strict=True)
        ],
        [Reference(0.0, along="x")],
        title="Cumulative",
        note="" if len(named) <= CURVES else "from dark (first) to light (last)",
    )  # fmt: skip
    return [upper, cumulative]


def common_axis(axes: list[Axis]) -> Axis:
    """Return an axis that holds all, linear only where each of them is."""
    low = min(a.limits[0] for a in axes if a.limits is not None)
    high = max(a.limits[1] for a in axes if a.limits is not None)
    bent = [a.scale.threshold for a in axes if isinstance(a.scale, Symlog)]
    label = axes[0].label.split("\n")[0]
    if not bent:
        return Axis(label, limits=(low, high))
    threshold = max(bent)
    words = f"{label}\nlinear within ±{threshold:.2g}, logarithmic beyond"
    return symlog_axis(words, threshold, min(low, -threshold), max(high, threshold))


def even_grid(axis: Axis) -> np.ndarray:
    """Return eigenvalues that are even along the axis."""
    assert axis.limits is not None
    start, end = axis.place(axis.limits)
    places = np.linspace(start, end, _POINTS)
    return axis.scale.inverse(places) if isinstance(axis.scale, Symlog) else places


def colours_of(result: Family) -> list[str]:
    """Return a colour for each member: from dark to light in their order where they have one."""
    count = len(result)
    if result.by in _UNORDERED and count <= len(PALETTE):
        return list(PALETTE[:count])
    ramp = RAMPS["sequential"]
    return [ramp[round(i / max(count - 1, 1) * (len(ramp) - 4))] for i in range(count)]  # without the lightest


def _curves(
    named: dict[str, SpectralDensity],
    axis: Axis,
    grid: np.ndarray,
    heights: np.ndarray,
    colours: list[str],
    limits: tuple[float, float],
) -> Curves:
    lowest = limits[0] / 10
    curves, banded = [], False
    for (name, member), height, colour in zip(named.items(), heights, colours, strict=True):
        curve = Curve(grid, np.maximum(height, lowest), shorten(name, 24), colour)
        low, high = member.bands(grid) if len(named) <= _BANDS else (np.array(np.nan), np.array(np.nan))
        if np.isfinite(low).any():
            curve, banded = replace(curve, low=np.maximum(low, lowest), high=np.maximum(high, lowest)), True
        curves.append(curve)
    return Curves(
        replace(axis, label=""),  # the panel below names the axis of both
        Axis(_LABEL, "log", limits),
        curves,
        [Reference(0.0, along="x")],
        title="Smoothed",
        note="95 % bands" if banded else "",
    )


def _heat_map(result: Family, axis: Axis, grid: np.ndarray, heights: np.ndarray, floor: float, top: float) -> Plane:
    """Return one row a member, coloured by the logarithm of the density."""
    places = axis.place(grid)
    if isinstance(axis.scale, Symlog):
        ticks = {float(axis.place(value)): words for value, words in axis.ticks.items()}
        across = Axis(axis.label, limits=(float(places[0]), float(places[-1])), ticks=ticks)
    else:
        across = axis
    low, high = float(np.log10(floor)), float(np.log10(top))
    blank = np.zeros(heights.shape, bool)
    return Plane(
        places,
        np.arange(1.0, len(result) + 1),
        heights,
        np.log10(np.maximum(heights, floor)),
        low,
        high,
        np.linspace(low, high, 15),
        {float(np.log10(v)): text(float(v)) for v in log_ticks(floor, top)},
        across,
        in_order(list(result.members), result.by, upright=True),
        _LABEL,
        blank,
        blank,
        filled=False,
        centre=False,
        title="Smoothed",
        equal=False,
    )
