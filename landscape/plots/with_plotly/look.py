"""How plotly figures look, in light and in dark surroundings, and where a panel lies in its figure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from landscape.plots import style
from landscape.plots.scales import Axis, Symlog

_PIXELS_PER_POINT = 96 / 72
TITLE, SUBTITLE, LABEL, SMALL = (
    round(size * _PIXELS_PER_POINT) for size in (style.TITLE, style.SUBTITLE, style.LABEL, style.SMALL)
)


@dataclass
class Place:
    """One panel's place: its axes' names (``x3``) and its domain in the figure (0 to 1)."""

    x: str
    y: str
    across: tuple[float, float]
    up: tuple[float, float]
    number: int

    def axis(self, which: str) -> str:
        """Return the layout's key of the x or y axis."""
        name = self.x if which == "x" else self.y
        return f"{which}axis{name[1:]}"


def plain(words: str) -> str:
    """Return ``words`` so that nothing in them is read as markup."""
    return escape(str(words), quote=False).replace("\n", "<br>")


def ramp(name: str) -> list[list[Any]]:
    """Return one of the shared colour ramps."""
    colours = style.RAMPS[name]
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


def template(*, dark: bool = False) -> dict[str, Any]:
    """Return the colours and fonts that surround the data; the data's own colours suit both."""
    ink, muted, grid, ground = (
        ("#E6E6E6", "#A6A6A6", "#3A3F47", "#16191D") if dark else (style.INK, "#6B6B6B", style.GRID, "#FFFFFF")
    )
    axis = {
        "gridcolor": grid, "linecolor": muted, "showline": True, "linewidth": 0.8, "zeroline": False,
        "ticks": "outside", "ticklen": 4, "tickcolor": muted, "automargin": True,
        "tickfont": {"size": SMALL}, "title": {"font": {"size": LABEL}, "standoff": 6},
        "minexponent": 4, "exponentformat": "power",
    }  # fmt: skip
    space = {"backgroundcolor": ground, "gridcolor": grid, "color": ink, "tickfont": {"size": SMALL}}
    shade = "rgba(22,25,29,0.7)" if dark else "rgba(255,255,255,0.75)"
    return {
        "layout": {
            "font": {"color": ink, "size": LABEL, "family": "Helvetica Neue, Arial, sans-serif"},
            "paper_bgcolor": ground,
            "plot_bgcolor": ground,
            "colorway": list(style.PALETTE),
            "xaxis": axis,
            "yaxis": axis,
            "scene": {f"{name}axis": space for name in "xyz"},
            "legend": {"bgcolor": shade, "font": {"size": SMALL}},
            "title": {"font": {"size": TITLE, "color": ink}, "subtitle": {"font": {"size": SUBTITLE, "color": muted}}},
            "hoverlabel": {"font": {"size": SMALL}},
        }
    }


def set_axis(figure: Any, place: Place, which: str, axis: Axis, shown: np.ndarray | None = None) -> None:
    """Give the x or y axis of a panel its label, scale, limits and ticks; ``shown`` are its values."""
    settings: dict[str, Any] = {"title": {"text": plain(axis.label)}}
    if axis.scale == "log":
        step = _log_step(axis, shown)
        settings |= {"type": "log", "dtick": step, "tickformat": ".6~g" if _is_near_one(axis, shown) else None}
    if axis.limits is not None:
        ends = np.log10(axis.limits) if axis.scale == "log" else axis.place(axis.limits)
        settings["range"] = [float(end) for end in ends]
    if axis.ticks:
        settings["tickmode"] = "array"
        settings["tickvals"] = [float(value) for value in axis.place(list(axis.ticks))]
        settings["ticktext"] = [plain(words) for words in axis.ticks.values()]
    figure.layout[place.axis(which)].update(settings)


def _positive(axis: Axis, shown: np.ndarray | None) -> np.ndarray:
    values = np.asarray(axis.limits if axis.limits is not None else shown if shown is not None else [1.0, 1e3], float)
    return values[np.isfinite(values) & (values > 0)]


def _is_near_one(axis: Axis, shown: np.ndarray | None) -> bool:
    """Whether decimals name the values of a logarithmic axis better than powers of ten do."""
    values = _positive(axis, shown)
    return bool(len(values) and values.min() > 3e-5 and values.max() < 3e5)


def _log_step(axis: Axis, shown: np.ndarray | None) -> Any:
    values = _positive(axis, shown)
    decades = np.log10(values.max() / values.min()) if len(values) else 3.0
    return "D2" if decades < 2 else int(max(1, np.ceil(decades / 8)))


def head(figure: Any, place: Place, title: str, note: str) -> None:
    """Write a panel's title at its upper left and its note at its upper right, or below the title if they collide."""
    where = {"xref": f"{place.x} domain", "yref": f"{place.y} domain", "y": 1.0, "yanchor": "bottom", "yshift": 3}
    if title and note and length_of(title, LABEL + 1) + length_of(note, SMALL) > pixels_across(figure, place):
        below = f'<span style="font-size:{SMALL - 1}px;color:{style.MUTED}">{plain(note)}</span>'
        both = f"<b>{plain(title)}</b><br>{below}"
        figure.add_annotation(
            text=both, x=0, xanchor="left", showarrow=False, font={"size": LABEL}, align="left", **where
        )
        return
    if title:
        figure.add_annotation(
            text=f"<b>{plain(title)}</b>",
            x=0,
            xanchor="left",
            showarrow=False,
            font={"size": LABEL},
            align="left",
            **where,
        )
    if note:
        font = {"size": SMALL - 1, "color": style.MUTED}
        figure.add_annotation(
            text=plain(note), x=1, xanchor="right", showarrow=False, font=font, align="right", **where
        )


def pixels_across(figure: Any, place: Place) -> float:
    """Return how wide a panel is, in pixels."""
    margin = figure.layout.margin
    return float((place.across[1] - place.across[0]) * (figure.layout.width - margin.l - margin.r))


def pixels_up(figure: Any, place: Place) -> float:
    """Return how high a panel is, in pixels."""
    margin = figure.layout.margin
    return float((place.up[1] - place.up[0]) * (figure.layout.height - margin.t - margin.b))


def length_of(words: str, size: float) -> float:
    """Return about how long ``words`` are at font ``size``, in pixels."""
    return 0.53 * size * max(map(len, words.split("\n")))


def colour_bar(
    place: Place, label: str, ticks: dict[float, str] | None = None, *, beyond: float = 0.012
) -> dict[str, Any]:
    """Return a colour bar at the right of a panel and as high as it."""
    low, high = place.up
    bar: dict[str, Any] = {
        "x": place.across[1] + beyond, "xanchor": "left", "y": (low + high) / 2, "len": high - low,
        "ypad": 0, "thickness": 12, "outlinewidth": 0.5, "tickfont": {"size": SMALL},
        "title": {"text": plain(label), "side": "right" if len(label) > 12 else "top", "font": {"size": LABEL}},
    }  # fmt: skip
    if ticks:
        bar |= {"tickvals": list(ticks), "ticktext": [plain(words) for words in ticks.values()]}
    return bar


def give_legend(figure: Any, place: Place, side: str, top: float) -> str:
    """Add a legend at the "left" or "right", its top so high (0 to 1); return the name by which traces join it."""
    name = f"legend{place.number if place.number > 1 else ''}"
    low, high = place.up
    figure.layout[name] = {
        "x": place.across[side == "right"], "xanchor": side, "y": low + top * (high - low), "yanchor": "top",
        "bgcolor": "rgba(0,0,0,0)", "font": {"size": SMALL},
    }  # fmt: skip
    return name


def is_symlog(axis: Axis) -> bool:
    """Whether plotly must be given places along the axis in the place of values."""
    return isinstance(axis.scale, Symlog)
