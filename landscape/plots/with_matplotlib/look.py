"""How axes look: fonts, grid, titles; set on each artist, so that no global setting changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from landscape.plots import style
from landscape.plots.scales import Axis, Symlog
from landscape.plots.scales import text as as_text


def plain(words: str) -> str:
    """Return ``words`` so that a dollar sign is a dollar sign and not the start of a formula."""
    return words.replace("$", r"\$")


def ramp(name: str) -> Colormap:
    """Return one of the shared colour ramps."""
    return LinearSegmentedColormap.from_list(f"landscape_{name}", style.RAMPS[name])


def dress(axes: Axes, *, grid: bool = True) -> None:
    """Give ``axes`` its fonts, thin grid lines and two spines."""
    axes.set_facecolor("white")
    axes.set_axisbelow(True)
    axes.grid(False, which="both")
    if grid:
        axes.grid(True, color=style.GRID, linewidth=0.6, linestyle="-")
    axes.tick_params(labelsize=style.SMALL, colors=style.INK, length=3, width=0.6, which="major")
    axes.tick_params(length=0, which="minor")
    for side, spine in axes.spines.items():
        spine.set_visible(not grid or side in ("left", "bottom"))
        spine.set_color(style.MUTED)
        spine.set_linewidth(0.7)


def inches_across(axes: Any) -> float:
    """Return about how wide ``axes`` will be, in inches; what they are exactly is known only when drawn."""
    spec = axes.get_subplotspec()
    shares = spec.get_gridspec().get_width_ratios()
    return float(0.78 * axes.figure.get_figwidth() * shares[spec.colspan.start] / sum(shares))


def length_of(words: str, size: float) -> float:
    """Return about how long ``words`` are at font ``size``, in inches."""
    return max(map(len, words.split("\n"))) * size * 0.56 / 72


def head(axes: Any, words: str, note: str = "") -> None:
    """Put a panel's title at its left and its note at the right; below the title where both do not fit."""
    small = style.SMALL - 0.5
    beside = length_of(words, style.LABEL + 1) + length_of(note, small) < inches_across(axes)
    if words:
        pad = 5.0 if beside or not note else 16.0
        axes.set_title(plain(words), loc="left", fontsize=style.LABEL, fontweight="bold", color=style.INK, pad=pad)
    if note:
        left = bool(words) and not beside
        axes.annotate(
            plain(note), (0.0 if left else 1.0, 1.0), (0, 4), xycoords="axes fraction", textcoords="offset points",
            ha="left" if left else "right", va="bottom", fontsize=small, color=style.MUTED,
        )  # fmt: skip


def set_axis(axes: Axes, which: str, axis: Axis) -> None:
    """Give the x or y axis its label, scale, limits and ticks."""
    settings: dict[str, Any] = {}
    scale: str = "linear"
    if isinstance(axis.scale, Symlog):
        scale, settings = "function", {"functions": (axis.scale.forward, axis.scale.inverse)}
    elif axis.scale == "log":
        scale, settings = "log", {"nonpositive": "mask"}
    getattr(axes, f"set_{which}scale")(scale, **settings)
    label = getattr(axes, f"set_{which}label")
    label(plain(axis.label), fontsize=style.LABEL, color=style.INK)
    if axis.limits is not None:
        getattr(axes, f"set_{which}lim")(*axis.limits)
    inner = getattr(axes, f"{which}axis")
    if axis.ticks:
        inner.set_major_locator(FixedLocator(list(axis.ticks)))
        inner.set_major_formatter(FuncFormatter(lambda value, _: plain(_nearest(axis.ticks, value))))
        inner.set_minor_locator(NullLocator())


def finish_ticks(axes: Axes) -> None:
    """Name 1, 2 and 5 along a logarithmic axis that holds few powers of ten, and only those where it holds more.

    Along a linear axis of very large or small values each has its power of ten.
    """
    for which in ("x", "y"):
        inner = getattr(axes, f"{which}axis")
        low, high = getattr(axes, f"get_{which}lim")()
        size = max(abs(low), abs(high))
        if inner.get_scale() == "linear" and not 1e-3 <= size < 1e5 and abs(high - low) > 0.1 * size:
            inner.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            inner.set_major_formatter(FuncFormatter(lambda value, _: as_text(value)))
        if inner.get_scale() != "log":
            continue
        decades = np.log10(high / low)
        marks = (1.0, 2.0, 5.0) if decades < 1.7 else (1.0, 3.0) if decades < 2.5 else (1.0,)
        inner.set_major_locator(LogLocator(subs=marks, numticks=9))
        inner.set_major_formatter(FuncFormatter(lambda value, _: as_text(value)))
        inner.set_minor_locator(NullLocator())


def _nearest(ticks: dict[float, str], value: float) -> str:
    key = min(ticks, key=lambda tick: abs(tick - value))
    return ticks[key]
