"""Numbers that sum up a spectrum: the Frobenius norm and effective ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.results import Estimate
from landscape.spectra.estimators import Found, Measure, Work
from landscape.spectra.estimators.measures import jackknife
from landscape.spectra.estimators.quadratic import Norm, Participation
from landscape.spectra.estimators.run import Asked, run
from landscape.spectra.trace import OVER_PROBES


def frobenius_norm(
    op: Any,
    rtol: float = 0.02,
    *,
    products: int | None = None,
    max_products: int = 1000,
    method: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Estimate:
    """Estimate the Frobenius norm of a symmetric operator, the root of the sum of its squared eigenvalues.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    rtol, products, max_products, seed, out, overwrite
        As for :func:`~landscape.spectra.trace.trace`.
    method : {"auto", "hutchinson", "deflated"}
        Whether to deflate; ``"auto"`` decides by a pilot.

    Returns
    -------
    Estimate
        ``estimate``, ``stderr``, ``interval(level)``, status and cost.

    Notes
    -----
    The mean of |Av|² over random signs v is tr A². After deflation |A|² = |T|² + 2|E|² + |B|², of which only |B|² is
    estimated. The estimate and its error bar are jackknifed over probes. One product a probe; memory as for the trace.
    """
    asked = Asked(rtol, products, max_products, method, seed, out, overwrite)
    return _number("Frobenius norm", "(sum of λ²)^(1/2)", op, asked, Norm)


def effective_rank(
    op: Any,
    rtol: float = 0.05,
    *,
    products: int | None = None,
    max_products: int = 1000,
    method: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Estimate:
    """Estimate how many eigenvalues carry the trace: the participation ratio (tr A)² / tr A².

    It is r for r equal eigenvalues and zeros otherwise, and lies between 1 and n for a positive operator. Where
    eigenvalues of both signs cancel in the trace it says nothing of a rank.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    rtol, products, max_products, seed, out, overwrite
        As for :func:`~landscape.spectra.trace.trace`.
    method : {"auto", "hutchinson", "deflated"}
        Whether to deflate; ``"auto"`` decides by a pilot.

    Returns
    -------
    Estimate
        ``estimate``, ``stderr``, ``interval(level)``, status and cost.

    Notes
    -----
    Both traces are from the same products; a jackknife over probes takes off the bias that the square of an estimated
    trace has, and gives the error bar. Where the trace may be 0, so may the interval's lower
    end. One product a probe.
    """
    asked = Asked(rtol, products, max_products, method, seed, out, overwrite)
    return _number("effective rank", "(sum of λ)² / sum of λ²", op, asked, Participation)


def _number(name: str, definition: str, op: Any, asked: Asked, make: Callable[[Work], Measure]) -> Estimate:
    asked.check(OVER_PROBES)
    measures: list[Measure] = []

    def made(work: Work) -> Measure:
        measures.append(make(work))
        return measures[0]

    def words(found: Found) -> str:
        whole, error = float(running(found)[0][-1]), found.spread.half_width
        if found.exact:
            return f"{whole:.6g}"
        return f"{whole:.5g} within ± {error:.2g} (95 %)" + (f", {error / whole:.2%} of it" if whole else "")

    def running(found: Found) -> tuple[np.ndarray, np.ndarray]:
        return _running(measures[0], found)

    outcome = run(name, op, asked, made, words)
    found, work = outcome.found, outcome.work
    estimates, errors = running(found)
    result = Estimate.make(
        estimates[-1],
        found.spread.error,
        estimates,
        errors,
        name=name,
        definition=definition,
        dof=found.spread.dof,
        positive=True,
        n=work.n,
        rtol=asked.rtol,
        method=found.method,
        matvecs=work.matvecs,
        status=outcome.status,
        message=outcome.message,
        provenance=outcome.provenance,
    )
    finished: Estimate = outcome.finish(result)
    return finished


def _running(measure: Measure, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Return the number from the first k probes for every k, and its standard error by a jackknife."""
    count = len(found.samples)
    estimates, errors = np.full(count, np.nan), np.full(count, np.nan)
    estimates[:1] = measure.value(found.known + found.samples[:1])
    for k in range(2, count + 1):
        estimates[k - 1], squares, bias = jackknife(measure.value, found.known, found.samples[:k])
        errors[k - 1] = (squares.sum() / (k * (k - 1)) + 2 * bias**2) ** 0.5
    return np.maximum(estimates, 0.0), errors
