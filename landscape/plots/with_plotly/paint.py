"""From a sheet to a plotly figure."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from landscape.plots import style
from landscape.plots.sheets import Bars, Curves, Matrix, Panel, Plane, Sheet, Space, Table
from landscape.plots.titles import wrap
from landscape.plots.with_plotly import curves, planes, rows
from landscape.plots.with_plotly.look import Place, colour_bar, plain, ramp, template

_PAINTERS: dict[type[Panel], Any] = {
    Curves: curves.curves,
    Bars: rows.bars,
    Table: rows.table,
    Plane: planes.plane,
    Space: planes.space,
    Matrix: planes.matrix,
}
_LEFT, _BOTTOM, _RIGHT = 70, 62, 24
_BAR = 78  # pixels that a colour bar takes


def paint(sheet: Sheet) -> go.Figure:
    """Return ``sheet`` as an interactive figure."""
    below = wrap(sheet.subtitle, sheet.size[0])
    width, height = (int(side * style.PIXELS) for side in sheet.size)
    top = (44 if sheet.title else 0) + 19 * len(below) + max(26, *(_above(panel) for panel in sheet.rows[0]))
    bottom = max(_below(panel) for panel in sheet.rows[-1])
    left = max(_label_room(row[0]) for row in sheet.rows)
    several = len(sheet.rows) > 1 or len(sheet.rows[0]) > 1
    right = _RIGHT + (_BAR if any(_has_bar(row[-1], several) or _shares(row) for row in sheet.rows) else 0)
    inner_width, inner_height = width - left - right, height - top - bottom
    figure = _grid(sheet, inner_width, inner_height)
    figure.update_layout(
        template=template(), width=width, height=height, bargap=0.3,
        margin={"l": left, "r": right, "t": top, "b": bottom},
        title={
            "text": f"<b>{plain(sheet.title)}</b>", "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12},
            "y": 1 - 10 / height, "yref": "container", "yanchor": "top",
            "subtitle": {"text": "<br>".join(plain(line) for line in below)},
        },
    )  # fmt: skip
    number = 0
    for row, panels in enumerate(sheet.rows, 1):
        for column, panel in enumerate(panels, 1):
            if panel is None:
                continue
            number += 1
            _PAINTERS[type(panel)](figure, _place(figure, row, column, number, panel), panel)
    _share_scale(figure, sheet)
    return figure


def _grid(sheet: Sheet, width: float, height: float) -> go.Figure:
    across = len(sheet.rows[0])
    gap = 0.0
    for column in range(1, across):
        before = any(_has_bar(row[column - 1]) for row in sheet.rows)
        labels = max((_label_room(row[column]) for row in sheet.rows), default=_LEFT)
        gap = max(gap, (labels + (_BAR if before else 0) + 8) / width)
    specs = [[_spec(panel) for panel in row] for row in sheet.rows]
    down = len(sheet.rows)
    return make_subplots(
        rows=down, cols=across, specs=specs, column_widths=sheet.widths, row_heights=sheet.heights,
        horizontal_spacing=min(gap, 0.9 / max(across - 1, 1)),
        vertical_spacing=min(_between(sheet) / height, 0.9 / max(down - 1, 1)),
    )  # fmt: skip


def _spec(panel: Panel | None) -> dict[str, Any] | None:
    if panel is None:
        return None
    return {"type": "scene" if isinstance(panel, Space) else "xy"}


def _place(figure: go.Figure, row: int, column: int, number: int, panel: Panel) -> Place:
    found = figure.get_subplot(row, column)
    if isinstance(panel, Space):
        name = found.plotly_name
        return Place(name, name, tuple(found.domain.x), tuple(found.domain.y), number)
    x, y = (axis.plotly_name.replace("axis", "") for axis in (found.xaxis, found.yaxis))
    return Place(x, y, tuple(found.xaxis.domain), tuple(found.yaxis.domain), number)


def _below(panel: Panel | None) -> int:
    """Return the pixels that the labels below a panel need."""
    if isinstance(panel, Space | Table):
        return 16 if isinstance(panel, Space) else 8
    axis = panel.x_axis if isinstance(panel, Plane) else panel.x if isinstance(panel, Curves) else None
    label = axis.label if axis else panel.axis.label if isinstance(panel, Bars) else ""
    names = max(map(len, panel.columns)) if isinstance(panel, Matrix) else 0
    return 30 + 19 * (label.count("\n") + 1 if label else 0) + (8 * names if names > 2 else 14 if names else 0)


def _between(sheet: Sheet) -> int:
    """Return the pixels between two rows of panels: labels, titles and notes."""
    below = max((_below(panel) for row in sheet.rows[:-1] for panel in row), default=0)
    heads = [_above(panel) for row in sheet.rows[1:] for panel in row]
    return below + max(heads, default=0)


def _above(panel: Panel | None) -> int:
    """Return the pixels that the title and the note above a panel need."""
    title, note = getattr(panel, "title", ""), getattr(panel, "note", "")
    return 8 + (18 * (title.count("\n") + 1) if title else 0) + (15 * (note.count("\n") + 1) if note else 0)


def _has_bar(panel: Panel | None, several: bool = True) -> bool:
    if isinstance(panel, Curves):
        return panel.path is not None
    return (isinstance(panel, Matrix) and not (panel.compact and several)) or (
        isinstance(panel, Plane) and panel.own_scale
    )


def _shares(row: list[Panel | None]) -> bool:
    planes = [panel.plane if isinstance(panel, Space) else panel for panel in row]
    return any(isinstance(panel, Plane) and not panel.own_scale for panel in planes)


def _label_room(panel: Panel | None) -> int:
    """Return the pixels that the labels at the left of a panel need."""
    names = panel.names if isinstance(panel, Bars) else panel.rows if isinstance(panel, Matrix) else []
    if isinstance(panel, Space | Table):
        return 24 if isinstance(panel, Space) else 12
    if isinstance(panel, Curves) and "\n" in panel.y.label:
        return _LEFT + 22
    return max([_LEFT, *(22 + int(6.4 * len(name)) for name in names)])


def _share_scale(figure: go.Figure, sheet: Sheet) -> None:
    """Give several planes one colour bar and the same piece of the plane."""
    every = [p.plane if isinstance(p, Space) else p for row in sheet.rows for p in row]
    shared = [p for p in every if isinstance(p, Plane) and not p.own_scale]
    if not shared:
        return
    whole = Place("x", "y", (0.0, 1.0), (0.0, 1.0), 1)
    bar = colour_bar(whole, shared[0].label, shared[0].ticks, beyond=0.015)
    figure.update_layout(
        coloraxis={"colorscale": ramp("sequential"), "cmin": shared[0].low, "cmax": shared[0].high, "colorbar": bar}
    )
    for trace in figure.select_traces(selector=lambda t: t.type in ("contour", "heatmap") and t.customdata is not None):
        trace.update(coloraxis="coloraxis", zauto=None, zmin=None, zmax=None, colorscale=None, showscale=None)
    for trace in figure.select_traces({"type": "surface"}):
        trace.update(coloraxis="coloraxis", cmin=None, cmax=None, colorscale=None, showscale=None)
    for found in (figure.select_xaxes(), figure.select_yaxes()):
        axes = [axis for axis in found if axis.range is not None]
        if not axes:
            continue
        limits = [min(a.range[0] for a in axes), max(a.range[1] for a in axes)]
        for axis in axes:
            axis.update(range=limits)
