"""Results of one kind side by side: what each member says, in the order given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.plots.scales import Axis, is_wide, symlog_axis, typeset
from landscape.plots.sheets import Bars, Curve, Curves, Panel, Reference, Sheet, Table
from landscape.plots.style import PALETTE, SKY, VERMILLION, check_size
from landscape.plots.titles import heading, shorten
from landscape.plots.views.densities import densities
from landscape.plots.views.series import in_order
from landscape.plots.views.trace import label_of
from landscape.results import Family, TraceResult
from landscape.results.base import number

ROWS = 45  # more than that are points over the members' numbers
_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_WORDS = {"eigenpairs": "Eigenvalues", "trace": "Trace", "density": "Spectral density", "diagonal": "Diagonal"}


@dataclass(frozen=True)
class Numbers:
    """Values of members with the ends of their error bars, each (members, ranks); NaN where one has fewer."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    good: np.ndarray
    texts: list[list[str]]
    label: str
    note: str


def family(result: Family, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw one number or several of each member with error bars; what has no number, as a table."""
    members = list(result.members.values())
    name = _WORDS.get(result.of) or str(getattr(members[0], "name", result.of))
    what = f"{name[:1].upper()}{name[1:]} of {len(result)} {plural(result.by, len(result))}"
    if result.of == "density":
        panels = densities(result)
        return Sheet(*heading(result, what, title), [[panel] for panel in panels], check_size(size, (8.5, 7.2)))
    if result.of == "eigenpairs":
        panel = numbers_of(result, eigenvalues(members))
    elif all(np.ndim(getattr(m, "estimate", ())) == 0 and hasattr(m, "interval") for m in members):
        panel = numbers_of(result, estimates(members))
    else:
        panel = Table([(shorten(name), text) for name, text in result.summary().items()])
    rows = len(panel.rows) if isinstance(panel, Table) else len(panel.names) if isinstance(panel, Bars) else 12
    return Sheet(*heading(result, what, title), [[panel]], check_size(size, (8.0, max(2.6, 1.6 + 0.27 * rows))))


def plural(word: str, count: int) -> str:
    """Return ``word`` for ``count`` things."""
    if count == 1:
        return word
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def below(rank: int) -> str:
    """Return ``rank`` as an index."""
    return str(rank).translate(_BELOW)


def eigenvalues(members: list[Any]) -> Numbers:
    """Return every eigenvalue with its residual."""
    ranks = max(len(m.values) for m in members)
    values, residuals = (np.full((len(members), ranks), np.nan) for _ in range(2))
    good = np.ones(values.shape, bool)
    texts = [[""] * ranks for _ in members]
    for i, m in enumerate(members):
        count = len(m.values)
        values[i, :count], residuals[i, :count], good[i, :count] = m.values, m.residuals, m.converged
        for j, (value, sure) in enumerate(zip(m.values, m.converged, strict=True)):
            texts[i][j] = typeset(f"{value:.4g}") + ("" if sure else ", not converged")
    units = str(members[0].dataset["values"].attrs.get("units", ""))
    label = f"eigenvalue λ ({units})" if units else "eigenvalue λ"
    note = "error bars: residual |Av − λv|"
    return Numbers(values, values - residuals, values + residuals, good, texts, label, note)


def estimates(members: list[Any]) -> Numbers:
    """Return each member's estimate with its 95 % interval."""
    values = np.array([[m.estimate] for m in members], float)
    ends = np.array([m.interval() for m in members], float)
    good = np.array([[m.ok] for m in members])
    texts = [[typeset(number(m.estimate, m.stderr)) + ("" if m.ok else f", {m.status}")] for m in members]
    first = members[0]
    label = label_of(first) if isinstance(first, TraceResult) else next(iter(first.summary()), first.kind)
    sure = "95 % intervals" if np.isfinite(ends).any() else "no error bars"
    return Numbers(values, ends[:, :1], ends[:, 1:], good, texts, label, sure)


def numbers_of(result: Family, found: Numbers) -> Panel:
    """Return one row for each number, or points over the members where that would be too many rows."""
    shown = np.isfinite(found.values) | (np.arange(found.values.shape[1]) == 0)
    if shown.sum() > ROWS:
        return _points(result, found)
    ranks = found.values.shape[1]
    names = []
    for member, row in zip(result.members, shown, strict=True):
        for rank in np.flatnonzero(row):
            names.append(f"{shorten(member) if rank == 0 else ''}{f' λ{below(int(rank) + 1)}' if ranks > 1 else ''}")
    values, low, high = (part[shown] for part in (found.values, found.low, found.high))
    axis = _axis(found.label, values, low, high, room=True)
    return Bars(
        names,
        values,
        low,
        high,
        axis,
        [
            text
            for texts, row in zip(found.texts, shown, strict=True)
            for text, yes in zip(texts, row, strict=True)
            if yes
        ],
        dots=axis.scale == "log",
        colours=[SKY if sure else VERMILLION for sure in found.good[shown]],
        references=[] if axis.scale == "log" else [Reference(0.0, along="x")],
        title=f"By {result.by}, in the order given; {found.note}",
    )


def _points(result: Family, found: Numbers) -> Curves:
    count, ranks = found.values.shape
    places = np.arange(1, count + 1)
    curves = [
        Curve(
            places, found.values[:, j], f"λ{below(j + 1)}" if 1 < ranks <= len(PALETTE) else "",
            PALETTE[j % len(PALETTE)], marker="circle" if count <= 150 else "", hollow=~found.good[:, j],
            low=found.low[:, j], high=found.high[:, j], interval="bars" if count <= 60 else "band",
        )
        for j in range(ranks)
    ]  # fmt: skip
    return Curves(
        in_order(list(result.members), result.by),
        _axis(found.label, found.values, found.low, found.high),
        curves,
        title=f"By {result.by}, in the order given",
        note=found.note,
    )


def _axis(label: str, values: np.ndarray, low: np.ndarray, high: np.ndarray, *, room: bool = False) -> Axis:
    """Return an axis for values that may span decades, of one sign or both; ``room`` leaves space for words."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Axis(label)
    bottom, top = float(np.nanmin(np.fmin(low, finite.min()))), float(np.nanmax(np.fmax(high, finite.max())))
    if is_wide(finite) and bottom > 0:
        margin = max(2.0, (top / bottom) ** 0.03)
        return Axis(label, "log", (bottom / margin, top * (3 * (top / finite.min()) ** 0.35 if room else margin)))
    sizes = np.abs(finite[finite != 0])
    if len(sizes) and (is_wide(finite) or sizes.max() / sizes.min() >= 100):
        threshold = 10.0 ** np.floor(np.log10(max(sizes.min(), sizes.max() * 1e-6)))
        return symlog_axis(label, threshold, min(bottom, 0.0), max(top, 0.0) * (4 if room else 1))
    if not room:
        return Axis(label)
    bottom, top = min(0.0, bottom), max(0.0, top)
    span = (top - bottom) or 1.0
    return Axis(label, limits=(bottom - 0.05 * span, top + 0.4 * span))
