"""Curves, reference lines and paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape.plots import style
from landscape.plots.placement import quiet_box, quiet_corner, quiet_spot, reach_of
from landscape.plots.scales import Axis
from landscape.plots.sheets import Curve, Curves, Path, Reference
from landscape.plots.with_plotly.look import (
    SMALL,
    Place,
    colour_bar,
    give_legend,
    head,
    is_symlog,
    length_of,
    pixels_across,
    pixels_up,
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
    _settle(figure, place, panel)
    legend = _legend(figure, place, panel)
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


def _legend(figure: go.Figure, place: Place, panel: Curves) -> str:
    """Add a legend where it covers least, if the panel has names; return the name by which traces join it."""
    names = [curve.label for curve in panel.curves if curve.label] if panel.legend else []
    if panel.path is not None:
        names += [f"start (step {panel.path.steps[0]})", f"end (step {panel.path.steps[-1]})"]
    if not names:
        return "legend"
    wide, tall = pixels_across(figure, place), pixels_up(figure, place)
    across, up = (46 + max(length_of(name, SMALL) for name in names)) / wide, (10 + 19 * len(names)) / tall
    return give_legend(figure, place, *quiet_box(panel, across, up, letter=length_of("m", SMALL) / wide))


def _settle(figure: go.Figure, place: Place, panel: Curves) -> None:
    """Keep error bars far larger than the values from flattening them."""
    reach = reach_of(panel)
    ends = [end for c in panel.curves if c.interval == "bars" for end in (c.low, c.high) if end is not None]
    if panel.y.limits is not None or panel.y.scale != "linear" or reach is None or not ends:
        return
    zero = [np.zeros(1)] if any(c.stems for c in panel.curves) else []
    every = np.concatenate([*zero, *ends, *(c.y for c in panel.curves)])
    every = every[np.isfinite(every)]
    low, high = max(float(every.min()), reach[0]), min(float(every.max()), reach[1])
    if low > every.min() or high < every.max():
        margin = 0.05 * (high - low)
        figure.layout[place.axis("y")]["range"] = [low - margin, high + margin]


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
            around_x, around_y = _outline(x, low, high)
            bare = {"mode": "lines", "line": {"width": 0, "color": curve.colour}, **quiet}
            shade = _faint(curve.colour, 0.22)
            figure.add_trace(go.Scatter(x=around_x, y=around_y, fill="toself", fillcolor=shade, **bare))
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
            x=x, y=y, mode=mode, name=plain(curve.label), showlegend=bool(curve.label) and panel.legend,
            opacity=curve.opacity,
            line={"color": curve.colour, "width": curve.width * 1.25, "dash": _dash(curve.line)}, marker=marker,
            error_y=errors, **_hover(panel, curve), **on,
        )
    )  # fmt: skip


def _outline(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of a band: one closed piece, and a gap, for each stretch where it is finite."""
    known = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    pieces = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else []
    gap = np.array([np.nan])
    around_x = [part for piece in pieces for part in (x[piece], x[piece[::-1]], gap)]
    around_y = [part for piece in pieces for part in (low[piece], high[piece[::-1]], gap)]
    return np.concatenate([gap, *around_x])[1:], np.concatenate([gap, *around_y])[1:]


def _hover(panel: Curves, curve: Curve) -> dict[str, Any]:
    """Show true values where the axis holds places, with the label of the y axis in one line."""
    whose = f"<extra>{plain(curve.label)}</extra>"
    name = plain(panel.y.label.split("\n")[0])
    across = plain(panel.x.label.split("\n")[0])
    if is_symlog(panel.x) or is_symlog(panel.y):
        true = np.stack([curve.x, curve.y], axis=1)
        form = f"{across}: %{{customdata[0]:.5g}}<br>{name}: %{{customdata[1]:.5g}}{whose}"
        return {"customdata": true, "hovertemplate": form}
    return {"hovertemplate": f"{across}: %{{x}}<br>{name}: %{{y:.5g}}{whose}"}


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
