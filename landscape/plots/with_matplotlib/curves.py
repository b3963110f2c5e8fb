"""Curves, bars and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from landscape.plots import style
from landscape.plots.placement import quiet_corner, quiet_spot, reach_of
from landscape.plots.scales import Axis
from landscape.plots.sheets import Bars, Curve, Curves, Path, Reference, Table
from landscape.plots.with_matplotlib.look import (
    dress,
    finish_ticks,
    head,
    inches_across,
    length_of,
    plain,
    ramp,
    set_axis,
)

_MARKERS = {"": "", "circle": "o", "cross": "x", "diamond": "D"}
_EDGE = 4  # points from a table's edge to its names, which so stand below the figure's title


def curves(axes: Axes, panel: Curves) -> None:
    """Paint curves over two axes."""
    dress(axes)
    set_axis(axes, "x", panel.x)
    set_axis(axes, "y", panel.y)
    for span in panel.spans:
        axes.axvspan(span.low, span.high, color=span.colour, linewidth=0, alpha=0.55, zorder=0.5)
    for curve in panel.curves:
        _curve(axes, curve)
    if panel.path is not None:
        colours = path(axes, panel.path)
        axes.autoscale_view()
        assert axes.figure is not None
        dress_bar(axes.figure.colorbar(colours, ax=axes, pad=0.02, fraction=0.05, aspect=30), "step")
    for reference in panel.references:
        length = length_of(reference.text, style.SMALL) / inches_across(axes)
        refer(axes, reference, *quiet_spot(panel, reference.value, length))
    if panel.y.limits is None:
        _room_for_points(axes, panel)
    finish_ticks(axes)
    if panel.path is not None or (panel.legend and any(curve.label for curve in panel.curves)):
        legend(axes)
    if panel.remark:
        up, across = quiet_corner(panel).split()
        axes.annotate(
            plain(panel.remark), (float(across == "right"), float(up == "top")),
            (-3 if across == "right" else 3, -3 if up == "top" else 3), xycoords="axes fraction",
            textcoords="offset points", ha=across, va=up, fontsize=style.SMALL, color=style.MUTED, zorder=3.5,
        )  # fmt: skip
    head(axes, panel.title, panel.note)


def legend(axes: Axes, **where: Any) -> None:
    """Add a legend with a light ground."""
    if "handles" not in where and not axes.get_legend_handles_labels()[0]:
        return
    found = axes.legend(
        **({"loc": "best"} | where), fontsize=style.SMALL, frameon=True, framealpha=0.8, edgecolor="none", borderpad=0.3
    )
    for words in found.get_texts():
        words.set_color(style.INK)
        words.set_text(plain(words.get_text()))


def _curve(axes: Axes, curve: Curve) -> None:
    colour = curve.colour
    common: dict[str, Any] = {"color": colour, "alpha": curve.opacity}
    label = curve.label or "_nolegend_"
    if curve.stems:
        axes.vlines(curve.x, 0, curve.y, linewidth=1.0, color=colour, alpha=0.45)
    if curve.low is not None and curve.high is not None:
        if curve.interval == "band":
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        else:
            keep = np.isfinite(curve.low) & np.isfinite(curve.high) & np.isfinite(curve.y)
            x, low, high = curve.x[keep], curve.low[keep], curve.high[keep]
            axes.vlines(x, low, high, linewidth=1.1, color=colour)
            for ends in (low, high):
                axes.plot(x, ends, linestyle="", marker="_", markersize=5, color=colour)
    if curve.line:
        axes.plot(
            curve.x, curve.y, style.DASHES[curve.line], linewidth=curve.width, label=label, **common,
            solid_joinstyle="round",
        )  # fmt: skip
        label = "_nolegend_"
    if curve.marker:
        hollow = np.zeros(len(curve.x), bool) if curve.hollow is None else curve.hollow
        for mask, inside in ((~hollow, colour), (hollow, "white")):
            if mask.any():
                axes.plot(
                    curve.x[mask], curve.y[mask], linestyle="", marker=_MARKERS[curve.marker], markersize=4.5,
                    markerfacecolor=inside, markeredgecolor=colour, markeredgewidth=1.1, alpha=curve.opacity,
                    label=label, zorder=3,
                )  # fmt: skip
                label = "_nolegend_"


def refer(axes: Axes, reference: Reference, at: float = 1.0, side: str = "right", where: str = "above") -> None:
    """Paint a thin reference line with its words on one side of it."""
    line: dict[str, Any] = {"color": style.MUTED, "linewidth": style.THIN, "zorder": 1}
    line["linestyle"] = style.DASHES[reference.line]
    words = plain(reference.text)
    if reference.along == "x":
        axes.axvline(reference.value, **line)
        place, offset, frame = (reference.value, 1.0), (3, -3), axes.get_xaxis_transform()
        align: dict[str, Any] = {"ha": "left", "va": "top"}
    else:
        axes.axhline(reference.value, **line)
        shift = {"right": -2, "left": 3, "center": 0}[side]
        above = where == "above"
        place, offset, frame = (at, reference.value), (shift, 2 if above else -2), axes.get_yaxis_transform()
        align = {"ha": side, "va": "bottom" if above else "top"}
    if words:
        axes.annotate(
            words, place, offset, xycoords=frame, textcoords="offset points", fontsize=style.SMALL,
            color=style.MUTED, zorder=3.5, **align,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def path(axes: Axes, shown: Path) -> LineCollection:
    """Paint a path coloured by step with its start (circle) and end (square) marked; return its colours."""
    points = np.stack([shown.x, shown.y], axis=1)[:, None, :]
    pieces = np.concatenate([points[:-1], points[1:]], axis=1)
    axes.add_collection(LineCollection(list(pieces), colors="#333333", linewidths=3.0, capstyle="round", zorder=4))
    inner = LineCollection(list(pieces), cmap=ramp("steps"), linewidths=1.8, capstyle="round", zorder=4.1)
    inner.set_array(np.asarray(shown.steps[1:], float))
    inner.set_clim(float(np.min(shown.steps)), float(np.max(shown.steps)) or 1.0)
    axes.add_collection(inner)
    if len(shown.steps) <= 80:
        axes.scatter(
            shown.x, shown.y, c=shown.steps, cmap=ramp("steps"), s=16, edgecolors="#333333", linewidths=0.6, zorder=4.2
        )
    for index, marker, name in ((0, "o", "start"), (-1, "s", "end")):
        axes.plot(
            shown.x[index], shown.y[index], marker=marker, markersize=9.5, linestyle="", zorder=4.3,
            label=f"{name} (step {shown.steps[index]})",
            markerfacecolor=style.STEPS[0 if index == 0 else -1], markeredgecolor=style.INK, markeredgewidth=1.0,
        )  # fmt: skip
    return inner


def dress_bar(bar: Any, label: str) -> None:
    """Give a colour bar its fonts."""
    bar.set_label(plain(label), fontsize=style.LABEL, color=style.INK)
    bar.ax.tick_params(labelsize=style.SMALL, colors=style.INK, length=3, width=0.6)
    bar.outline.set_linewidth(0.5)
    bar.outline.set_edgecolor(style.MUTED)


def _room_for_points(axes: Axes, panel: Curves) -> None:
    """Keep error bars far larger than the values from flattening them."""
    reach = reach_of(panel)
    if reach is not None and axes.get_yscale() == "linear":
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, reach[0]), min(high, reach[1]))


def bars(axes: Axes, panel: Bars) -> None:
    """Paint named values, one a row."""
    dress(axes)
    rows = np.arange(len(panel.names))
    set_axis(axes, "x", panel.axis)
    keep = np.isfinite(panel.low) & np.isfinite(panel.high)
    if panel.dots:
        axes.scatter(panel.values, rows, s=25, color=panel.colours or style.BLUE, zorder=3)
    else:
        axes.barh(rows, panel.values, height=0.62, color=panel.colours or style.SKY)
    axes.hlines(rows[keep], panel.low[keep], panel.high[keep], color=style.INK, linewidth=1.1)
    set_axis(axes, "y", Axis(limits=(len(rows) - 0.4, -0.6)))
    axes.set_yticks(rows, [plain(name) for name in panel.names], fontsize=style.SMALL)
    for reference in panel.references:
        refer(axes, reference)
    if panel.texts:
        ends = np.fmax(np.fmax(panel.values, np.where(keep, panel.high, -np.inf)), 0.0)
        for row, end, words in zip(rows, ends, panel.texts, strict=True):
            axes.annotate(
                plain(words), (end, row), (7 if panel.dots else 4, 0), textcoords="offset points", va="center",
                fontsize=style.SMALL, color=style.INK,
            )  # fmt: skip
        if panel.axis.limits is None:
            axes.margins(x=0.12)
    finish_ticks(axes)
    head(axes, panel.title)


def table(axes: Axes, panel: Table) -> None:
    """Paint rows of names and texts."""
    axes.set_axis_off()
    head(axes, panel.title)
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    drop = -6.0
    for line in panel.lines:
        drop -= 19 * panel.pitch * line.above
        bold: dict[str, Any] = {"fontweight": "bold"} if panel.letters else {}
        axes.annotate(plain(line.name), (0, 1), (_EDGE, drop), fontsize=style.LABEL, color=line.colour, **bold, **look)
        where = ((0, 1), (_EDGE + 72 * panel.beside, drop)) if panel.letters else ((1, 1), (0, drop))
        side = "left" if panel.letters else "right"
        axes.annotate(plain(line.text), *where, fontsize=style.LABEL, color=style.INK, ha=side, **look)
        drop -= 19 * panel.pitch
    axes.annotate(plain(panel.note), (0, 1), (_EDGE, drop), fontsize=style.SMALL, color=style.MUTED, **look)
