"""Bars and tables: one thing a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.plots import style
from landscape.plots.scales import Axis
from landscape.plots.sheets import Bars, Table
from landscape.plots.with_plotly.curves import refer
from landscape.plots.with_plotly.look import LABEL, SMALL, Place, head, length_of, pixels_across, plain, set_axis

_DOT, _GAP = 8, 4  # pixels: how large a dot in a row is, and what is left free before its words


def bars(figure: go.Figure, place: Place, panel: Bars) -> None:
    """Paint named values, one a row."""
    rows = np.arange(len(panel.names))
    set_axis(figure, place, "x", panel.axis, panel.values)
    names = {float(row): name for row, name in enumerate(panel.names)}
    set_axis(figure, place, "y", Axis(limits=(len(rows) - 0.4, -0.6), ticks=names))
    values, low, high = (panel.axis.place(part) for part in (panel.values, panel.low, panel.high))
    known = np.isfinite(low) & np.isfinite(high)
    errors = {
        "type": "data", "symmetric": False, "array": np.where(known, high - values, 0.0),
        "arrayminus": np.where(known, values - low, 0.0), "thickness": 1.3, "width": 0,
        "visible": bool(known.any()), "color": style.MUTED,
    }  # fmt: skip
    common: dict[str, Any] = {
        "x": values, "y": rows, "error_x": errors, "showlegend": False, "xaxis": place.x, "yaxis": place.y,
        "customdata": [f"{plain(name)}: {value:.5g}" for name, value in zip(panel.names, panel.values, strict=True)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip
    if panel.dots:
        dots = {"color": panel.colours or style.BLUE, "size": _DOT}
        figure.add_trace(go.Scatter(mode="markers", marker=dots, **common))
    else:
        figure.add_trace(
            go.Bar(
                orientation="h",
                marker={"color": panel.colours or style.SKY, "line": {"width": 0}},
                width=0.62,
                **common,
            )
        )
    for reference in panel.references:
        refer(figure, place, reference, panel.axis)
    if panel.texts:
        ends = np.fmax(np.fmax(values, np.where(known, high, -np.inf)), 0.0)
        unseen = {"size": 2 * _GAP + (_DOT if panel.dots else 0), "opacity": 0}  # keeps the words at a distance
        figure.add_trace(
            go.Scatter(
                x=ends, y=rows, mode="markers+text", marker=unseen, text=[plain(text) for text in panel.texts],
                textposition="middle right", textfont={"size": SMALL},
                showlegend=False, hoverinfo="skip", cliponaxis=False, xaxis=place.x, yaxis=place.y,
            )
        )  # fmt: skip
        _make_room(figure, place, panel, ends)
    head(figure, place, panel.title, "")


def _make_room(figure: go.Figure, place: Place, panel: Bars, ends: np.ndarray) -> None:
    """Make the axis long enough for the words that begin at ``ends``."""

    def along(values: Any) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log10(np.asarray(values, float)) if panel.axis.scale == "log" else panel.axis.place(values)
        return found[np.isfinite(found)]

    if panel.axis.limits is not None:
        low, high = along(panel.axis.limits)
    else:
        parts = (panel.values, panel.low, panel.high, [] if panel.dots else [0.0])
        every = np.concatenate([along(part) for part in parts])
        low, high = float(every.min()), float(every.max())
        low, high = low - (0.05 * (high - low) if low < 0 or panel.dots else 0.0), high + 0.05 * (high - low)
    known = np.isfinite(ends) & ((ends > 0) | (panel.axis.scale != "log"))
    starts = np.log10(ends[known]) if panel.axis.scale == "log" else ends[known]
    words = np.array([length_of(text, SMALL) for text in panel.texts or []])[known] + 2 * _GAP + _DOT
    free = np.maximum(1 - words / pixels_across(figure, place), 0.2)
    needed = low + (starts - low) / free
    figure.layout[place.axis("x")]["range"] = [low, float(max([high, *needed]))]


def table(figure: go.Figure, place: Place, panel: Table) -> None:
    """Paint rows of names and texts."""
    for which in ("x", "y"):
        figure.layout[place.axis(which)].update({"visible": False, "range": [0, 1], "fixedrange": True})
    figure.add_trace(
        go.Scatter(x=[0], y=[0], opacity=0, showlegend=False, hoverinfo="skip", xaxis=place.x, yaxis=place.y)
    )
    where: dict[str, Any] = {"xref": f"{place.x} domain", "yref": f"{place.y} domain", "y": 1, "yanchor": "top"}
    where["showarrow"] = False
    drop = -6.0
    for line in panel.lines:
        drop -= 25 * panel.pitch * line.above
        name = f"<b>{plain(line.name)}</b>" if panel.letters and line.name else plain(line.name)
        font = {"size": LABEL, "color": line.colour}
        figure.add_annotation(text=name, x=0, xanchor="left", font=font, yshift=drop, **where)
        side = {"x": 0, "xanchor": "left", "xshift": style.PIXELS * panel.beside}
        side = side if panel.letters else {"x": 1, "xanchor": "right"}
        figure.add_annotation(text=plain(line.text), font={"size": LABEL}, yshift=drop, **side, **where)
        drop -= 25 * panel.pitch
    font = {"size": SMALL, "color": style.MUTED}
    figure.add_annotation(text=plain(panel.note), x=0, xanchor="left", font=font, yshift=drop, **where)
    head(figure, place, panel.title, "")
