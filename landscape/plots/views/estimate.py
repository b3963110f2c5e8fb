"""One number as it settles with more probes."""

from __future__ import annotations

import numpy as np
from scipy import stats

from landscape.plots.scales import Axis, even_values, typeset
from landscape.plots.sheets import Bars, Curve, Curves, Reference, Sheet
from landscape.plots.style import BLUE, check_size
from landscape.plots.titles import heading
from landscape.results import Estimate
from landscape.results.base import number


def estimate(result: Estimate, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw the number from the first probes with its 95 % interval; from one probe, or none, in a row."""
    words = typeset(number(result.estimate, result.stderr))
    what = f"{result.name[0].upper()}{result.name[1:]}: {words}"
    values = result.dataset["running"].to_numpy()
    label = f"{result.name}, {result.dataset.attrs['definition']}"
    if len(values) < 2:
        low, high = (np.array([end]) for end in result.interval())
        zero = [Reference(0.0, along="x")]
        panel: Bars | Curves = Bars(
            [result.method], np.array([result.estimate]), low, high, Axis(label), [words], references=zero
        )
        return Sheet(*heading(result, what, title), [[panel]], check_size(size, (7.0, 1.9)))
    counts = np.arange(1, len(values) + 1)
    half = stats.t.ppf(0.975, np.maximum(1, counts - 1)) * result.dataset["running_stderr"].to_numpy()
    band = (values - half, values + half)
    panel = Curves(
        Axis("number of probes", limits=(0.5, len(values) + 0.5), ticks=whole_numbers(len(values))),
        Axis(label, limits=settled_range(values, *band)),
        [Curve(counts, values, "estimate so far, 95 % interval", BLUE, low=band[0], high=band[1])],
        [Reference(result.estimate)],
        title="How the estimate settles",
    )
    return Sheet(*heading(result, what, title), [[panel]], check_size(size, (7.0, 4.2)))


def whole_numbers(count: int) -> dict[float, str]:
    """Return ticks at counts of probes."""
    stride = max(1, int(even_values(0, count, 8)[1]))
    return {float(k): str(k) for k in ([1] if stride > 1 else []) + list(range(stride, count + 1, stride))}


def settled_range(*curves: np.ndarray) -> tuple[float, float] | None:
    """Return a y range that the enormous intervals of the first few probes do not flatten."""
    first, *bands = curves
    from_probe = min(4, len(first) - 1)
    reach = np.concatenate([first, *(band[from_probe:] for band in bands)])
    reach = reach[np.isfinite(reach)]
    if len(reach) < 2 or reach.max() == reach.min():
        return None
    margin = 0.06 * (reach.max() - reach.min())
    return float(reach.min() - margin), float(reach.max() + margin)
