"""Eigenvalues with the residuals as error bars."""

from __future__ import annotations

import numpy as np

from landscape.plots.scales import Axis, symlog_axis, typeset
from landscape.plots.sheets import Bars, Curve, Curves, Reference, Sheet
from landscape.plots.style import BLUE, SKY, VERMILLION, check_size
from landscape.plots.titles import heading
from landscape.results import EigenResult

FEW = 3
_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_ORDER = {
    "LA": "largest first",
    "SA": "smallest first",
    "LM": "largest magnitude first",
    "BE": "both ends of the spectrum",
}


def eigenpairs(result: EigenResult, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw eigenvalues as stems, their residuals as bars, and those not converged hollow; up to three as rows."""
    values, residuals, good = result.values, result.residuals, result.converged
    units = str(result.dataset["values"].attrs.get("units", ""))
    if len(values) <= FEW:
        few = _rows(values, residuals, good, f"eigenvalue λ ({units})" if units else "eigenvalue λ")
        what = f"{len(values)} eigenvalues" if len(values) > 1 else "One eigenvalue"
        return Sheet(*heading(result, what, title), [[few]], check_size(size, (7.0, 1.5 + 0.32 * len(values))))
    ranks = np.arange(1, len(values) + 1)
    attrs = result.dataset.attrs
    order = _ORDER.get(str(attrs.get("which", "")), "in the order asked for")
    if "sigma" in attrs:
        order = f"nearest to {float(attrs['sigma']):.4g} first"
    common = {"marker": "circle", "line": "", "stems": True, "interval": "bars"}
    curves = []
    for mask, label, colour in ((good, "converged", BLUE), (~good, "not converged", VERMILLION)):
        if mask.any():
            curves.append(
                Curve(
                    ranks[mask],
                    values[mask],
                    label if not good.all() else "",
                    colour,
                    hollow=~good[mask],
                    low=values[mask] - residuals[mask],
                    high=values[mask] + residuals[mask],
                    **common,  # type: ignore[arg-type]
                )
            )
    panel = Curves(
        Axis(f"rank ({order})", limits=(0.4, len(values) + 0.6), ticks=_rank_ticks(len(values))),
        _value_axis(values, residuals, f"eigenvalue λ ({units})" if units else "eigenvalue λ"),
        curves,
        [Reference(0.0)],
        note="bars: residual |Av − λv|; an exact eigenvalue lies within",
    )
    what = f"{len(values)} eigenvalues"
    return Sheet(*heading(result, what, title), [[panel]], check_size(size, (7.0, 4.2)))


def _rows(values: np.ndarray, residuals: np.ndarray, good: np.ndarray, label: str) -> Bars:
    """Return a few eigenvalues as bars with their numbers written out; those not converged in another colour."""
    texts = []
    for value, residual, sure in zip(values, residuals, good, strict=True):
        words = typeset(f"{value:.4g}, residual {residual:.1g}")
        texts.append(words if sure else f"{words}, not converged")
    names = [f"λ{str(rank).translate(_BELOW)}" for rank in range(1, len(values) + 1)] if len(values) > 1 else ["λ"]
    low, high = (float(np.nan_to_num(end)) for end in (min(np.nanmin(values), 0.0), max(np.nanmax(values), 0.0)))
    span = (high - low) or 1.0
    return Bars(
        names,
        values,
        values - residuals,
        values + residuals,
        Axis(label, limits=(low - 0.05 * span, high + 0.7 * span)),
        texts,
        colours=[SKY if sure else VERMILLION for sure in good],
        references=[Reference(0.0, along="x")],
    )


def _value_axis(values: np.ndarray, residuals: np.ndarray, label: str) -> Axis:
    """Symlog where the eigenvalues span two decades or more."""
    finite = np.isfinite(values)
    sizes = np.abs(values[finite & (values != 0)])
    if len(sizes) == 0 or sizes.max() / sizes.min() < 100:
        return Axis(label)
    threshold = 10.0 ** np.floor(np.log10(max(sizes.min(), sizes.max() * 1e-8)))
    bars = np.where(np.isfinite(residuals), residuals, 0.0)
    low, high = float((values - bars)[finite].min()), float((values + bars)[finite].max())
    return symlog_axis(label, threshold, min(low, 0), max(high, 0))


def _rank_ticks(count: int) -> dict[float, str]:
    stride = max(1, int(np.ceil(count / 15)))
    return {float(rank): str(rank) for rank in range(1, count + 1, stride)}
