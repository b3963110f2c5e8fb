"""A trace as it settles with more probes, and which parameters it comes from."""

from __future__ import annotations

import numpy as np
from scipy import stats

from landscape.errors import InputError
from landscape.plots.scales import Axis, typeset
from landscape.plots.sheets import Bars, Curve, Curves, Panel, Reference, Sheet
from landscape.plots.style import BLUE, MUTED, check_size
from landscape.plots.titles import heading, shorten
from landscape.plots.views.estimate import settled_range, whole_numbers
from landscape.results import TraceResult
from landscape.results.base import number


def trace(
    result: TraceResult, *, top: int = 12, title: str | None = None, size: tuple[float, float] | None = None
) -> Sheet:
    """Draw the running mean of several probes with its interval, and the ``top`` parameters by share of the trace."""
    if not isinstance(top, int) or top < 1:
        raise InputError("top must be a positive number of parameters", got=top, fix="pass for example top=12")
    what = f"Trace: {typeset(number(result.estimate, result.stderr))}"
    by_parameter = shares(result, top)
    height = max(4.2, 1.6 + 0.27 * len(by_parameter.names))
    settles: list[Panel | None] = [running(result)] if result.dataset.sizes["probe"] > 1 else []
    default = (5.5 * (1 + len(settles)) + (0.0 if settles else 1.5), height)
    return Sheet(*heading(result, what, title), [[*settles, by_parameter]], check_size(size, default))


def running(result: TraceResult) -> Curves:
    """Return the estimate from the first k probes, for every k."""
    samples = result.known + result.dataset["samples"].to_numpy()
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
        Axis(label_of(result), limits=settled_range(samples, means - half, means + half)),
        [
            Curve(counts, samples, "one probe", MUTED, line="", marker="circle", opacity=0.5),
            Curve(counts, means, "mean so far, 95 % interval", BLUE, low=means - half, high=means + half),
        ],
        [Reference(result.estimate)],
        title="How the estimate settles",
    )


def label_of(result: TraceResult) -> str:
    """Return the name of what was estimated, with its unit."""
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
        Axis(f"contribution to the {label_of(result)}"),
        texts,
        references=[Reference(0.0, along="x")],
        title="By parameter, 95 % intervals" if (high > low).any() else "By parameter",
    )
