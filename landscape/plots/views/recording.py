"""A recorded training run: small panels over the steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis, is_wide
from landscape.plots.sheets import Curve, Curves, Panel, Reference, Sheet
from landscape.plots.style import MUTED, PALETTE, check_size
from landscape.plots.titles import heading
from landscape.plots.views.conflict import cosine_matrix
from landscape.plots.views.series import Series, medians, read_series, thin
from landscape.results.recording import Recording

_MANY = 300  # steps beyond which the raw line is light and a running median is drawn on it
_MATRIX = "conflict_cosine"
_REACH = 4.0  # a limit is drawn where it is at most so many times the largest measured value


@dataclass(frozen=True)
class _Kind:
    """One panel that a dashboard knows: which variables it holds and what they are measured against."""

    variables: tuple[str, ...]
    label: str
    log: bool = False
    references: tuple[tuple[float, str], ...] = ()  # always within the range that is shown
    limits: tuple[float, float] | None = None
    dashed: tuple[str, ...] = ()  # variables that are limits, not measurements
    from_zero: bool = False
    title: str = ""


_KNOWN = {
    "loss": _Kind(("loss",), "training loss", log=True),
    "lr": _Kind(("lr",), "η", title="learning rate"),
    "gradient_norm": _Kind(("gradient_norm",), "gradient norm", log=True),
    "update_ratio": _Kind(("update_ratio",), "|update| / |parameters|", log=True),
    "sharpness": _Kind(("sharpness", "threshold"), "largest eigenvalue λ", dashed=("threshold",), from_zero=True),
    "edge": _Kind(("edge",), "ρ", references=((1.0, "edge of stability"),), from_zero=True, title="edge meter"),
    "gradient_coherence": _Kind(
        ("gradient_coherence",), "gradient coherence", references=((1.0, "orthogonal gradients"),)
    ),
    "noise_scale": _Kind(("noise_scale",), "noise scale (examples)", log=True),
    "conflict_rate": _Kind(
        ("conflict_rate", "conflict_significant_rate"),
        "share of task pairs",
        references=((0.5, "unrelated: 0.5"), (0.025, "noise alone: 0.025")),
        limits=(-0.04, 1.04),
    ),
}
_NAMES = {
    "threshold": "stability threshold",
    "conflict_rate": "negative cosine",
    "conflict_significant_rate": "beyond noise",
}
_SUFFIXES = ("_stderr", "_residual", "_seconds", "_status")


def recording(
    result: Recording,
    quantity: str | None = None,
    *,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Sheet:
    """Draw every recorded quantity as a small panel, or the one named ``quantity`` large."""
    panels = panels_of(result)
    if not panels:
        raise InputError("the run holds no record yet", got="an empty recording", fix="wait for the first step")
    if quantity is not None:
        panels = _chosen(result, panels, quantity)
    sheet_title = " ".join(str(result.header.get("title") or "Training run").split())
    if len(panels) == 1 and quantity is not None:
        ((name, panel),) = panels.items()
        default = (8.6, 5.0) if isinstance(panel, Curves) else (7.2, 5.6)
        what = f"{sheet_title}: {name.replace('_', ' ')}"
        return Sheet(*heading(result, what, title), [[replace(panel, title="")]], check_size(size, default))
    across = 3 if len(panels) > 4 else min(2, len(panels))
    if _MATRIX in panels:
        panels = {k: v for k, v in panels.items() if k != _MATRIX} | _matrices(result, 1 + (-len(panels)) % across)
    cells: list[Panel | None] = list(panels.values())
    cells += [None] * (-len(cells) % across)
    rows = [cells[i : i + across] for i in range(0, len(cells), across)]
    return Sheet(*heading(result, sheet_title, title), rows, check_size(size, (4.1 * across, 2.65 * len(rows) + 0.8)))


def panels_of(result: Recording) -> dict[str, Curves | Panel]:
    """Return the panels of a dashboard by name, the known ones first."""
    series, said = read_series(result), notes_of(result)
    left = {name for name in series if not _is_attached(name, series)}
    panels: dict[str, Curves | Panel] = {}
    for name, kind in _KNOWN.items():
        found = [v for v in kind.variables if v in series]
        found += sorted(v for v in left if name == "lr" and v.startswith("lr_"))
        left -= set(found)
        found = [v for v in found if np.isfinite(series[v].values).any() or v == "loss"]
        if found and not set(found) <= set(kind.dashed):
            panels[name] = _panel(name, kind, {v: series[v] for v in found}, series, said)
        else:
            left |= set(found)
    for name in [v for v in series if v in left and series[v].values.ndim == 1]:
        if np.isfinite(series[name].values).any():
            words = name.replace("_", " ")
            panels[name] = _panel(
                name, _Kind((name,), words, log=is_wide(series[name].values)), {name: series[name]}, series, said
            )
    if _MATRIX in result.dataset and result.dataset[_MATRIX].ndim == 3 and len(result.dataset[_MATRIX]):
        panels[_MATRIX] = _matrix(result, -1)
    steps = [s.steps for s in series.values() if len(s.steps)]
    if steps:
        low, high = float(min(s.min() for s in steps)), float(max(s.max() for s in steps))
        margin = 0.02 * (high - low) or 0.5
        shared = (low - margin, high + margin)
        for name, panel in panels.items():
            if isinstance(panel, Curves):
                panels[name] = replace(panel, x=replace(panel.x, limits=shared))
    return panels


def _is_attached(name: str, series: dict[str, Series]) -> bool:
    """Whether ``name`` is the error, the cost or the status of another variable."""
    if name.endswith(("_seconds", "_status")):
        return True
    return any(name.endswith(end) and name.removesuffix(end) in series for end in _SUFFIXES)


def _chosen(result: Recording, panels: dict[str, Curves | Panel], quantity: str) -> dict[str, Curves | Panel]:
    """Return the panel that is called ``quantity`` or holds it, or those of the metric of that name."""
    if quantity in panels:
        return {quantity: panels[quantity]}
    for name, kind in _KNOWN.items():
        if name in panels and quantity in kind.variables and quantity in result.dataset:
            return {name: panels[name]}
    lies_on = f"{quantity}_step"
    found = {
        name: panel
        for name, panel in panels.items()
        if any(v in result.dataset and lies_on in result.dataset[v].dims for v in _variables(name))
    }
    if not found:
        raise InputError("nothing of that name was recorded", got=quantity, fix=f"this run has {', '.join(panels)}")
    return found


def _variables(panel: str) -> tuple[str, ...]:
    return _KNOWN[panel].variables if panel in _KNOWN else (panel,)


def notes_of(result: Recording) -> dict[str, str]:
    """Return what the run says about how its metrics were measured, by metric."""
    notes = result.header.get("notes")
    return {str(k): str(v) for k, v in notes.items() if v} if isinstance(notes, dict) else {}


def _panel(name: str, kind: _Kind, shown: dict[str, Series], every: dict[str, Series], said: dict[str, str]) -> Curves:
    shown, remark = _within_reach(kind, shown)
    curves: list[Curve] = []
    notes = [said[s.metric] for s in shown.values() if s.metric in said]
    for index, (variable, series) in enumerate(shown.items()):
        label = _NAMES.get(variable, variable.replace("_", " ")) if len(shown) > 1 else ""
        colour = PALETTE[index % len(PALETTE)]
        if variable in kind.dashed:
            curves.append(Curve(series.steps, series.values, label, MUTED, line="dash"))
        elif series.metric is None:
            curves += _every_step(series, label, colour, exact=variable.startswith("lr"))
        else:
            curves += _scheduled(variable, series, label, colour, every)
        notes += _in_words(variable, series) if variable not in kind.dashed else []
    values = np.concatenate([series.values for series in shown.values()])
    log = is_wide(values, 0.5 if kind.log else 1.0) and (kind.log or bool(kind.dashed))
    if log:
        curves = [_above_zero(curve) for curve in curves]
    limits = {v: s.values[np.isfinite(s.values)] for v, s in shown.items() if v in kind.dashed}
    fixed = {v: float(found[0]) for v, found in limits.items() if len(shown) > 1 and np.ptp(found) == 0.0}
    if fixed:  # a limit that never changes is named at its line
        words = tuple((value, _NAMES.get(variable, variable)) for variable, value in fixed.items())
        kind = replace(kind, references=kind.references + words)
        curves = [replace(curve, label="") for curve in curves if curve.label not in {name for _, name in words}]
    references = [
        Reference(value, words, line="dash" if value in fixed.values() else "solid") for value, words in kind.references
    ]
    return Curves(
        Axis("step"), Axis(kind.label, "log" if log else "linear", _limits(kind, curves, log)), curves, references,
        title=kind.title or name.replace("_", " "), note="; ".join(dict.fromkeys(notes)), remark=remark,
    )  # fmt: skip


def _within_reach(kind: _Kind, shown: dict[str, Series]) -> tuple[dict[str, Series], str]:
    """Leave out a limit that lies far above what was measured, and return words in its place."""
    measured = [s.values for v, s in shown.items() if v not in kind.dashed]
    top = float(np.nanmax(np.concatenate(measured), initial=-np.inf)) if measured else -np.inf
    words = []
    for variable in [v for v in kind.dashed if v in shown and len(measured)]:
        limit = shown[variable].values[np.isfinite(shown[variable].values)]
        if len(limit) and limit.min() > _REACH * max(top, 0.0):
            span = f"{limit.min():.3g}" if limit.min() == limit.max() else f"{limit.min():.3g} to {limit.max():.3g}"
            words.append(f"{variable} {span}, above this range")
            shown = {v: s for v, s in shown.items() if v != variable}
    return shown, "; ".join(words)


def _above_zero(curve: Curve) -> Curve:
    """Let an interval that reaches zero or below end where a logarithmic axis can still show it."""
    if curve.low is None:
        return curve
    positive = curve.y[curve.y > 0]
    floor = float(positive.min()) / 3 if len(positive) else 1.0
    return replace(curve, low=np.where(curve.low > 0, curve.low, np.minimum(floor, curve.y)))


def _limits(kind: _Kind, curves: list[Curve], log: bool) -> tuple[float, float] | None:
    """Return a range that holds every value, what it is measured against, and error bars up to a point."""
    if kind.limits is not None:
        return kind.limits
    values = _finite([curve.y for curve in curves], log)
    if len(values) == 0:
        return None
    ends = _finite([end for c in curves for end in (c.low, c.high) if end is not None], log)
    named = _finite([np.array([value for value, _ in kind.references])], log)
    low, high = float(values.min()), float(values.max())
    reach = 1.5 * (high - low)
    if len(ends):
        low, high = max(min(low, float(ends.min())), low - reach), min(max(high, float(ends.max())), high + reach)
    if len(named):
        low, high = min(low, float(named.min())), max(high, float(named.max()))
    if kind.from_zero and not log:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return _around(float(values[0]), log)
    margin = 0.06 * (high - low)
    top = high + (2.2 * margin if len(named) and high == named.max() else margin)
    low -= 0.0 if kind.from_zero and not log and low == 0.0 else margin
    return (10.0**low, 10.0**top) if log else (low, top)


def _finite(parts: list[np.ndarray], log: bool) -> np.ndarray:
    """Return the finite values of ``parts``, or the logarithms of the positive ones."""
    values = np.concatenate([np.asarray(part, float) for part in parts] or [np.array([])])
    values = values[np.isfinite(values)]
    return np.log10(values[values > 0]) if log else values


def _around(value: float, log: bool) -> tuple[float, float]:
    """Return a range in which a value that never changes can be read."""
    if log:
        return 10.0**value / 2, 10.0**value * 2
    return (min(0.0, 1.5 * value), max(0.0, 1.5 * value)) if value else (-1.0, 1.0)


def _every_step(series: Series, label: str, colour: str, exact: bool) -> list[Curve]:
    """Return a line; where steps are many, a light one with the running median on it."""
    if exact or np.isfinite(series.values).sum() <= _MANY:
        marker = "circle" if len(series.values) <= 2 else ""
        return [Curve(*thin(series), label, colour, marker=marker)]
    x, y, _ = medians(series)
    raw = Curve(*thin(series), colour=colour, width=0.7, opacity=0.35)
    return [raw, Curve(x, y, label, colour)]


def _scheduled(variable: str, series: Series, label: str, colour: str, every: dict[str, Series]) -> list[Curve]:
    """Return points joined by a line, with error bars where an error was recorded; doubtful ones hollow."""
    low = high = None
    if f"{variable}_stderr" in every:
        half = 1.96 * every[f"{variable}_stderr"].values
        low, high = series.values - half, series.values + half
    elif f"{variable}_residual" in every:
        half = every[f"{variable}_residual"].values
        low, high = series.values - half, series.values + half
    few = len(series.steps) <= 150
    return [
        Curve(
            series.steps, series.values, label, colour, marker="circle" if few else "", hollow=~series.good,
            low=low, high=high, interval="bars" if len(series.steps) <= 60 else "band",
        )
    ]  # fmt: skip


def _in_words(variable: str, series: Series) -> list[str]:
    words = []
    bad = ~np.isfinite(series.values)
    many = len(series.values) - int(bad.sum())
    if series.metric is None and bad.any():
        words.append(f"{int(bad.sum())} not finite, first at {series.steps[bad][0]}")
    elif series.metric is None and many > _MANY and not variable.startswith("lr"):
        words.append(f"median of {medians(series)[2]} steps")
    doubtful = int((~series.good).sum())
    if doubtful:
        words.append(f"hollow: {doubtful} not converged")
    return words


def _matrix(result: Recording, index: int, *, compact: bool = False) -> Panel:
    variable = result.dataset[_MATRIX]
    values = variable[index].to_numpy()
    labels = result.header.get("labels", {}).get(_MATRIX) or [f"task {i + 1}" for i in range(len(values))]
    dim = str(variable.dims[0])
    title = f"conflict cosine at step {int(variable[dim][index])}"
    note = "" if compact else notes_of(result).get(dim.removesuffix("_step"), "")
    label = "cosine" if compact else "cosine of mean gradients"
    tasks = [str(label) for label in labels]
    return cosine_matrix(values, tasks, label, title=title, note=note, compact=compact)


def _matrices(result: Recording, count: int) -> dict[str, Panel]:
    """Return ``count`` matrices from the first record to the last, so that a row of panels is full."""
    last = len(result.dataset[_MATRIX]) - 1
    chosen = np.unique(np.linspace(0, last, count).round().astype(int)) if count > 1 else np.array([last])
    return {f"{_MATRIX} {index}": _matrix(result, int(index), compact=True) for index in chosen}
