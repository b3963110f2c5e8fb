"""A trace as it settles with more probes, and which parameters it comes from."""

from __future__ import annotations

import numpy as np
from scipy import stats

from landscape.errors import InputError
from landscape.plots.scales import Axis
from landscape.plots.sheets import Bars, Curve, Curves, Reference, Sheet
from landscape.plots.style import BLUE, MUTED, check_size
from landscape.plots.titles import heading, shorten
from landscape.plots.views.estimate import settled_range, whole_numbers
from landscape.results import TraceResult
from landscape.results.base import number


def trace(
    result: TraceResult, *, top: int = 12, title: str | None = None, size: tuple[float, float] | None = None
) -> Sheet:
    """Draw the running mean with its 95 % interval, and the ``top`` parameters by share of the trace."""
    if not isinstance(top, int) or top < 1:
        raise InputError("top must be a positive number of parameters", got=top, fix="pass for example top=12")
    what = f"Trace: {number(result.estimate, result.stderr)}"
    by_parameter = shares(result, top)
    height = max(4.2, 1.6 + 0.27 * len(by_parameter.names))
    return Sheet(*heading(result, what, title), [[running(result), by_parameter]], check_size(size, (11.0, height)))


def running(result: TraceResult) -> Curves | Bars:
    """Return the estimate from the first k probes, for every k; the known part, where there are no probes."""
    samples = result.known + result.dataset["samples"].to_numpy()
    if len(samples) == 0:
        values = np.array([result.estimate])
        return Bars(["exact"], values, values, values, Axis(_label(result)), title="Computed, not estimated")
    counts = np.arange(1, len(samples) + 1)
    means = np.cumsum(samples) / counts
    spread = np.full(len(samples), np.nan)
    for k in counts[1:]:
        spread[k - 1] = samples[:k].std(ddof=1) / k**0.5
    if spread[-1] > 0:
        spread *= result.stderr / spread[-1]  # the error bar is made of more than these sums
    half = stats.t.ppf(0.975, np.maximum(1, counts - 1)) * spread
    return Curves(
        Axis("number of probes", limits=(0.5, len(samples) + 0.5), ticks=whole_numbers(len(samples))),
        Axis(_label(result), limits=settled_range(samples, means - half, means + half)),
        [
            Curve(counts, samples, "one probe", MUTED, line="", marker="circle", opacity=0.5),
            Curve(counts, means, "mean so far, 95 % interval", BLUE, low=means - half, high=means + half),
        ],
        [Reference(result.estimate)],
        title="How the estimate settles",
    )


def _label(result: TraceResult) -> str:
    function = str(result.dataset.attrs["function"])
    return "trace (loss / parameter²)" if function == "identity" else f"trace of {function}"


def shares(result: TraceResult, top: int) -> Bars:
    """Return the largest contributions by |estimate|, and the sum of all others."""
    by = result.by_parameter
    names = [str(name) for name in by["parameter"].to_numpy()]
    order = np.argsort(-np.abs(by["estimate"].to_numpy()), kind="stable")
    labels = [shorten(names[j]) for j in order[:top]]
    means, low, high = (by[name].to_numpy()[order[:top]] for name in ("estimate", "low", "high"))
    if len(order) > top:
        others = result.together([names[j] for j in order[top:]])
        means, low, high = (np.append(a, b) for a, b in zip((means, low, high), others, strict=True))
        labels.append(f"the other {len(order) - top}")
    whole = result.estimate
    certain = abs(whole) > 2 * result.stderr  # else a share of it means nothing
    texts = [f"{mean / whole:.0%}".replace("-", "−") if certain else "" for mean in means]
    return Bars(
        labels,
        means,
        low,
        high,
        Axis(f"contribution to the {_label(result)}"),
        texts,
        references=[Reference(0.0, along="x")],
        title="By parameter, 95 % intervals",
    )
