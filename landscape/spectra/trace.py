"""The trace, of an operator and of functions of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.results import TraceResult
from landscape.results.base import STATUSES
from landscape.spectra.estimators import LEAST, METHODS, Found, Measure, Trace
from landscape.spectra.estimators.quadratic import Cube, Square
from landscape.spectra.estimators.run import Asked, run
from landscape.spectra.functions import FunctionOf

#: functions whose trace the products give without a quadrature -> what is measured
DIRECT: dict[str, type[Measure]] = {"identity": Trace, "square": Square, "cube": Cube}

#: methods for what is not a sum over entries
OVER_PROBES = ("auto", "hutchinson", "deflated")

UNSETTLED = "raise max_products (or products), or add damping"
QUADRATURE = 0.05  # part of rtol that a quadrature may be off, as far as its steps decide


def trace(
    op: Any,
    rtol: float = 0.02,
    *,
    products: int | None = None,
    max_products: int = 1000,
    method: str = "auto",
    function: str | Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> TraceResult:
    """Estimate the trace of a symmetric operator from products with random sign vectors.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    rtol : float
        Stop when the half-width of the 95 % interval is at most ``rtol`` times the estimate's magnitude.
    products : int, optional
        Use that many products instead of a tolerance.
    max_products : int
        Most products to use for ``rtol``; the status says when they did not suffice.
    method : {"auto", "hutchinson", "hutch++", "xtrace", "deflated", "exact"}
        ``"auto"`` takes the one that needs the fewest products by the prediction of a pilot of 16 probes, which
        it uses as well, and says which and why. ``"exact"`` makes n products. See the page on traces.
    function : {"square", "cube", "log"} or callable, optional
        The trace of a function of the operator instead. ``"square"`` takes |Av|² and ``"cube"`` (Av)ᵀA(Av), by
        ``"hutchinson"`` or ``"deflated"``, the better one where few eigenvalues dominate. ``"log"``, the logarithm
        of the determinant, and any function of an array of eigenvalues go by Lanczos quadrature: a product with
        f(A) costs some tens of products with A.
    seed : int
        Probe i is a function of (seed, i): operators that are asked with the same seed get the same probes, and
        differences between them are known better than either.
    out : path, optional
        Write the result there (``.nc``). What has been done is kept beside it: after an interruption the same
        call goes on, to the same numbers, once a product has shown that the operator is the same.
    overwrite : bool
        Replace ``out`` if it is there.

    Returns
    -------
    TraceResult
        ``estimate``, ``stderr``, ``interval(level)``, ``by_parameter`` and ``by_layer`` (from the same
        products; not for ``"square"`` and ``"cube"``). ``bias`` is the error of the quadrature, and part of the
        interval. After Ctrl-C, the present estimate with its error.

    Raises
    ------
    InputError
        For arguments that cannot be used, and where the function is not finite at a Ritz value, as the logarithm
        of an operator that is not positive.

    Notes
    -----
    The variance of one probe is 2 Σ B_ij² over i ≠ j, where B is what is left of A after deflation. Memory in
    vectors: about 60 for Hutchinson; a basis of at most 100 more for ``"deflated"`` and twice that for ``"hutch++"``;
    two for each product of ``"xtrace"``. With ``out`` the pilot and the basis are held once more on the host.

    References
    ----------
    M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
    splines, Commun. Stat. Simul. Comput. 18 (1989). R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff, Hutch++:
    optimal stochastic trace estimation, SOSA 2021. E. N. Epperly, J. A. Tropp, R. J. Webber, XTrace, SIAM J. Matrix
    Anal. Appl. 45 (2024). A. S. Gambhir, A. Stathopoulos, K. Orginos, Deflation as a method of variance reduction
    for estimating the trace of a matrix inverse, SIAM J. Sci. Comput. 39 (2017).
    """
    asked = Asked(rtol, products, max_products, method, seed, out, overwrite)
    name = "identity" if function is None else getattr(function, "__name__", str(function))
    direct = not callable(function) and name in DIRECT
    if not callable(function) and not direct and name != "log":
        raise InputError("no such function", got=function, fix="use 'log', 'square', 'cube', or pass a function")
    asked.check(METHODS if name == "identity" or not direct else OVER_PROBES)
    bias, settled = 0.0, True
    if not direct:
        applied = function if callable(function) else np.log
        op = FunctionOf(op, applied, name, seed=asked.seed, tol=QUADRATURE * rtol,
                        most=asked.goal.most // (2 * LEAST.get(method, 4)))  # fmt: skip
        asked, bias, settled = _in_steps(asked, op), op.bias, op.settled
        asked.check(METHODS)
    make = Trace if not direct else DIRECT[name]
    outcome = run("trace", op, asked, make, lambda found: _words(found, bias), {"function": name})
    found, work = outcome.found, outcome.work
    result = TraceResult.make(
        found.known,
        found.samples,
        list(work.slices) if make is Trace else ["all"],
        stderr=found.spread.error,
        dof=found.spread.dof,
        inflation=found.inflation,
        bias=bias,
        n=work.n,
        rtol=rtol,
        method=found.method,
        function=name,
        matvecs=work.matvecs if direct else op.trial + op.steps * work.matvecs,
        status=outcome.status if settled or not STATUSES[outcome.status] else "not converged",
        message=outcome.message + ("" if settled else "; the quadrature has not settled: " + UNSETTLED),
        provenance=outcome.provenance,
    )
    finished: TraceResult = outcome.finish(result)
    return finished


def _in_steps(asked: Asked, op: FunctionOf) -> Asked:
    """Return what is asked for with budgets in products with f(A)."""
    most = (asked.goal.most - op.trial) // op.steps
    return replace(asked, max_products=most, products=None if asked.products is None else most)


def _words(found: Found, bias: float) -> str:
    estimate = float(found.known.sum() + (found.samples.sum(axis=1).mean() if len(found.samples) else 0.0))
    half = found.spread.half_width
    words = f"{estimate:.6g}" if found.exact else f"{estimate:.5g} within ± {half:.2g} (95 %)"
    if estimate and not found.exact:
        words += f", {half / abs(estimate):.2%} of it"
    return words + (f", and an error of the quadrature of at most about {bias:.2g}" if bias else "")
