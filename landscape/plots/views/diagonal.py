"""A diagonal: its entries by parameter, and how well they are known."""

from __future__ import annotations

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis
from landscape.plots.sheets import Bars, Curve, Curves, Reference, Sheet
from landscape.plots.style import BLUE, LINE, check_size
from landscape.plots.titles import heading, shorten
from landscape.results import DiagonalResult

MOST = 2000  # points of a curve


def diagonal(
    result: DiagonalResult, *, top: int = 12, title: str | None = None, size: tuple[float, float] | None = None
) -> Sheet:
    """Draw all entries in order of size with their 95 % intervals, and the mean entry of the ``top`` parameters."""
    if not isinstance(top, int) or top < 1:
        raise InputError("top must be a positive number of parameters", got=top, fix="pass for example top=12")
    means = by_parameter(result, top)
    error = "exact" if result.relative_error == 0 else f"known to {result.relative_error:.2g} of its size"
    what = f"Diagonal of {_entries(len(result.dataset['estimate']))}, {error}"
    height = max(4.2, 1.6 + 0.27 * len(means.names))
    return Sheet(*heading(result, what, title), [[ranked(result), means]], check_size(size, (11.0, height)))


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def ranked(result: DiagonalResult) -> Curves:
    """Return the entries from the smallest to the largest, as shares of their number."""
    low, high = (np.asarray(end, dtype=float) for end in result.interval())
    values = result.dataset["estimate"].to_numpy().astype(float)
    order = np.argsort(values, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(MOST, len(order))).astype(int))]
    share = np.linspace(0, 1, len(order)) if len(order) > 1 else np.array([0.5])
    return Curves(
        Axis("share of the entries that are smaller", limits=(0, 1)),
        Axis("entry (loss / parameter²)"),
        [
            Curve(share, values[order], "entry, 95 % interval", BLUE, low=low[order], high=high[order], width=LINE)
            if len(order) > 1
            else Curve(share, values, "entry, 95 % interval", BLUE, "", "circle", None, low, high, "bars"),
        ],
        [Reference(0.0)],
        title="Entries by size",
    )


def by_parameter(result: DiagonalResult, top: int) -> Bars:
    """Return the mean entry of the parameters with the largest ones, by magnitude, with 95 % intervals."""
    sums = result.sums("parameter")
    ends = result.dataset["ends"].to_numpy()
    counts = np.diff(ends, prepend=0)
    keep = counts > 0
    names = [str(name) for name, kept in zip(result.dataset["parameter"].to_numpy(), keep, strict=True) if kept]
    mean, low, high = (sums[name].to_numpy()[keep] / counts[keep] for name in ("estimate", "low", "high"))
    order = np.argsort(-np.abs(mean), kind="stable")[:top]
    left = len(names) - len(order)
    words = "Mean entry by parameter" + (", 95 % intervals" if (high > low).any() else "")
    return Bars(
        [shorten(names[i]) for i in order],
        mean[order],
        low[order],
        high[order],
        Axis("mean entry (loss / parameter²)"),
        [_entries(counts[keep][i]) for i in order],
        references=[Reference(0.0, along="x")],
        title=words + (f" ({left} smaller not shown)" if left else ""),
    )
