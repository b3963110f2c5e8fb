"""Overlaps of subspaces, and shares of vectors inside one, beside what chance gives."""

from __future__ import annotations

import numpy as np

from landscape.plots.scales import Axis, text, typeset
from landscape.plots.sheets import Bars, Curve, Curves, Matrix, Panel, Reference, Sheet
from landscape.plots.style import BLUE, GREEN, MUTED, PALETTE, check_size
from landscape.plots.titles import heading, shorten
from landscape.plots.views.estimate import whole_numbers
from landscape.plots.views.series import in_order
from landscape.results import SubspaceResult

_MOST_NUMBERS, _MOST_CURVES = 10, 6
_SMALL = 0.1


def subspace(result: SubspaceResult, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw a matrix of overlaps, the principal angles of one pair, or shares inside the first directions."""
    dims = f"{result.k} of {result.n:,} dimensions"
    if "share" in result.dataset:
        panels, what = _shares(result), f"Share inside a subspace of {dims}"
    elif np.ndim(result.overlap) == 0:
        panels, what = [_angles(result)], f"Overlap {text(float(result.overlap))} of two subspaces of {dims}"
    else:
        panels, what = _overlaps(result), f"Overlap of subspaces of {dims}"
    rows = len(panels[0].names) if isinstance(panels[0], Bars) else 10
    default = (4.6 * len(panels) + 2.0, 1.9 + 0.27 * rows)
    widths = [1.0, 1.2] if len(panels) > 1 and isinstance(panels[0], Matrix) else None
    return Sheet(*heading(result, what, title), [[*panels]], check_size(size, default), widths)


def _by_chance(result: SubspaceResult) -> str:
    mean, low, high = (typeset(f"{share:.2g}") for share in (result.baseline, *result.chance()))
    return f"chance: {mean} ({low} to {high})"


def _angles(result: SubspaceResult) -> Panel:
    cosines = np.atleast_1d(result.cosines)
    names = [f"{angle:.1f}°" for angle in np.degrees(np.arccos(cosines))]
    nothing = np.full(len(cosines), np.nan)
    return Bars(
        names,
        cosines**2,
        nothing,
        nothing,
        Axis(f"squared cosine; the line is their mean, the overlap\n{_by_chance(result)}", limits=(0.0, 1.02)),
        references=[Reference(float(result.overlap), along="x")],
        title="Principal angles",
    )


def _overlaps(result: SubspaceResult) -> list[Panel | None]:
    """Return the matrix of all pairs, and along a sequence the overlap with the first and with the one before."""
    values = np.asarray(result.overlap)
    sides = [
        [str(name) for name in result.dataset[dim].to_numpy()] if dim in result.dataset["overlap"].dims else [""]
        for dim in ("row", "column")
    ]
    table = values.reshape(len(sides[0]), len(sides[1]))
    rows, columns = (_some([shorten(name, 18) for name in side]) for side in sides)
    blank = np.zeros(table.shape, bool)
    matrix = Matrix(table, rows, columns, 0.0, 1.0, "overlap (mean squared cosine)", blank, blank,
                    max(table.shape) <= _MOST_NUMBERS, "All pairs", _by_chance(result), ramp="share")  # fmt: skip
    if sides[0] != sides[1] or len(rows) < 3:
        return [matrix]
    places = np.arange(1, len(rows) + 1)
    marker = "circle" if len(rows) <= 60 else ""
    low, high = result.chance()
    chance = Curve(
        places[[0, -1]], np.full(2, result.baseline), "chance, 95 % of it", MUTED, line="dash",
        low=np.full(2, low), high=np.full(2, high),
    )  # fmt: skip
    along = Curves(
        in_order(sides[0], "subspace"),
        Axis("overlap", limits=(-0.03, 1.03)),
        [
            Curve(places, table[0], "with the first", BLUE, marker=marker),
            Curve(places[1:], np.diagonal(table, 1), "with the one before", GREEN, marker=marker),
            chance,
        ],
        title="In the order given",
    )
    return [matrix, along]


def _some(names: list[str]) -> list[str]:
    """Return as many of the names as can be read, evenly, and blanks."""
    stride = int(np.ceil(len(names) / _MOST_NUMBERS))
    return [name if i % stride == 0 else "" for i, name in enumerate(names)]


def _share_axis(label: str, shares: np.ndarray) -> Axis:
    """Return an axis from 0 to 1, or a logarithmic one where all shares are small."""
    if shares.max() < _SMALL and shares.min() > 0:
        return Axis(label, "log")
    return Axis(label, limits=(-0.03, 1.03))


def _shares(result: SubspaceResult) -> list[Panel | None]:
    """Return shares inside the first directions, and of many vectors in their order the share inside all."""
    cumulative = np.atleast_2d(result.cumulative)
    names = [str(n) for n in result.dataset["vector"].to_numpy()] if "vector" in result.dataset.coords else [""]
    places = np.arange(1, result.k + 1)
    chosen = np.unique(np.linspace(0, len(names) - 1, _MOST_CURVES).round().astype(int))
    marker = "circle" if result.k <= 40 else ""
    curves = [
        Curve(places, cumulative[i], shorten(names[i], 20), PALETTE[j % len(PALETTE)], marker=marker)
        for j, i in enumerate(chosen)
    ]
    alone = "circle" if result.k == 1 else ""
    curves.append(Curve(places, places / result.n, "chance", MUTED, line="dash", marker=alone))
    inside = Curves(
        Axis("number of directions", limits=(0.6, result.k + 0.4), ticks=whole_numbers(result.k)),
        _share_axis("share of |g|² inside them", cumulative),
        curves,
        title="Inside the first directions",
        note=_by_chance(result),
    )
    if len(names) <= _MOST_CURVES:
        return [inside]
    low, high = result.chance()
    order = np.arange(1, len(names) + 1)
    along = Curves(
        in_order(names, "vector"),
        _share_axis(f"share inside all {result.k}", cumulative[:, -1]),
        [
            Curve(order, cumulative[:, -1], "", BLUE, marker="circle" if len(order) <= 60 else ""),
            Curve(order[[0, -1]], np.full(2, result.baseline), "chance, 95 % of it", MUTED, line="dash",
                  low=np.full(2, low), high=np.full(2, high)),
        ],
        title="In the order given",
    )  # fmt: skip
    return [inside, along]
