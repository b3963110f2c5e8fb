"""Planes, surfaces in three dimensions and matrices."""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.plots import style
from landscape.plots.sheets import Matrix, Plane, Space
from landscape.plots.with_plotly.curves import path
from landscape.plots.with_plotly.look import (
    LABEL,
    SMALL,
    Place,
    colour_bar,
    head,
    pixels_across,
    pixels_up,
    plain,
    ramp,
    set_axis,
)

_MOST_MARKS = 1500
NARROW = 0.7  # of the sheet's own width: on so narrow a page the bar of a small matrix still stands beside its cells


def plane(figure: go.Figure, place: Place, panel: Plane) -> None:
    """Paint filled contours or cells, what has no value, the centre and the path."""
    set_axis(figure, place, "x", panel.x_axis)
    set_axis(figure, place, "y", panel.y_axis)
    legend = _legend_above(figure, place, panel)
    on = {"xaxis": place.x, "yaxis": place.y}
    for mask, colour, symbol, name in (
        (panel.not_evaluated, style.NOT_EVALUATED, "circle", "not evaluated"),
        (panel.not_finite, style.NOT_FINITE, "x-thin", "not finite"),
    ):
        if mask.any():
            _holes(figure, panel, mask, colour, symbol, f"{name} ({int(mask.sum())})", {**on, "legend": legend})
    shown = np.clip(panel.colour, panel.low, panel.high)
    colours: dict[str, Any] = {
        "x": panel.x, "y": panel.y, "zmin": panel.low, "zmax": panel.high, "zauto": False,
        "colorscale": ramp("sequential"), **on,
    }  # fmt: skip
    bar = colour_bar(place, panel.label, panel.ticks)
    top: dict[str, Any] = {"showscale": panel.own_scale, "colorbar": bar if panel.own_scale else None}
    words = f"({{0}}: %{{x:.4g}}, %{{y:.4g}})<br>{plain(panel.label)}: %{{customdata:.5g}}<extra></extra>"
    top |= {"customdata": panel.values, "hovertemplate": words.replace("{0}: ", "")}
    if panel.filled:
        _contours(figure, panel, shown, colours, top)
    else:
        figure.add_trace(go.Heatmap(z=shown, **colours, **top))
    if panel.centre and panel.x.min() <= 0 <= panel.x.max() and panel.y.min() <= 0 <= panel.y.max():
        star = {"symbol": "star", "size": 13, "color": "white", "line": {"width": 1.2, "color": "#222222"}}
        figure.add_trace(
            go.Scatter(
                x=[0], y=[0], mode="markers", marker=star, name="centre", hoverinfo="name", legend=legend,
                showlegend=panel.own_scale, **on,
            )
        )  # fmt: skip
    if panel.path is not None:
        path(figure, place, panel.path, legend, bar=False)
    whole = {"constrain": "domain", "showgrid": False}
    figure.layout[place.axis("x")].update(whole)
    figure.layout[place.axis("y")].update(whole | ({"scaleanchor": place.x} if panel.equal else {}))
    for which in ("x", "y"):
        own = getattr(panel, which)
        figure.layout[place.axis(which)]["range"] = list(_window(own, getattr(panel.path, which, None), panel.filled))
    head(figure, place, panel.title, panel.note)


def _contours(figure: go.Figure, panel: Plane, shown: np.ndarray, colours: dict[str, Any], top: dict[str, Any]) -> None:
    """Paint bands between levels, and below them cells of the same colours, which reach up to every hole."""
    levels = panel.levels
    middles = (levels[1:] + levels[:-1]) / 2
    finite = np.isfinite(shown)
    band = np.clip(np.searchsorted(levels, np.where(finite, shown, panel.low), side="right") - 1, 0, len(middles) - 1)
    cells = np.where(finite, middles[band], np.nan)
    figure.add_trace(go.Heatmap(z=cells, showscale=False, hoverinfo="skip", **colours))
    step = float(levels[1] - levels[0])
    contours = {"start": float(levels[0]) + step, "end": float(levels[-1]) - step, "size": step, "coloring": "fill"}
    line = {"width": 0.6, "color": "rgba(255,255,255,0.75)"}
    figure.add_trace(
        go.Contour(z=shown, contours=contours, line=line, autocontour=False, connectgaps=False, **colours, **top)
    )


def _holes(
    figure: go.Figure, panel: Plane, mask: np.ndarray, colour: str, symbol: str, name: str, on: dict[str, Any]
) -> None:
    """Paint cells without a value in one grey, with a mark on each."""
    flat = {k: v for k, v in on.items() if k != "legend"}
    figure.add_trace(
        go.Heatmap(
            x=panel.x, y=panel.y, z=np.where(mask, 1.0, np.nan), showscale=False,
            colorscale=[[0, colour], [1, colour]], hoverinfo="skip", **flat,
        )
    )  # fmt: skip
    up, across = np.nonzero(mask)
    if len(up) > _MOST_MARKS:
        up, across = up[:1], across[:1]
    marker: dict[str, Any] = {"symbol": symbol, "size": 4 if symbol == "circle" else 6, "color": "#6E6E6E"}
    marker["line"] = {"width": 1, "color": "#6E6E6E"}
    figure.add_trace(
        go.Scatter(x=panel.x[across], y=panel.y[up], mode="markers", marker=marker, name=name, hoverinfo="name", **on)
    )


def _window(own: np.ndarray, along: np.ndarray | None, filled: bool) -> tuple[float, float]:
    """Return the range of ``own`` (with its outer cells), made wider where the path leaves it."""
    half = 0.0 if filled or len(own) < 2 else float(own[1] - own[0]) / 2
    low, high = float(own.min()) - half, float(own.max()) + half
    if along is not None and np.isfinite(along).any():
        margin = 0.04 * (high - low)
        low, high = min(low, float(np.nanmin(along)) - margin), max(high, float(np.nanmax(along)) + margin)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _legend_above(figure: go.Figure, place: Place, panel: Plane) -> str:
    """Put the legend of a panel on its upper edge: at the left, or at the right where a title stands there."""
    name = f"legend{place.number if place.number > 1 else ''}"
    left = panel.own_scale and not panel.title
    figure.layout[name] = {
        "orientation": "h", "x": place.across[0 if left else 1], "xanchor": "left" if left else "right",
        "y": place.up[1], "yanchor": "bottom", "itemsizing": "constant", "bgcolor": "rgba(0,0,0,0)",
        "font": {"size": SMALL},
    }  # fmt: skip
    return name


def space(figure: go.Figure, place: Place, panel: Space) -> None:
    """Paint a surface in three dimensions that can be turned."""
    flat = panel.plane
    height = np.clip(flat.colour, flat.low, flat.high)
    figure.add_trace(
        go.Surface(
            x=flat.x, y=flat.y, z=height, cmin=flat.low, cmax=flat.high, colorscale=ramp("sequential"),
            showscale=False, customdata=flat.values, scene=place.x,
            hovertemplate=f"(%{{x:.4g}}, %{{y:.4g}})<br>{plain(flat.label)}: %{{customdata:.5g}}<extra></extra>",
            lighting={"ambient": 0.75, "diffuse": 0.5, "specular": 0.05, "roughness": 0.9},
        )
    )  # fmt: skip
    if np.isfinite(panel.centre_height) and flat.centre:
        marker = {"symbol": "diamond", "size": 6, "color": "white", "line": {"width": 2, "color": "#222222"}}
        figure.add_trace(
            go.Scatter3d(
                x=[0], y=[0], z=[panel.centre_height], mode="markers", marker=marker, name="centre", hoverinfo="name",
                scene=place.x, showlegend=flat.own_scale,
            )
        )  # fmt: skip
    if flat.path is not None and flat.path.z is not None:
        lift = 0.01 * (flat.high - flat.low)
        line = {"color": flat.path.steps, "colorscale": ramp("steps"), "width": 7}
        figure.add_trace(
            go.Scatter3d(
                x=flat.path.x, y=flat.path.y, z=flat.path.z + lift, mode="lines", line=line, showlegend=False,
                customdata=flat.path.steps, hovertemplate="step %{customdata}<extra></extra>", scene=place.x,
            )
        )  # fmt: skip
        for index, name, colour in ((0, "start", style.STEPS[0]), (-1, "end", style.STEPS[-1])):
            marker = {"size": 5, "color": colour, "line": {"width": 1.5, "color": "#333333"}}
            figure.add_trace(
                go.Scatter3d(
                    x=flat.path.x[[index]], y=flat.path.y[[index]], z=flat.path.z[[index]] + lift, mode="markers",
                    marker=marker, name=f"{name} (step {flat.path.steps[index]:.0f})", hoverinfo="name", scene=place.x,
                )
            )  # fmt: skip
    named = plain(flat.label) if flat.own_scale else ""  # otherwise the colour bar names the height
    lines = {"showspikes": False, "zeroline": False}
    around, up = np.deg2rad([panel.azimuth, panel.elevation])
    eye = 2.2 * np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    figure.layout[place.x].update(
        {
            "xaxis": {"title": {"text": _folded(flat.x_axis.label), "font": {"size": SMALL}}, **lines},
            "yaxis": {"title": {"text": _folded(flat.y_axis.label), "font": {"size": SMALL}}, **lines},
            "zaxis": {
                "title": {"text": named, "font": {"size": LABEL}}, "range": [flat.low, flat.high],
                "tickvals": list(flat.ticks), "ticktext": [plain(w) for w in flat.ticks.values()], **lines,
            },
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 0.75},
            "camera": {"eye": dict(zip("xyz", eye.tolist(), strict=True)), "center": {"x": 0, "y": 0, "z": -0.2}},
        }
    )  # fmt: skip
    figure.layout["legend"] = {"x": 0.0, "y": 1.0, "xanchor": "left", "yanchor": "top"}
    if panel.title:
        figure.add_annotation(
            text=f"<b>{plain(panel.title)}</b>", showarrow=False, font={"size": LABEL}, xref="paper", yref="paper",
            x=place.across[0], xanchor="left", y=place.up[1], yanchor="bottom",
        )  # fmt: skip


def _folded(label: str) -> str:
    """Return a label in lines short enough for the edge of a scene."""
    return plain("\n".join(wrap(label, 24)))


def _bar(figure: go.Figure, place: Place, panel: Matrix) -> dict[str, Any]:
    """Return the matrix's colour bar, beside its cells and as high as they are together."""
    wide, tall = pixels_across(figure, place), pixels_up(figure, place)
    cell = min(wide / len(panel.columns), tall / len(panel.rows))
    (left, right), (low, high) = place.across, place.up
    share = cell * len(panel.columns) / wide / (NARROW if panel.compact else 1.0)
    filled = (left, left + min(1.0, share) * (right - left))
    bar = colour_bar(
        replace(place, across=filled, up=(high - cell * len(panel.rows) / tall * (high - low), high)), panel.label
    )
    if panel.compact:
        bar |= {"tickvals": [panel.low, 0, panel.high], "tickformat": ".2~g"}
    return bar


def matrix(figure: go.Figure, place: Place, panel: Matrix) -> None:
    """Paint a labelled matrix."""
    rows, columns = np.arange(len(panel.rows)), np.arange(len(panel.columns))
    on: dict[str, Any] = {"x": columns, "y": rows, "xaxis": place.x, "yaxis": place.y}
    grey = [[0, "#BDBDBD"], [1, "#BDBDBD"]]
    cells = np.where(panel.greyed, 1.0, np.nan)
    figure.add_trace(go.Heatmap(z=cells, colorscale=grey, showscale=False, hoverinfo="skip", **on))
    words = np.array([[f"{v:.2f}".replace("-0.00", "0.00").replace("-", "−") for v in row] for row in panel.values])
    names = np.array([[f"{plain(a)}, {plain(b)}" for b in panel.columns] for a in panel.rows])
    figure.add_trace(
        go.Heatmap(
            z=np.where(panel.greyed, np.nan, panel.values), zmin=panel.low, zmax=panel.high,
            colorscale=ramp(panel.ramp), text=np.where(panel.greyed, "", words),
            texttemplate="%{text}" if panel.show_numbers else None, textfont={"size": SMALL}, customdata=names,
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>", colorbar=_bar(figure, place, panel), **on,
        )
    )  # fmt: skip
    frame = {"type": "rect", "xref": place.x, "yref": place.y, "line": {"width": 2.5, "color": "#222222"}}
    frames = [
        {"x0": column - 0.46, "x1": column + 0.46, "y0": row - 0.46, "y1": row + 0.46, **frame}
        for row, column in np.argwhere(panel.marked).tolist()
    ]
    figure.layout.shapes = [*figure.layout.shapes, *frames]  # one by one is slow
    common = {"showgrid": False, "showline": False, "tickmode": "array", "tickcolor": "rgba(0,0,0,0)"}
    common |= {"constrain": "domain", "constraintoward": "left"}
    if panel.axis:
        common["title"] = {"text": plain(panel.axis)}
    figure.layout[place.axis("x")].update(
        {"tickvals": columns, "ticktext": [plain(name) for name in panel.columns], **common}
    )
    figure.layout[place.axis("y")].update(
        {
            "tickvals": rows, "ticktext": [plain(name) for name in panel.rows], "scaleanchor": place.x,
            "range": [len(rows) - 0.5, -0.5], **(common | {"constraintoward": "top"}),
        }
    )  # fmt: skip
    head(figure, place, panel.title, panel.note)
