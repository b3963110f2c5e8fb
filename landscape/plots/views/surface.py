"""A metric on a line or over a plane through parameter space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis, is_wide
from landscape.plots.sheets import Curve, Curves, Panel, Path, Plane, Reference, Sheet, Space, Span
from landscape.plots.style import NOT_EVALUATED, NOT_FINITE, PALETTE, VERMILLION, check_size
from landscape.plots.titles import heading
from landscape.plots.views.levels import Levels, check_limits, make_levels
from landscape.results import Projection, Surface

KINDS = ("contour", "heatmap", "surface")
_WIDEST = 3.5  # a plane longer than this in one direction has axes with scales of their own


def surface(
    result: Surface,
    quantity: str | None = None,
    *,
    kind: str = "contour",
    limits: tuple[float, float] | None = None,
    levels: Any = None,
    log: Any = "auto",
    trajectory: Projection | None = None,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Sheet:
    """Draw one metric (of a line: every metric, one panel each).

    Parameters
    ----------
    result : Surface
        What to draw.
    quantity : str, optional
        The metric; the first one of a plane and all of a line by default.
    kind : {"contour", "heatmap", "surface"}
        How a plane is drawn.
    limits : (low, high), optional
        The range of the values shown; colours beyond are those of the ends.
    levels : int or sequence of float, optional
        About how many contour levels, or the levels themselves.
    log : {"auto", True, False}
        Logarithmic values and levels; "auto" when positive values span more than a decade.
    trajectory : Projection, optional
        A path to lay over a plane; it must have been projected onto the same directions.
    title, size
        Title, and (width, height) in inches.
    """
    check_metric(result, quantity)
    if kind not in KINDS:
        raise InputError("a surface is drawn in one of three ways", got=kind, fix=f"use one of {', '.join(KINDS)}")
    if "y" not in result.dataset.dims:
        if trajectory is not None:
            raise InputError(
                "a trajectory can be laid over a plane, not over a line",
                got="trajectory with a 1-D surface",
                fix="leave it out, or compute the surface over two directions",
            )
        return _line(result, quantity, limits, log, title, size)
    metric = quantity or result.metrics[0]
    scale = make_levels(values_of(result, metric), levels, automatic(metric, log), limits)
    plane = plane_of(result, metric, scale, filled=kind != "heatmap", path=path_of(trajectory))
    panel: Panel = space_of(result, metric, plane, scale) if kind == "surface" else plane
    along = " along a training path" if trajectory is not None else ""
    what = f"{label_of(result, metric).capitalize()} over two directions{along}"
    default = (8.0, 6.0) if kind == "surface" else plane_size(plane)
    return Sheet(*heading(result, what, title), [[panel]], check_size(size, default))


def check_metric(result: Surface, metric: str | None) -> None:
    """Refuse a metric that the surface does not have."""
    if metric is not None and metric not in result.metrics:
        raise InputError("the surface has no such metric", got=metric, fix=f"it has {', '.join(result.metrics)}")


def values_of(result: Surface, metric: str) -> np.ndarray:
    """Return the metric's values, infinities as NaN."""
    values = result.dataset[metric].to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def label_of(result: Surface, metric: str) -> str:
    """Return the metric's name in words."""
    return str(result.dataset[metric].attrs.get("long_name", metric)).replace("_", " ")


def holes(result: Surface, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where the metric was evaluated and is not finite, and where it was never evaluated."""
    evaluated = result.dataset["evaluated"].to_numpy().astype(bool)
    return evaluated & ~np.isfinite(result.dataset[metric].to_numpy()), ~evaluated


def automatic(metric: str, log: Any) -> Any:
    """Read a share such as an accuracy on a linear scale, however small it gets."""
    return False if isinstance(log, str) and log == "auto" and "accuracy" in metric else log


def axis_of(result: Surface, dim: str) -> Axis:
    """Return the axis of one direction; its unit is one length of that direction."""
    return Axis(str(result.dataset[dim].attrs.get("long_name", dim)))


def path_of(trajectory: Projection | None) -> Path | None:
    """Return the projected path, or None."""
    if trajectory is None:
        return None
    if not isinstance(trajectory, Projection) or trajectory.dataset.sizes.get("axis") != 2:
        raise InputError(
            "trajectory must be a projection onto two directions",
            got=type(trajectory).__name__,
            fix="pass what the trajectory's projection onto these directions returned",
        )
    points = trajectory.dataset["coordinates"].to_numpy()
    return Path(points[:, 0], points[:, 1], trajectory.dataset["step"].to_numpy())


def plane_of(
    result: Surface,
    metric: str,
    scale: Levels,
    *,
    filled: bool,
    path: Path | None = None,
    title: str = "",
    own_scale: bool = True,
) -> Plane:
    """Return the metric over the plane, coloured by ``scale``."""
    values = values_of(result, metric)
    not_finite, not_evaluated = holes(result, metric)
    shown = Plane(
        result.dataset["x"].to_numpy(),
        result.dataset["y"].to_numpy(),
        values,
        scale.place(values),
        scale.low,
        scale.high,
        scale.levels,
        scale.ticks,
        axis_of(result, "x"),
        axis_of(result, "y"),
        label_of(result, metric),
        not_finite,
        not_evaluated,
        filled,
        path,
        title=title,
        own_scale=own_scale,
        centre=path is None or not _ends_at_centre(path),
    )
    wide = aspect(shown)
    equal = 1 / _WIDEST <= wide <= _WIDEST
    return replace(shown, equal=equal, note="" if equal else "the axes have scales of their own")


def aspect(plane: Plane) -> float:
    """Return the width over the height of what a plane shows, its path included."""
    spans = []
    for which in ("x", "y"):
        parts = [getattr(plane, which)] + ([getattr(plane.path, which)] if plane.path is not None else [])
        along = np.concatenate(parts)
        spans.append(float(np.nanmax(along) - np.nanmin(along)) or 1.0)
    return spans[0] / spans[1]


def plane_size(plane: Plane) -> tuple[float, float]:
    """Return a size in inches that the plane fills, with room for its labels and its colour bar."""
    wide = aspect(plane) if plane.equal else 2.0
    width = min(8.6, 4.9 * wide)
    return max(width, 3.2) + 1.9, width / wide + 1.5


def space_of(result: Surface, metric: str, plane: Plane, scale: Levels) -> Space:
    """Raise the plane to its values; a path lies on the surface, also between its points."""
    height = float(scale.place(float(result.centre.get(metric, np.nan))))
    if plane.path is None:
        return Space(plane, height, title=plane.title)
    from scipy.interpolate import RegularGridInterpolator

    at = RegularGridInterpolator((plane.y, plane.x), plane.colour, bounds_error=False, fill_value=np.nan)
    count = len(plane.path.x)
    fine = np.linspace(0, count - 1, max(1, (count - 1) * max(1, min(12, 3000 // count)) + 1))
    x, y, steps = (np.interp(fine, np.arange(count), part) for part in (plane.path.x, plane.path.y, plane.path.steps))
    heights = np.clip(at(np.stack([y, x], axis=1)), plane.low, plane.high)
    raised = replace(plane, path=Path(x, y, steps, heights))
    return Space(raised, height, plane.title, *_view_of(raised, at))


def _ends_at_centre(path: Path) -> bool:
    """Whether the end of the path, which is marked, is where the centre would be marked."""
    reach = float(np.nanmax(np.hypot(path.x, path.y), initial=0.0))
    return bool(np.hypot(path.x[-1], path.y[-1]) <= 0.01 * reach)


def _view_of(plane: Plane, at: Any) -> tuple[float, float]:
    """Return the azimuth and elevation from which most of the path is not hidden behind the surface."""
    assert plane.path is not None
    assert plane.path.z is not None
    sizes = np.array([np.ptp(plane.x), np.ptp(plane.y), (plane.high - plane.low) / 0.75])
    points = np.stack([plane.path.x, plane.path.y, plane.path.z], axis=1)
    points = points[np.isfinite(points).all(axis=1)][::4]
    far = np.linspace(0.04, 1.5, 40)[:, None]
    best = (0.0, -57.0, 34.0)
    for elevation in (34.0, 44.0):
        for azimuth in (-57.0, -123.0, 33.0, 147.0, -75.0, -20.0):
            turn, up = np.deg2rad([azimuth, elevation])
            toward = np.array([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)])
            rays = points[:, None, :] + far * toward * sizes
            surface_there = at(rays[..., [1, 0]].reshape(-1, 2)).reshape(rays.shape[:2])
            with np.errstate(invalid="ignore"):
                hidden = (surface_there > rays[..., 2]).any(axis=1)
            seen = float(1 - hidden.mean()) if len(points) else 0.0
            if seen > best[0] + 0.05:
                best = (seen, azimuth, elevation)
    return best[1:]


def line_panel(
    results: dict[str, Surface], metric: str, limits: tuple[float, float] | None, log: Any, title: str
) -> Curves:
    """Return one metric of one or several lines, with its value at the centre and its holes marked."""
    curves: list[Curve] = []
    spans: list[Span] = []
    everything = np.concatenate([values_of(result, metric) for result in results.values()])
    pair = check_limits(limits)
    if log not in ("auto", True, False):
        raise InputError('log must be "auto", True or False', got=log, fix='use log="auto"')
    finite = everything[np.isfinite(everything)]
    lowest = min(pair[0] if pair else np.inf, float(finite.min()) if len(finite) else np.inf)
    if log is True and lowest <= 0:
        raise InputError(
            "a logarithmic scale needs positive values", got=f"values from {lowest:g}", fix="pass log=False"
        )
    log = automatic(metric, log)
    use_log = is_wide(everything) and lowest > 0 if log == "auto" else bool(log)
    for index, (name, result) in enumerate(results.items()):
        colour = PALETTE[index % len(PALETTE)]
        x, y = result.dataset["x"].to_numpy(), values_of(result, metric)
        few = "circle" if len(x) <= 60 and len(results) == 1 else ""
        curves.append(Curve(x, y, name, colour, marker=few))
        centre = result.centre.get(metric)
        if centre is not None and np.isfinite(centre) and x.min() <= 0 <= x.max():
            label = "centre" if len(results) == 1 else ""
            mark = VERMILLION if len(results) == 1 else colour
            curves.append(Curve(np.zeros(1), np.array([centre]), label, mark, line="", marker="diamond"))
        not_finite, not_evaluated = holes(result, metric)
        if len(results) == 1:
            spans += _spans(x, not_finite, NOT_FINITE) + _spans(x, not_evaluated, NOT_EVALUATED)
    first = next(iter(results.values()))
    return Curves(
        axis_of(first, "x"),
        Axis(label_of(first, metric), "log" if use_log else "linear", pair),
        curves,
        [Reference(0.0, along="x")],
        spans,
        title=title,
        note=_holes_in_words(results, metric),
    )


def _line(
    result: Surface,
    quantity: str | None,
    limits: tuple[float, float] | None,
    log: Any,
    title: str | None,
    size: tuple[float, float] | None,
) -> Sheet:
    metrics = [quantity] if quantity else result.metrics
    panels: list[list[Panel | None]] = [
        [line_panel({"": result}, metric, limits if metric == metrics[0] else None, log, "")] for metric in metrics
    ]
    what = f"{label_of(result, metrics[0]).capitalize()} along a line" if len(metrics) == 1 else "Along a line"
    return Sheet(*heading(result, what, title), panels, check_size(size, (7.4, 2.9 * len(panels) + 1.3)))


def _spans(x: np.ndarray, mask: np.ndarray, colour: str) -> list[Span]:
    """Return the stretches of x that ``mask`` covers, each point reaching half way to its neighbours."""
    middles = (x[1:] + x[:-1]) / 2
    edges = np.concatenate([x[:1], middles, x[-1:]])
    starts = np.flatnonzero(mask & ~np.concatenate([[False], mask[:-1]]))
    ends = np.flatnonzero(mask & ~np.concatenate([mask[1:], [False]]))
    return [Span(float(edges[a]), float(edges[b + 1]), colour) for a, b in zip(starts, ends, strict=True)]


def _holes_in_words(results: dict[str, Surface], metric: str) -> str:
    found = [holes(result, metric) for result in results.values()]
    not_finite, not_evaluated = (sum(int(pair[i].sum()) for pair in found) for i in (0, 1))
    dark, light = ("dark grey: ", "light grey: ") if len(results) == 1 else ("gaps: ", "gaps: ")
    words = []
    if not_finite:
        words.append(f"{dark}not finite ({not_finite} points)")
    if not_evaluated:
        words.append(f"{light}not evaluated ({not_evaluated} points)")
    return "; ".join(words)
