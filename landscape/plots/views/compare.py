"""Several surfaces side by side, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.plots.sheets import Panel, Plane, Sheet
from landscape.plots.style import check_size
from landscape.plots.titles import SEPARATOR, origin
from landscape.plots.views.levels import make_levels
from landscape.plots.views.surface import (
    KINDS,
    aspect,
    automatic,
    check_metric,
    label_of,
    line_panel,
    plane_of,
    space_of,
    values_of,
)
from landscape.results import Surface


def comparison(
    surfaces: Mapping[str, Surface],
    metric: str | None = None,
    *,
    kind: str = "contour",
    limits: tuple[float, float] | None = None,
    levels: Any = None,
    log: Any = "auto",
    columns: int | None = None,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Sheet:
    """Lay planes out as small multiples with one colour scale and the same levels; lines share one panel.

    ``kind="surface"`` raises them in three dimensions, all to the same heights.
    """
    named = check_surfaces(surfaces)
    first = next(iter(named.values()))
    metric = metric or first.metrics[0]
    for result in named.values():
        check_metric(result, metric)
    what = title if title is not None else f"{label_of(first, metric).capitalize()}, {len(named)} compared"
    below = _common_origin(named)
    if "y" not in first.dataset.dims:
        panel = line_panel(named, metric, limits, log, "")
        return Sheet(what, below, [[panel]], check_size(size, (7.8, 4.8)))
    if kind not in KINDS:
        raise InputError("a surface is drawn in one of three ways", got=kind, fix=f"use one of {', '.join(KINDS)}")
    everything = np.concatenate([values_of(r, metric).ravel() for r in named.values()])
    scale = make_levels(everything, levels, automatic(metric, log), limits)
    across = _columns(columns, len(named))
    flat = {
        name: plane_of(r, metric, scale, filled=kind == "contour", title=_name(name, r), own_scale=False)
        for name, r in named.items()
    }
    high = kind == "surface"
    planes: list[Panel | None] = [
        space_of(named[name], metric, plane, scale) if high else plane for name, plane in flat.items()
    ]
    planes += [None] * (-len(planes) % across)
    rows = [planes[i : i + across] for i in range(0, len(planes), across)]
    default = (4.8 * across + 0.9, 4.3 * len(rows) + 0.7) if high else _size(list(flat.values()), across, len(rows))
    return Sheet(what, below, rows, check_size(size, default))


def check_surfaces(surfaces: Any) -> dict[str, Surface]:
    """Refuse anything but a non-empty mapping from names to surfaces of one dimension."""
    good = isinstance(surfaces, Mapping) and surfaces and all(isinstance(r, Surface) for r in surfaces.values())
    if not good:
        raise InputError(
            "a comparison needs named surfaces",
            got=type(surfaces).__name__,
            fix='pass a dictionary such as {"before": a, "after": b}',
        )
    if len({"y" in r.dataset.dims for r in surfaces.values()}) > 1:
        raise InputError(
            "lines cannot be compared with planes",
            got="surfaces over one and over two directions",
            fix="compare those over the same number of directions",
        )
    return {str(name): result for name, result in surfaces.items()}


def _size(planes: list[Plane], across: int, down: int) -> tuple[float, float]:
    """Return a size in inches that planes side by side fill."""
    wide = float(np.clip(np.median([aspect(plane) for plane in planes]), 0.5, 2.5))
    width = min(3.6 * wide, (10.0 - 0.9 * across) / across) if across > 1 else min(8.0, 4.9 * wide)
    return (width + 0.9) * across + 1.2, (width / wide + 0.85) * down + 0.7


def _columns(columns: int | None, count: int) -> int:
    if columns is None:
        return min(count, 3 if count != 4 else 2)
    if not isinstance(columns, int) or columns < 1:
        raise InputError("columns must be a positive number", got=columns, fix="pass for example columns=3")
    return min(columns, count)


def _name(name: str, result: Surface) -> str:
    return name if result.ok else f"{name} ({result.status})"


def _common_origin(named: dict[str, Surface]) -> str:
    """Return the facts that all surfaces share, and say so where the mode differs."""
    facts = [origin(result) for result in named.values()]
    shared = [fact for fact in facts[0] if all(fact in other for other in facts[1:])]
    modes = {str(result.provenance.get("mode")) for result in named.values()}
    return SEPARATOR.join(shared + (["MODES DIFFER: " + ", ".join(sorted(modes))] if len(modes) > 1 else []))
