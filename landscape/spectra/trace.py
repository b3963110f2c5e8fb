"""The trace by Hutchinson's estimator, with an interval that decides when to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import TraceResult
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed, rademacher
from landscape.spectra.operators import Operator

FIRST = 16  # probes before the interval is trusted at all
BLOCK = 8  # probes between two looks at the interval


def trace(
    op: Any,
    rtol: float = 0.02,
    *,
    products: int | None = None,
    max_products: int = 1000,
    seed: int = 0,
) -> TraceResult:
    """Estimate the trace of a symmetric operator from products with random sign vectors.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    rtol : float
        Stop when the half-width of the 95 % interval is at most ``rtol`` times the estimate's magnitude.
    products : int, optional
        Use exactly that many probes instead of a tolerance; at least 2.
    max_products : int
        Most probes to use for ``rtol``; the status says when they did not suffice.
    seed : int
        Probe i is a function of (seed, i): more probes extend fewer.

    Returns
    -------
    TraceResult
        ``estimate``, ``stderr``, ``interval(level)``, ``by_parameter`` (from the same products).

    Notes
    -----
    One product a probe; the variance of one probe is 2 Σ_{i≠j} A_ij². Memory: two blocks of 8 vectors.

    References
    ----------
    M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix, Commun. Stat. Simul.
    Comput. 18 (1989).
    """
    if products is not None and products < 2:
        raise InputError("products must be at least 2", got=products, why="one probe has no error bar", fix="pass 30")
    if not rtol > 0:
        raise InputError("rtol must be positive", got=rtol, fix="pass for example rtol=0.02")
    if products is None and max_products < FIRST:
        raise InputError(
            f"max_products must be at least {FIRST}",
            got=max_products,
            why="fewer probes give no interval worth stopping on",
            fix="raise it, or pass products=",
        )
    operator = Operator(op)
    check_seed(seed)
    most = max_products if products is None else products
    rows: list[np.ndarray] = []
    interrupted = met = False
    with Cost() as cost, Bar("trace", total=most) as bar:
        try:
            while len(rows) < most and not met:
                count = min(BLOCK, most - len(rows))
                rows += list(_block(operator, seed, len(rows), count))
                half, estimate = _half_width(rows)
                bar.advance(count, note=f"{estimate:.4g} ± {half:.2g}")
                met = products is None and len(rows) >= FIRST and half <= rtol * abs(estimate)
        except KeyboardInterrupt:
            if len(rows) < 2:
                raise
            interrupted = True
    samples = np.array(rows)
    half, estimate = _half_width(rows)
    message = f"{len(rows)} probes: {estimate:.5g} within ± {half:.2g} (95 %)"
    if interrupted:
        status, message = "interrupted", f"stopped by Ctrl-C after {message}"
    elif products is not None:
        status = "complete"
    elif met:
        status = "converged"
        message += f", {half / abs(estimate):.2%} of it" if estimate else ""
    else:
        status = "not converged"
        message += f", which is more than {rtol:.2%} of it: raise max_products, or loosen rtol"
    return TraceResult.make(
        samples.sum(axis=1),
        samples,
        list(operator.slices),
        n=operator.n,
        rtol=rtol,
        matvecs=operator.matvecs,
        status=status,
        message=message,
        provenance=collect(
            cost, matvecs=operator.matvecs, estimator="Hutchinson, signs", probe_seed=seed, **operator.provenance()
        ),
    )


def _block(operator: Operator, seed: int, first: int, count: int) -> np.ndarray:
    """Return vᵀAv split by named part, one row a probe, shape (count, parts)."""
    probes = [
        rademacher(operator.n, seed, first + i, dtype=operator.dtype, device=operator.device) for i in range(count)
    ]
    block = torch.stack(probes, dim=1)
    each = block * (operator @ block)
    parts = [each[where].sum(dim=0, dtype=torch.float64) for where in operator.slices.values()]
    return torch.stack(parts, dim=1).cpu().numpy()


def _half_width(rows: list[np.ndarray]) -> tuple[float, float]:
    """Return the half-width of the 95 % interval and the estimate."""
    totals = np.array(rows).sum(axis=1)
    if len(totals) < 2:
        return float("inf"), float(totals.mean())
    spread = totals.std(ddof=1) / len(totals) ** 0.5
    return float(stats.t.ppf(0.975, len(totals) - 1) * spread), float(totals.mean())
