"""A trace as it settles with more probes, and which parameters it comes from."""

from __future__ import annotations

import numpy as np
from scipy import stats

from landscape.errors import InputError
from landscape.plots.scales import Axis, even_values
from landscape.plots.sheets import Bars, Curve, Curves, Reference, Sheet
from landscape.plots.style import BLUE, MUTED, check_size
from landscape.plots.titles import heading, shorten
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


def running(result: TraceResult) -> Curves:
    """Return the mean over the first k probes, for every k."""
    samples = result.dataset["samples"].to_numpy()
    counts = np.arange(1, len(samples) + 1)
    means = np.cumsum(samples) / counts
    half = np.full(len(samples), np.nan)
    for k in counts[1:]:
        half[k - 1] = stats.t.ppf(0.975, k - 1) * samples[:k].std(ddof=1) / k**0.5
    return Curves(
        Axis("number of probes", limits=(0.5, len(samples) + 0.5), ticks=_whole_numbers(len(samples))),
        Axis("trace (loss / parameter²)", limits=_settled_range(samples, means, half)),
        [
            Curve(counts, samples, "one probe", MUTED, line="", marker="circle", opacity=0.5),
            Curve(counts, means, "mean so far, 95 % interval", BLUE, low=means - half, high=means + half),
        ],
        [Reference(result.estimate)],
        title="How the estimate settles",
    )


def _whole_numbers(count: int) -> dict[float, str]:
    stride = max(1, int(even_values(0, count, 8)[1]))
    return {float(k): str(k) for k in ([1] if stride > 1 else []) + list(range(stride, count + 1, stride))}


def _settled_range(samples: np.ndarray, means: np.ndarray, half: np.ndarray) -> tuple[float, float] | None:
    """Return a y range that the enormous intervals of the first two or three probes do not flatten."""
    from_probe = min(4, len(samples) - 1)
    reach = np.concatenate([samples, (means - half)[from_probe:], (means + half)[from_probe:]])
    reach = reach[np.isfinite(reach)]
    if len(reach) < 2 or reach.max() == reach.min():
        return None
    margin = 0.06 * (reach.max() - reach.min())
    return float(reach.min() - margin), float(reach.max() + margin)


def shares(result: TraceResult, top: int) -> Bars:
    """Return the largest contributions by |estimate|, and the sum of all others."""
    samples = result.dataset["samples_by_parameter"].to_numpy()
    names = [str(name) for name in result.dataset["parameter"].to_numpy()]
    order = np.argsort(-np.abs(samples.mean(axis=0)), kind="stable")
    shown = [samples[:, j] for j in order[:top]]
    labels = [shorten(names[j]) for j in order[:top]]
    if len(order) > top:
        shown.append(samples[:, order[top:]].sum(axis=1))
        labels.append(f"the other {len(order) - top}")
    columns = np.stack(shown, axis=1)
    means, count = columns.mean(axis=0), len(columns)
    half = np.full(len(means), np.nan)
    if count > 1:
        half = stats.t.ppf(0.975, count - 1) * columns.std(axis=0, ddof=1) / count**0.5
    whole = result.estimate
    certain = abs(whole) > 2 * result.stderr  # else a share of it means nothing
    texts = [f"{mean / whole:.0%}".replace("-", "−") if certain else "" for mean in means]
    return Bars(
        labels,
        means,
        means - half,
        means + half,
        Axis("contribution to the trace (loss / parameter²)"),
        texts,
        references=[Reference(0.0, along="x")],
        title="By parameter, 95 % intervals",
    )
