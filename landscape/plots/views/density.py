"""A spectral density: smoothed, and as the cumulative share that needs no smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis, Symlog, symlog_axis, text, typeset
from landscape.plots.sheets import Curve, Curves, Panel, Reference, Sheet
from landscape.plots.style import BLUE, GREEN, VERMILLION, check_size
from landscape.plots.titles import heading
from landscape.results import SpectralDensity

BULK = 0.9  # the share of the eigenvalues that the linear part of the axis holds
FLOOR = 5.0  # how far below the height of one eigenvalue the axis of densities begins, as a ratio
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

    ``width`` is one smoothing width for everything, in units of the eigenvalues; by default each node
    has its own and single eigenvalues stand as stems.
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
    count = f"{result.n:,} eigenvalue{'s' if result.n > 1 else ''}"
    what = f"Spectral density of {count} ({probes} probe{'s' if probes > 1 else ''})"
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
    inside = f"at least {100 * BULK:.0f} % of the eigenvalues"
    return symlog_axis(label, threshold, min(low, -threshold), max(high, threshold), inside=inside)


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


def smoothed(
    result: SpectralDensity, axis: Axis, width: float | None, floor: float, colour: str, label: str = "", *, band: bool
) -> Curve:
    """Return the density; its band ends where the curve falls below the axis' ``floor``.

    Further down, where no probe has seen anything, the band's upper limit is that of rounding, and level.
    """
    grid = node_grid(result, axis, width)
    mean, low, high = _in_chunks(result, grid, width)
    curve = Curve(grid, np.maximum(mean, floor / 10), label, colour)
    if not band or np.isnan(low).all():
        return curve
    low, high = (np.where(mean >= floor, np.maximum(end, floor / 10), np.nan) for end in (low, high))
    return replace(curve, low=low, high=high)


def _in_chunks(result: SpectralDensity, grid: np.ndarray, width: float | None) -> tuple[np.ndarray, ...]:
    """Return mean, low and high of the density on ``grid`` without holding grid times nodes at once."""
    step = max(50, _CHUNK // result.nodes.size)
    atoms = width is not None
    parts = []
    for first in range(0, len(grid), step):
        left, right = max(first - 1, 0), min(first + step + 1, len(grid))
        if right - left < 2:
            left = right - 2
        piece, inner = grid[left:right], slice(first - left, min(first + step, len(grid)) - left)
        low, high = result.bands(piece, width=width, atoms=atoms)
        parts.append((result.density(piece, width=width, atoms=atoms)[inner], low[inner], high[inner]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _shares_in_chunks(result: SpectralDensity, grid: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean, low and high of the cumulative share."""
    pieces = np.array_split(grid, max(1, int(np.ceil(len(grid) * result.nodes.size / _CHUNK))))
    parts = [(result.cdf(piece), *result.bands(piece, cumulative=True)) for piece in pieces if len(piece)]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def one_eigenvalue(result: SpectralDensity, axis: Axis, width: float | None) -> float:
    """Return the height of one single eigenvalue (mass 1/n) smoothed like most of the others."""
    grid = node_grid(result, axis, width)
    if width is None:
        keep = result.weights > 0
        width = _typical(result.widths[keep], result.weights[keep], 0.5)
    least = float(np.median(np.diff(grid)))
    return float(1.0 / (result.n * max(width * np.sqrt(2 * np.pi), least)))


def _density(result: SpectralDensity, axis: Axis, width: float | None) -> Curves:
    one = one_eigenvalue(result, axis, width)
    floor = one / FLOOR
    curves = [smoothed(result, axis, width, floor, BLUE, band=True)]
    top = 3 * max(float(curves[0].y.max()), one * result.atoms.multiplicities.max(initial=1))
    band = curves[0].low is not None
    references = [Reference(0.0, along="x"), *_outlier_gap(result, axis)]
    if width is not None:
        smoothing = f"width {text(width)}"
        references.append(Reference(one, "height of one eigenvalue"))
    else:
        smoothing = f"each node's own width, {_range_of_widths(result)}"
        curves += stems(result, one, floor / 10, VERMILLION, resolved(result))
    note = smoothing + (", 95 % band" if band else "; one probe, no band")
    return Curves(
        axis,
        Axis("density (share per unit of λ)", "log", (floor, top)),
        curves,
        references,
        title="Smoothed",
        note=note if result.atoms.count < result.n or width is not None else "all are resolved",
    )


def _range_of_widths(result: SpectralDensity) -> str:
    """Return the smoothing widths of most of the mass, in words."""
    keep = result.weights > 0
    ends = (_typical(result.widths[keep], result.weights[keep], share) for share in (0.05, 0.95))
    low, high = (typeset(f"{end:.1g}") for end in ends)
    return low if low == high else f"{low} to {high} for most of the mass"


def _typical(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the value that ``share`` of the weight does not exceed."""
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(mass, share * mass[-1])])


def resolved(result: SpectralDensity) -> str:
    """Return how many eigenvalues stand alone, in words."""
    return f"{result.atoms.count} resolved eigenvalue{'s' if result.atoms.count > 1 else ''}, 1/n each"


def stems(result: SpectralDensity, one: float, bottom: float, colour: str, label: str = "") -> list[Curve]:
    """Return single eigenvalues as thin lines as high as one of them would be if it were smoothed."""
    atoms = result.atoms
    if not len(atoms):
        return []
    heights = one * atoms.multiplicities
    gaps = np.full(len(atoms), np.nan)
    x, y = np.stack([atoms.values, atoms.values, gaps], 1), np.stack([np.full(len(atoms), bottom), heights, gaps], 1)
    return [
        Curve(x.ravel(), y.ravel(), colour=colour, width=1.0, opacity=0.6),
        Curve(atoms.values, heights, label, colour, line="", marker="circle"),
    ]


def _outlier_gap(result: SpectralDensity, axis: Axis) -> list[Reference]:
    """Return a line in the middle of each gap beyond which eigenvalues were counted as outliers."""
    found = []
    for end in ("upper", "lower"):
        outliers = result.outliers(end)
        if outliers.count is not None:
            places = axis.place([outliers.values[-1], outliers.edge]).mean()
            at = axis.scale.inverse(places) if isinstance(axis.scale, Symlog) else places
            words = f"{outliers.count} outlier{'s' if outliers.count > 1 else ''}"
            found.append(Reference(float(at), words, along="x", line="dot"))
    return found


def _places(result: SpectralDensity, axis: Axis) -> np.ndarray:
    """Return a grid with every single eigenvalue and the value just below it, so that their jumps are upright."""
    atoms = result.atoms.values
    return np.unique(np.concatenate([node_grid(result, axis, None), np.nextafter(atoms, -np.inf), atoms]))


def _cumulative(result: SpectralDensity, axis: Axis) -> Curves:
    grid = _places(result, axis)
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
                high=high if band else None,
            )
        ],
        [Reference(0.0, along="x")],
        title="Cumulative",
        note="no bandwidth to choose" + (", 95 % band" if band else ""),
    )


def _counts(result: SpectralDensity, axis: Axis) -> Curves:
    grid = _places(result, axis)
    share, _, _ = _shares_in_chunks(result, grid)
    beyond = result.n * np.where(grid < 0, share, 1.0 - share)
    return Curves(
        axis,
        Axis("eigenvalues further from 0 than λ", "log", (0.3, result.n * 1.5)),
        [Curve(grid, np.maximum(beyond, 1e-3), colour=GREEN)],
        [Reference(0.0, along="x"), Reference(1.0, "one eigenvalue")],
        title="Counted from the ends",
        note="no bandwidth to choose; mean over probes",
    )
