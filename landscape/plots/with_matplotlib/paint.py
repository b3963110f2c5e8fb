"""From a sheet to a matplotlib figure."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from landscape.plots import style
from landscape.plots.sheets import Bars, Curves, Matrix, Panel, Plane, Sheet, Space, Table
from landscape.plots.titles import wrap
from landscape.plots.with_matplotlib import curves, planes
from landscape.plots.with_matplotlib.look import plain

_PAINTERS: dict[type[Panel], Any] = {
    Curves: curves.curves,
    Bars: curves.bars,
    Table: curves.table,
    Plane: planes.plane,
    Space: planes.space,
    Matrix: planes.matrix,
}


class Drawing(Figure):
    """A figure that shows itself in a notebook although pyplot knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def paint(sheet: Sheet) -> Figure:
    """Return ``sheet`` as a figure that belongs to nobody else: pyplot does not know of it."""
    below = wrap(sheet.subtitle, sheet.size[0])
    head = (0.36 if sheet.title else 0.0) + 0.19 * len(below) + 0.08
    top = 1 - head / sheet.size[1]
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1 - 0.1 / sheet.size[0], top))
    figure = Drawing(figsize=sheet.size, dpi=100, layout=engine, facecolor="white")
    widths = sheet.widths or [1.0] * len(sheet.rows[0])
    grid = figure.add_gridspec(len(sheet.rows), len(sheet.rows[0]), width_ratios=widths, height_ratios=sheet.heights)
    painted = []
    for row, panels in enumerate(sheet.rows):
        for column, panel in enumerate(panels):
            if panel is None:
                continue
            projection = "3d" if isinstance(panel, Space) else None
            axes = figure.add_subplot(grid[row, column], projection=projection)
            _PAINTERS[type(panel)](axes, panel)
            painted.append((axes, panel))
    flat = [(axes, panel.plane if isinstance(panel, Space) else panel) for axes, panel in painted]
    shared = [(axes, panel) for axes, panel in flat if isinstance(panel, Plane) and not panel.own_scale]
    if shared:
        planes.scale_bar(figure, shared[0][1], [axes for axes, _ in shared])
        _same_limits([axes for axes, _ in shared])
    _write_head(figure, sheet, below)
    return figure


def _write_head(figure: Figure, sheet: Sheet, below: list[str]) -> None:
    """Write the titles at fixed distances from the upper edge, whatever the size."""
    edge, drop = 0.1 / sheet.size[0], 0.09
    look: dict[str, Any] = {"ha": "left", "va": "top", "in_layout": False}
    if sheet.title:
        font: dict[str, Any] = {"fontsize": style.TITLE, "fontweight": "bold", "color": style.INK}
        figure.text(edge, 1 - drop / sheet.size[1], plain(sheet.title), **font, **look)
        drop += 0.28
    words = plain("\n".join(below))
    figure.text(edge, 1 - drop / sheet.size[1], words, fontsize=style.SUBTITLE, color=style.MUTED, **look)


def _same_limits(every: list[Any]) -> None:
    """Show the same piece of the plane in each of several panels."""
    for which in ("x", "y"):
        limits = [getattr(axes, f"get_{which}lim")() for axes in every]
        for axes in every:
            getattr(axes, f"set_{which}lim")(min(low for low, _ in limits), max(high for _, high in limits))
