"""A spectral density: smoothed, and as the cumulative share that needs no smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis, Symlog, symlog_axis
from landscape.plots.sheets import Curve, Curves, Panel, Reference, Sheet
from landscape.plots.style import BLUE, GREEN, check_size
from landscape.plots.titles import heading
from landscape.results import SpectralDensity

BULK = 0.9  # the share of the eigenvalues that the linear part of the axis holds
_QUANTITIES = ("density", "cumulative", "counts")
_CELLS = 3000
_CHUNK = 4_000_000  # numbers held at once while the density is evaluated


def density(
    result: SpectralDensity,
    quantity: str | None = None,
    *,
    width: float | None = None,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Sheet:
    """Draw ``"density"``, ``"cumulative"`` or ``"counts"``; without a name the first two.

    ``width`` is one smoothing width for every node, in units of the eigenvalues; by default each node
    has its own.
    """
    if quantity is not None and quantity not in _QUANTITIES:
        raise InputError(
            "a spectral density has no such quantity", got=quantity, fix=f"use one of {', '.join(_QUANTITIES)}, or none"
        )
    if width is not None and not (np.isfinite(width) and width > 0):
        raise InputError("width must be positive", got=width, fix="leave it out for each node's own width")
    axis = eigenvalue_axis(result)
    panels: list[Panel | None] = []
    if quantity in (None, "density"):
        above = replace(axis, label="") if quantity is None else axis  # the panel below names the axis of both
        panels.append(replace(_density(result, axis, width), x=above))
    if quantity in (None, "cumulative"):
        panels.append(_cumulative(result, axis))
    if quantity == "counts":
        panels.append(_counts(result, axis))
    probes = result.dataset.sizes["probe"]
    what = f"Spectral density of {result.n:,} eigenvalues ({probes} probe{'s' if probes > 1 else ''})"
    return Sheet(*heading(result, what, title), [[p] for p in panels], check_size(size, (8.5, 3.2 * len(panels) + 0.8)))


def eigenvalue_axis(result: SpectralDensity) -> Axis:
    """Return an axis on which the bulk of the eigenvalues and the outliers can both be seen."""
    units = str(result.dataset["nodes"].attrs.get("units", ""))
    label = f"eigenvalue λ ({units})" if units else "eigenvalue λ"
    reach = 3 * np.nan_to_num(result.widths)
    low, high = float(np.nanmin(result.nodes - reach)), float(np.nanmax(result.nodes + reach))
    largest = max(abs(low), abs(high))
    threshold = max(bulk_edge(result), largest * 1e-6)
    if largest == 0 or largest / threshold < 5:
        margin = 0.04 * (high - low) or 0.05 * max(largest, 1.0)
        return Axis(label, limits=(low - margin, high + margin))
    note = f"linear within ±{threshold:.2g} (at least {BULK:.0%} of the eigenvalues), logarithmic beyond"
    return symlog_axis(f"{label}\n{note}", threshold, min(low, -threshold), max(high, threshold))


def bulk_edge(result: SpectralDensity) -> float:
    """Return the size that ``BULK`` of the eigenvalues do not exceed."""
    sizes, weights = np.abs(result.nodes).ravel(), result.weights.ravel()
    keep = np.isfinite(sizes) & (weights > 0)
    order = np.argsort(sizes[keep])
    mass = np.cumsum(weights[keep][order])
    return float(sizes[keep][order][np.searchsorted(mass, BULK * mass[-1])])


def node_grid(result: SpectralDensity, axis: Axis, width: float | None) -> np.ndarray:
    """Return eigenvalues that are even along the axis and dense around every node."""
    assert axis.limits is not None
    scale = axis.scale if isinstance(axis.scale, Symlog) else None
    start, end = axis.place(axis.limits)
    keep = np.isfinite(result.nodes)
    nodes = result.nodes[keep][:, None]
    widths = result.widths[keep][:, None] if width is None else np.full_like(nodes, width)
    around = (nodes + widths * np.linspace(-4, 4, 17)).ravel()
    places = np.concatenate([np.linspace(start, end, 600), axis.place(around)])
    cell = (end - start) / _CELLS
    places = np.unique(np.round((places - start) / cell)) * cell + start
    places = places[(places >= start) & (places <= end)]
    return scale.inverse(places) if scale else places


def _in_chunks(result: SpectralDensity, grid: np.ndarray, width: float | None) -> tuple[np.ndarray, ...]:
    """Return mean, low and high of the density on ``grid`` without holding grid times nodes at once."""
    step = max(50, _CHUNK // result.nodes.size)
    parts = []
    for first in range(0, len(grid), step):
        left, right = max(first - 1, 0), min(first + step + 1, len(grid))
        if right - left < 2:
            left = right - 2
        piece, inner = grid[left:right], slice(first - left, min(first + step, len(grid)) - left)
        low, high = result.bands(piece, width=width)
        parts.append((result.density(piece, width=width)[inner], low[inner], high[inner]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _shares_in_chunks(result: SpectralDensity, grid: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean, low and high of the cumulative share."""
    pieces = np.array_split(grid, max(1, int(np.ceil(len(grid) * result.nodes.size / _CHUNK))))
    parts = [(result.cdf(piece), *result.bands(piece, cumulative=True)) for piece in pieces if len(piece)]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def atom_floor(result: SpectralDensity, grid: np.ndarray, axis: Axis, width: float | None) -> float:
    """Return the height of one single eigenvalue (mass 1/n) where it is drawn lowest, outside the bulk."""
    keep = np.isfinite(result.nodes)
    nodes = result.nodes[keep]
    widths = result.widths[keep] if width is None else np.full_like(nodes, width)
    cells = np.interp(nodes, grid, np.gradient(grid))
    spread = np.maximum(cells, widths * np.sqrt(2 * np.pi))
    edge = axis.scale.threshold if isinstance(axis.scale, Symlog) else 0.0
    outside = np.abs(nodes) > edge
    spread = spread[outside] if outside.any() else spread
    return float(1.0 / (result.n * spread.max()))


def _density(result: SpectralDensity, axis: Axis, width: float | None) -> Curves:
    grid = node_grid(result, axis, width)
    mean, low, high = _in_chunks(result, grid, width)
    atom = atom_floor(result, grid, axis, width)
    floor, top = atom / 5, float(mean.max()) * 3
    smoothing = f"width {width:.3g}" if width is not None else "each node's own width"
    band = not np.isnan(low).all()
    curve = Curve(
        grid,
        np.maximum(mean, floor / 10),
        colour=BLUE,
        low=np.maximum(low, floor / 10) if band else None,
        high=np.maximum(high, floor / 10) if band else None,
    )
    return Curves(
        axis,
        Axis("density (share per unit of λ)", "log", (floor, max(top, floor * 10))),
        [curve],
        [Reference(0.0, along="x"), Reference(atom, "height of one eigenvalue")],
        title="Smoothed",
        note=f"mean over probes ({smoothing})" + (", 95 % band" if band else ""),
    )


def _steps(result: SpectralDensity, axis: Axis) -> np.ndarray:
    """Return every node with the value just below it, so that the jumps of a cumulative share are upright."""
    assert axis.limits is not None
    nodes = np.unique(result.nodes[np.isfinite(result.nodes)])
    if len(nodes) > _CELLS:
        nodes = np.unique(nodes[np.linspace(0, len(nodes) - 1, _CELLS).astype(int)])
    return np.unique(np.concatenate([[axis.limits[0]], np.nextafter(nodes, -np.inf), nodes, [axis.limits[1]]]))


def _cumulative(result: SpectralDensity, axis: Axis) -> Curves:
    grid = _steps(result, axis)
    share, low, high = _shares_in_chunks(result, grid)
    band = not np.isnan(low).all()
    return Curves(
        axis,
        Axis("share of eigenvalues at or below λ", limits=(-0.03, 1.03)),
        [
            Curve(
                grid,
                share,
                colour=GREEN,
                low=low if band else None,
                high=np.minimum(high, 1.0) if band else None,
            )
        ],
        [Reference(0.0, along="x")],
        title="Cumulative, without smoothing",
        note="mean over probes" + (", 95 % band" if band else ""),
    )


def _counts(result: SpectralDensity, axis: Axis) -> Curves:
    grid = _steps(result, axis)
    share, _, _ = _shares_in_chunks(result, grid)
    beyond = result.n * np.where(grid < 0, share, 1.0 - share)
    return Curves(
        axis,
        Axis("number of eigenvalues further from 0 than λ", "log", (0.3, result.n * 1.5)),
        [Curve(grid, np.maximum(beyond, 1e-3), colour=GREEN)],
        [Reference(0.0, along="x"), Reference(1.0, "one eigenvalue")],
        title="Counted from the ends, without smoothing",
        note="mean over probes",
    )
