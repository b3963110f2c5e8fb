"""Planes, surfaces in three dimensions and matrices."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from landscape.plots import style
from landscape.plots.sheets import Matrix, Plane, Space
from landscape.plots.with_matplotlib.curves import dress_bar, legend, path
from landscape.plots.with_matplotlib.look import dress, head, plain, ramp, set_axis


def scale_of(panel: Plane) -> ScalarMappable:
    """Return the colours of ``panel``, for colour bars."""
    return ScalarMappable(Normalize(panel.low, panel.high), ramp("sequential"))


def scale_bar(figure: Any, panel: Plane, axes: Any) -> None:
    """Add the colour bar of ``panel`` beside ``axes`` (one or several)."""
    bar = figure.colorbar(scale_of(panel), ax=axes, pad=0.02, fraction=0.06, aspect=30)
    bar.set_ticks(list(panel.ticks), labels=[plain(words) for words in panel.ticks.values()])
    bar.minorticks_off()
    dress_bar(bar, panel.label)


def plane(axes: Axes, panel: Plane) -> None:
    """Paint filled contours or cells, what has no value, the centre and the path."""
    dress(axes, grid=False)
    set_axis(axes, "x", panel.x_axis)
    set_axis(axes, "y", panel.y_axis)
    across, up = cell_edges(panel.x), cell_edges(panel.y)
    handles: list[Patch] = []
    for mask, colour, hatch, name in (
        (panel.not_evaluated, style.NOT_EVALUATED, "..", "not evaluated"),
        (panel.not_finite, style.NOT_FINITE, "////", "not finite"),
    ):
        if mask.any():
            look: dict[str, Any] = {"hatch": hatch, "edgecolor": "#6E6E6E", "linewidth": 0}
            cells = np.ma.masked_where(~mask, np.ones(mask.shape))
            axes.pcolor(across, up, cells, cmap=ListedColormap([colour]), zorder=0.5, **look)
            handles.append(Patch(facecolor=colour, label=f"{name} ({int(mask.sum())})", **look))
    shown = np.ma.masked_invalid(np.clip(panel.colour, panel.low, panel.high))
    if shown.count() and panel.filled:
        _contours(axes, panel, shown)
    elif shown.count():
        axes.pcolormesh(across, up, shown, cmap=ramp("sequential"), vmin=panel.low, vmax=panel.high, zorder=1)
    if panel.own_scale:
        assert axes.figure is not None
        scale_bar(axes.figure, panel, axes)
    if panel.centre and _inside(panel):
        axes.plot(
            0, 0, marker="*", markersize=9, markerfacecolor="white", markeredgecolor=style.INK, linestyle="",
            zorder=4.5, label="centre",
        )  # fmt: skip
    if panel.path is not None:
        path(axes, panel.path)
    for which, own in (("x", (panel.x if panel.filled else across)), ("y", (panel.y if panel.filled else up))):
        getattr(axes, f"set_{which}lim")(*window(own, getattr(panel.path, which, None)))
    if panel.equal:
        axes.set_aspect("equal")
    axes.locator_params(nbins=9 if panel.own_scale else 5)
    if handles or panel.own_scale:
        assert axes.figure is not None
        found, _ = axes.get_legend_handles_labels()
        raised = 0.04 if panel.own_scale else 0.24  # above the panel's title where it has one
        above = axes.transAxes + ScaledTranslation(-0.04, raised, axes.figure.dpi_scale_trans)
        where = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "bbox_transform": above, "borderaxespad": 0.0}
        look = {"handletextpad": 0.4, "columnspacing": 1.2}
        legend(axes, handles=[*found, *handles], ncols=5 if panel.own_scale else 2, **where, **look)
    head(axes, panel.title, panel.note)


def _contours(axes: Axes, panel: Plane, shown: Any) -> None:
    """Paint bands between levels, and below them cells of the same colours, which reach up to every hole."""
    levels = np.asarray(panel.levels, float)
    edges = levels.copy()
    edges[-1] += 1e-9 * max(1.0, abs(edges[-1]))  # the last band holds its upper end
    look: dict[str, Any] = {"cmap": ramp("sequential"), "norm": Normalize(panel.low, panel.high)}
    middles = (levels[1:] + levels[:-1]) / 2
    band = np.clip(np.searchsorted(edges, shown.filled(panel.low), side="right") - 1, 0, len(middles) - 1)
    cells = np.ma.masked_where(np.ma.getmaskarray(shown), middles[band])
    axes.pcolormesh(cell_edges(panel.x), cell_edges(panel.y), cells, zorder=0.6, **look)
    if min(shown.shape) < 2:
        return
    axes.contourf(panel.x, panel.y, shown, levels=edges, zorder=1, **look)
    inner = levels[1:-1]
    inner = inner[(inner > float(shown.min())) & (inner < float(shown.max()))]
    if len(inner):
        lines: dict[str, Any] = {"colors": "white", "linewidths": 0.5, "linestyles": "solid", "alpha": 0.7}
        axes.contour(panel.x, panel.y, shown, levels=inner, zorder=1.1, **lines)


def window(own: np.ndarray, path: np.ndarray | None) -> tuple[float, float]:
    """Return the range of ``own``, made wider where the path leaves it."""
    low, high = float(own.min()), float(own.max())
    if path is not None and np.isfinite(path).any():
        margin = 0.04 * (high - low)
        first, last = float(np.nanmin(path)), float(np.nanmax(path))
        low, high = min(low, first - margin), max(high, last + margin)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _inside(panel: Plane) -> bool:
    return bool(panel.x.min() <= 0 <= panel.x.max() and panel.y.min() <= 0 <= panel.y.max())


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells around ``centres``."""
    if len(centres) < 2:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def space(axes: Any, panel: Space) -> None:
    """Paint a surface in three dimensions."""
    flat = panel.plane
    across, up = np.meshgrid(flat.x, flat.y)
    height = np.ma.masked_invalid(np.clip(flat.colour, flat.low, flat.high))
    axes.computed_zorder = False
    axes.plot_surface(
        across, up, height.filled(np.nan), cmap=ramp("sequential"), vmin=flat.low, vmax=flat.high, linewidth=0.15,
        edgecolor=(1, 1, 1, 0.35), rcount=120, ccount=120, antialiased=True, zorder=1,
    )  # fmt: skip
    if np.isfinite(panel.centre_height) and flat.centre:
        axes.plot(
            [0], [0], [panel.centre_height], marker="*", markersize=11, markerfacecolor="white",
            markeredgecolor=style.INK, linestyle="", label="centre", zorder=5,
        )  # fmt: skip
    if flat.path is not None and flat.path.z is not None:
        points = np.stack([flat.path.x, flat.path.y, flat.path.z], axis=1)
        axes.plot(*points.T, color=style.STEPS[-3], linewidth=2, zorder=4)
        for index, mark, name in ((0, "o", "start"), (-1, "s", "end")):
            look: dict[str, Any] = {"markerfacecolor": style.STEPS[index], "markeredgecolor": style.INK}
            label = f"{name} (step {flat.path.steps[index]:.0f})"
            axes.plot(*points[[index]].T, marker=mark, markersize=7, linestyle="", zorder=4.5, label=label, **look)
    axes.set_zticks(list(flat.ticks), [plain(words) for words in flat.ticks.values()])
    axes.set_zlim(flat.low, flat.high)
    if flat.own_scale:  # otherwise the colour bar names the height
        axes.set_zlabel(plain(flat.label), fontsize=style.LABEL, color=style.INK)
    for which, axis in (("x", flat.x_axis), ("y", flat.y_axis)):
        words = plain("\n".join(wrap(axis.label, 24)))
        getattr(axes, f"set_{which}label")(words, fontsize=style.SMALL, color=style.INK, labelpad=8)
        getattr(axes, f"{which}axis").set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=style.SMALL - 1, colors=style.INK, pad=1)
    for inner in (axes.xaxis, axes.yaxis, axes.zaxis):
        inner.pane.set_facecolor("#F7F7F7")
        inner._axinfo["grid"].update(color=style.GRID, linewidth=0.6)
    axes.view_init(elev=panel.elevation, azim=panel.azimuth)
    axes.set_box_aspect((1, 1, 0.75), zoom=0.86)
    if flat.own_scale:
        legend(axes, loc="upper left")
    head(axes, panel.title)


def matrix(axes: Axes, panel: Matrix) -> None:
    """Paint a labelled matrix."""
    dress(axes, grid=False)
    shown = np.ma.masked_where(panel.greyed, panel.values)
    axes.set_facecolor("#D9D9D9")
    image = axes.imshow(shown, cmap=ramp(panel.ramp), vmin=panel.low, vmax=panel.high, aspect="equal")
    count_rows, count_columns = panel.values.shape
    longest = max(map(len, panel.columns))
    turn = 0 if longest * count_columns < 36 or (panel.axis and longest <= 2) else 90 if panel.compact else 40
    axes.set_xticks(range(count_columns), [plain(name) for name in panel.columns], fontsize=style.SMALL, rotation=turn)
    for name in axes.get_xticklabels():
        name.set_horizontalalignment("right" if turn else "center")
        name.set_rotation_mode("anchor")
    axes.set_yticks(range(count_rows), [plain(name) for name in panel.rows], fontsize=style.SMALL)
    small = style.SMALL if count_columns <= 8 else style.SMALL - 1.5
    for row, column in np.ndindex(panel.values.shape):
        if panel.marked[row, column]:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=style.INK, lw=1.8))
        if panel.show_numbers and not panel.greyed[row, column]:
            value = panel.values[row, column]
            ink = "white" if abs(value) > 0.6 * panel.high else style.INK
            words = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
            axes.text(column, row, words, ha="center", va="center", fontsize=small, color=ink)
    assert axes.figure is not None
    if panel.axis:
        axes.set_xlabel(plain(panel.axis), fontsize=style.LABEL, color=style.INK)
        axes.set_ylabel(plain(panel.axis), fontsize=style.LABEL, color=style.INK)
    axes.set_anchor("W" if panel.compact else "N")
    beside = (1.05, 0.0, 0.06, 1.0) if panel.compact else (1.04, 0.0, 0.04, 1.0)
    dress_bar(axes.figure.colorbar(image, cax=axes.inset_axes(beside)), panel.label)
    head(axes, panel.title, panel.note)
