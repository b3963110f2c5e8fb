"""Spectral densities of several members on one axis: as curves, or where they are many as a heat map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landscape.plots.scales import Axis, Symlog, log_ticks, symlog_axis, text
from landscape.plots.sheets import Curve, Curves, Panel, Plane, Reference
from landscape.plots.style import LINE, PALETTE, RAMPS, THIN
from landscape.plots.titles import shorten
from landscape.plots.views.density import FLOOR, eigenvalue_axis, one_eigenvalue, smoothed, stems
from landscape.plots.views.series import in_order
from landscape.results import Family, SpectralDensity

CURVES = 8  # more than that cannot be told apart
BANDS = 3  # bands of more than that hide each other
_POINTS = 800
_UNORDERED = ("operator", "class", "model")
_LABEL = "density (share per unit of λ)"


def densities(result: Family) -> list[Panel]:
    """Return the smoothed densities and the cumulative shares of all members, over one axis of eigenvalues."""
    named: dict[str, SpectralDensity] = result.members
    axis = common_axis([eigenvalue_axis(member) for member in named.values()])
    grid = even_grid(axis)
    colours = colours_of(result)
    few = len(named) <= CURVES
    upper = _curves(named, axis, colours) if few else _heat_map(result, axis, grid)
    cumulative = Curves(
        axis,
        Axis("share of eigenvalues at or below λ", limits=(-0.03, 1.03)),
        [
            Curve(grid, member.cdf(grid), shorten(name, 24), colour, width=LINE if few else THIN)
            for (name, member), colour in zip(named.items(), colours, strict=True)
        ],
        [Reference(0.0, along="x")],
        title="Cumulative",
        note="" if few else "from dark (first) to light (last)",
        legend=False,
    )
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
    return symlog_axis(label, threshold, min(low, -threshold), max(high, threshold), margin=0.0)


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
    ramp = ramp[4:-3]  # without the darkest and the lightest, which a dark or a light ground would hide
    return [ramp[round(i / max(count - 1, 1) * (len(ramp) - 1))] for i in range(count)]


def _curves(named: dict[str, SpectralDensity], axis: Axis, colours: list[str]) -> Curves:
    """Return what each member's own figure shows, in one panel."""
    ones = [one_eigenvalue(member, axis, None) for member in named.values()]
    floor, band = min(ones) / FLOOR, len(named) <= BANDS
    curves, alone = [], []
    for (name, member), one, colour in zip(named.items(), ones, colours, strict=True):
        curves.append(smoothed(member, axis, None, floor, colour, shorten(name, 24), band=band))
        alone += stems(member, one, floor / 10, colour)
    top = 3 * max(float(np.nanmax(curve.y)) for curve in [*curves, *alone])
    notes = ["dots: resolved eigenvalues, 1/n each"] if alone else []
    notes += ["95 % bands"] if any(curve.low is not None for curve in curves) else []
    return Curves(
        replace(axis, label=""),  # the panel below names the axis of both
        Axis(_LABEL, "log", (floor, top)),
        [*curves, *alone],
        [Reference(0.0, along="x")],
        title="Smoothed",
        note=", ".join(notes),
    )


def _heat_map(result: Family, axis: Axis, grid: np.ndarray) -> Plane:
    """Return one row a member, coloured by the logarithm of the density."""
    heights = np.array([member.density(grid) for member in result.members.values()])
    cells = np.gradient(grid)
    floor = 1.0 / (max(m.n for m in result.members.values()) * float(cells.max())) / 3  # a single eigenvalue shows
    top = max(3.0 * float(heights.max()), 10 * floor)
    places = axis.place(grid)
    if isinstance(axis.scale, Symlog):
        ticks = {float(axis.place(value)): words for value, words in axis.ticks.items()}
        across = Axis("", limits=(float(places[0]), float(places[-1])), ticks=ticks)
    else:
        across = replace(axis, label="")  # the panel below names the axis of both
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
