"""Curves, bars and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.plots import style
from landscape.plots.placement import quiet_corner, quiet_spot
from landscape.plots.scales import Axis
from landscape.plots.sheets import Bars, Curve, Curves, Path, Reference, Table
from landscape.plots.with_plotly.look import (
    LABEL,
    SMALL,
    Place,
    colour_bar,
    give_legend,
    head,
    is_symlog,
    length_of,
    pixels_across,
    plain,
    ramp,
    set_axis,
)

_SYMBOLS = {"circle": "circle", "cross": "x", "diamond": "diamond"}


def curves(figure: go.Figure, place: Place, panel: Curves) -> None:
    """Paint curves over two axes."""
    everything = np.concatenate([c.y for c in panel.curves] or [np.array([])])
    set_axis(figure, place, "x", panel.x, np.concatenate([c.x for c in panel.curves] or [np.array([])]))
    set_axis(figure, place, "y", panel.y, everything)
    for span in panel.spans:
        figure.add_shape(
            type="rect", xref=place.x, yref=f"{place.y} domain", x0=span.low, x1=span.high, y0=0, y1=1,
            fillcolor=span.colour, opacity=0.5, line_width=0, layer="below",
        )  # fmt: skip
    named = panel.path is not None or any(curve.label for curve in panel.curves)
    legend = give_legend(figure, place, quiet_corner(panel)) if named else "legend"
    for curve in panel.curves:
        _curve(figure, place, panel, curve, legend)
    if panel.path is not None:
        path(figure, place, panel.path, legend, bar=True)
    for reference in panel.references:
        axis = panel.x if reference.along == "x" else panel.y
        length = length_of(reference.text, SMALL) / pixels_across(figure, place)
        refer(figure, place, reference, axis, *quiet_spot(panel, reference.value, length))
    if panel.remark:
        up, across = quiet_corner(panel).split()
        figure.add_annotation(
            text=plain(panel.remark), showarrow=False, font={"size": SMALL, "color": style.MUTED},
            xref=f"{place.x} domain", yref=f"{place.y} domain", x=float(across == "right"), y=float(up == "top"),
            xanchor=across, yanchor=up,
        )  # fmt: skip
    head(figure, place, panel.title, panel.note)


def _curve(figure: go.Figure, place: Place, panel: Curves, curve: Curve, legend: str) -> None:
    x, y = panel.x.place(curve.x), panel.y.place(curve.y)
    on = {"xaxis": place.x, "yaxis": place.y, "legend": legend}
    quiet: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False, **on}
    if curve.stems:
        gaps = np.full(len(x), np.nan)
        line = {"color": curve.colour, "width": 1}
        up_x, up_y = np.stack([x, x, gaps], 1).ravel(), np.stack([np.zeros(len(x)), y, gaps], 1).ravel()
        figure.add_trace(go.Scatter(x=up_x, y=up_y, mode="lines", line=line, opacity=0.5, **quiet))
    errors = None
    if curve.low is not None and curve.high is not None:
        low, high = panel.y.place(curve.low), panel.y.place(curve.high)
        if curve.interval == "band":
            keep = np.isfinite(low) & np.isfinite(high)
            bare = {"mode": "lines", "line": {"width": 0, "color": curve.colour}, **quiet}
            figure.add_trace(go.Scatter(x=x[keep], y=low[keep], **bare))
            shade = _faint(curve.colour, 0.22)
            figure.add_trace(go.Scatter(x=x[keep], y=high[keep], fill="tonexty", fillcolor=shade, **bare))
        else:
            errors = {
                "type": "data", "symmetric": False, "array": np.nan_to_num(high - y),
                "arrayminus": np.nan_to_num(y - low), "thickness": 1.2, "width": 3, "color": curve.colour,
            }  # fmt: skip
    mode = "+".join(part for part, wanted in (("lines", curve.line), ("markers", curve.marker)) if wanted)
    marker = None
    if curve.marker:
        hollow = np.zeros(len(x), bool) if curve.hollow is None else curve.hollow
        symbol = _SYMBOLS[curve.marker]
        symbols: Any = [f"{symbol}-open" if open_ else symbol for open_ in hollow] if hollow.any() else symbol
        marker = {"symbol": symbols, "size": 7 if symbol != "circle" else 6, "color": curve.colour}
        marker["line"] = {"width": 1.3, "color": curve.colour}
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode=mode, name=plain(curve.label), showlegend=bool(curve.label), opacity=curve.opacity,
            line={"color": curve.colour, "width": curve.width * 1.25, "dash": _dash(curve.line)}, marker=marker,
            error_y=errors, **_hover(panel, curve), **on,
        )
    )  # fmt: skip


def _hover(panel: Curves, curve: Curve) -> dict[str, Any]:
    """Show true values where the axis holds places, with the label of the y axis in one line."""
    name = plain(panel.y.label.split("\n")[0])
    across = plain(panel.x.label.split("\n")[0])
    if is_symlog(panel.x) or is_symlog(panel.y):
        true = np.stack([curve.x, curve.y], axis=1)
        form = f"{across}: %{{customdata[0]:.5g}}<br>{name}: %{{customdata[1]:.5g}}<extra></extra>"
        return {"customdata": true, "hovertemplate": form}
    return {"hovertemplate": f"{across}: %{{x}}<br>{name}: %{{y:.5g}}<extra></extra>"}


def _dash(line: str) -> str:
    return line or "solid"


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def refer(
    figure: go.Figure,
    place: Place,
    reference: Reference,
    axis: Axis,
    at: float = 1.0,
    side: str = "right",
    where: str = "above",
) -> None:
    """Paint a thin reference line with its words on one side of it."""
    value = float(axis.place(reference.value))
    written = float(np.log10(value)) if axis.scale == "log" and value > 0 else value
    line = {"color": style.MUTED, "width": 1, "dash": reference.line}
    if reference.along == "x":
        ends = {"xref": place.x, "yref": f"{place.y} domain", "x0": value, "x1": value, "y0": 0, "y1": 1}
        words = {
            "xref": place.x,
            "yref": f"{place.y} domain",
            "x": written,
            "y": 1,
            "xanchor": "left",
            "yanchor": "top",
        }
    else:
        ends = {"xref": f"{place.x} domain", "yref": place.y, "x0": 0, "x1": 1, "y0": value, "y1": value}
        words = {
            "xref": f"{place.x} domain", "yref": place.y, "y": written,
            "yanchor": "bottom" if where == "above" else "top", "yshift": 2 if where == "above" else -2,
            "x": at, "xanchor": side,
        }  # fmt: skip
    figure.add_shape(type="line", line=line, layer="above", opacity=0.8, **ends)
    if reference.text:
        font = {"size": SMALL, "color": style.MUTED}
        figure.add_annotation(text=plain(reference.text), showarrow=False, font=font, **words)


def path(figure: go.Figure, place: Place, shown: Path, legend: str, *, bar: bool) -> None:
    """Paint a path coloured by step with its start (circle) and end (square) marked."""
    on = {"xaxis": place.x, "yaxis": place.y, "legend": legend}
    figure.add_trace(
        go.Scatter(
            x=shown.x, y=shown.y, mode="lines+markers", showlegend=False, line={"color": "#555555", "width": 2},
            marker={
                "color": shown.steps, "colorscale": ramp("steps"), "size": 6,
                "line": {"width": 0.6, "color": "#333333"},
                "showscale": bar, "colorbar": colour_bar(place, "step") if bar else None,
            },
            customdata=shown.steps, hovertemplate="step %{customdata}<br>(%{x:.4g}, %{y:.4g})<extra></extra>", **on,
        )
    )  # fmt: skip
    for index, symbol, name, colour in ((0, "circle", "start", style.STEPS[0]), (-1, "square", "end", style.STEPS[-1])):
        figure.add_trace(
            go.Scatter(
                x=shown.x[[index]], y=shown.y[[index]], mode="markers", name=f"{name} (step {shown.steps[index]})",
                marker={"symbol": symbol, "size": 11, "color": colour, "line": {"width": 1.4, "color": "#333333"}},
                hoverinfo="name", **on,
            )
        )  # fmt: skip


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
        figure.add_trace(go.Scatter(mode="markers", marker={"color": panel.colours or style.BLUE, "size": 8}, **common))
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
        words = [f" {plain(text)}" for text in panel.texts]
        figure.add_trace(
            go.Scatter(
                x=ends, y=rows, mode="text", text=words, textposition="middle right", textfont={"size": SMALL},
                showlegend=False, hoverinfo="skip", cliponaxis=False, xaxis=place.x, yaxis=place.y,
            )
        )  # fmt: skip
    head(figure, place, panel.title, "")


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
