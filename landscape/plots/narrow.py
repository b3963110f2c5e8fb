"""The same sheet for a narrow screen: one panel below another."""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap

import numpy as np

from landscape.plots.sheets import Bars, Curves, Matrix, Panel, Plane, Sheet, Space, Table
from landscape.plots.titles import shorten

_LETTERS = 44  # that fit below a panel


def stacked(sheet: Sheet, width: float = 3.8) -> Sheet:
    """Return ``sheet`` with its panels in one column of ``width`` inches."""
    panels = [_folded(panel) for row in sheet.rows for panel in row if panel is not None]
    heights = [_height(panel, width) for panel in panels]
    rows: list[list[Panel | None]] = [[panel] for panel in panels]
    total = sum(heights) + 0.95 * len(panels) + 0.3
    return Sheet(sheet.title, sheet.subtitle, rows, (width, total), heights=heights)


def _folded(panel: Panel) -> Panel:
    """Return ``panel`` with its words broken into lines, or shortened, that fit a narrow column."""
    if isinstance(panel, Curves):
        x = replace(panel.x, label="\n".join(line for part in panel.x.label.split("\n") for line in wrap(part, 40)))
        y = replace(panel.y, label="\n".join(wrap(panel.y.label, 30)))
        return replace(panel, x=x, y=y, title=_lines(panel.title), note=_lines(panel.note))
    if isinstance(panel, Bars):
        axis = replace(panel.axis, label=_lines(panel.axis.label))
        return replace(panel, names=[shorten(name, 20) for name in panel.names], axis=axis, title=_lines(panel.title))
    if isinstance(panel, Matrix):
        return replace(panel, compact=True, note=_lines(panel.note), show_numbers=len(panel.rows) <= 4)
    if isinstance(panel, Table) and panel.letters:
        return replace(panel, letters=_LETTERS, folded=True)
    if isinstance(panel, Plane):
        x, y = (replace(axis, label="\n".join(wrap(axis.label, 24))) for axis in (panel.x_axis, panel.y_axis))
        return replace(panel, x_axis=x, y_axis=y)
    return panel


def _lines(words: str) -> str:
    return "\n".join(line for part in words.replace(" %", "\u00a0%").split("\n") for line in wrap(part, _LETTERS))


def _height(panel: Panel, width: float) -> float:
    """Return the inches that the inside of a panel needs."""
    if isinstance(panel, Bars):
        return 0.3 + 0.24 * len(panel.names)
    if isinstance(panel, Table):
        return 0.27 * panel.height
    if isinstance(panel, Space):
        return 2.5
    if isinstance(panel, Matrix):
        return 2.2
    if isinstance(panel, Plane):
        from landscape.plots.views.surface import aspect

        return float(np.clip((width - 1.8) / (aspect(panel) if panel.equal else 1.0), 1.4, 4.0))
    return 1.8
