"""The diagonal of an operator, entry by entry with error bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscape.results import DiagonalResult
from landscape.spectra.estimators import Diagonal, Found
from landscape.spectra.estimators.run import Asked, run

#: method here -> method of the trace that it belongs to
METHODS = {
    "auto": "auto",
    "hutchinson": "hutchinson",
    "xdiag": "xtrace",
    "deflated": "deflated",
    "exact": "exact",
}


def diagonal(
    op: Any,
    rtol: float = 0.1,
    *,
    products: int | None = None,
    max_products: int = 1000,
    method: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> DiagonalResult:
    """Estimate the diagonal of a symmetric operator from products with random sign vectors.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    rtol : float
        Stop when the error of all entries together is at most ``rtol`` times the diagonal, both in root mean
        square. Single entries may be known worse.
    products : int, optional
        Use that many products instead of a tolerance. With n of them the diagonal is exact.
    max_products : int
        Most products to use for ``rtol``; the status says when they did not suffice.
    method : {"auto", "hutchinson", "xdiag", "deflated", "exact"}
        As for :func:`~landscape.spectra.trace.trace`. ``"exact"`` makes n products.
    seed : int
        Probe i is a function of (seed, i).
    out : path, optional
        Write the result there (``.nc``); after an interruption the same call goes on where it stopped.
    overwrite : bool
        Replace ``out`` if it is there.

    Returns
    -------
    DiagonalResult
        ``estimate`` and ``stderr``, tensors (n,), ``interval(level)`` of every entry, ``by_parameter``, and
        ``sums`` over layers and parameters with their own error bars.

    Notes
    -----
    The variance of entry i by one probe is Σ B_ij² over j ≠ i: a network's diagonal is small beside the rest of
    its rows, and takes many more products than its trace. Memory: as for the trace, and two vectors in float64.

    References
    ----------
    C. Bekas, E. Kokiopoulou, Y. Saad, An estimator for the diagonal of a matrix, Appl. Numer. Math. 57 (2007).
    E. N. Epperly, J. A. Tropp, R. J. Webber, XTrace: making the most of every sample in stochastic trace
    estimation, SIAM J. Matrix Anal. Appl. 45 (2024), for XDiag; here in a form that uses the symmetry.
    """
    Asked(rtol, products, max_products, method, seed, out, overwrite).check(METHODS)
    asked = Asked(rtol, products, max_products, METHODS[method], seed, out, overwrite)
    asked.check(list(METHODS.values()))
    outcome = run("diagonal", op, asked, Diagonal, _words)
    found, work = outcome.found, outcome.work
    assert found.diagonal is not None
    estimate, variance = found.diagonal
    result = DiagonalResult.make(
        estimate.to(work.dtype),
        variance.sqrt().to(work.dtype),
        list(work.slices),
        [where.stop for where in work.slices.values()],
        found.known,
        found.samples,
        dof=found.spread.dof,
        inflation=found.inflation,
        n=work.n,
        rtol=rtol,
        method=next(name for name, of in METHODS.items() if of == found.method),
        matvecs=work.matvecs,
        status=outcome.status,
        message=outcome.message,
        provenance=outcome.provenance,
    )
    finished: DiagonalResult = outcome.finish(result)
    return finished


def _words(found: Found) -> str:
    if found.exact:
        return "no entry has an error"
    share = found.spread.error / found.spread.size if found.spread.size else float("inf")
    return f"the entries are known to {share:.2%} in root mean square"
