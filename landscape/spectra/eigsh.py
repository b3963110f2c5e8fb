"""Eigenpairs by thick-restart Lanczos."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import EigenResult
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed, normal
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

#: Relative residual asked for by default, by the dtype of the vectors.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}

# Multiples of rounding, relative to the largest value: a value below the first is zero, a residual below it is
# as small as products in this precision make it, and below the second no further step can help.
ROUNDING, EXHAUSTED = 50.0, 5.0


def eigsh(
    op: Any,
    k: int = 6,
    which: str = "LA",
    *,
    tol: float | None = None,
    max_matvecs: int = 1000,
    basis: int | None = None,
    seed: int = 0,
) -> EigenResult:
    """Return ``k`` eigenpairs of a symmetric operator, each with its true residual.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    k : int
        How many pairs, at most n.
    which : {"LA", "SA", "LM", "BE"}
        Largest algebraic, smallest algebraic, largest magnitude, or both ends (the odd one at the high
        end). Values come in that order: for ``"LA"`` the largest first, for ``"BE"`` from high to low.
    tol : float, optional
        A pair counts as converged when ``|A v - λ v| <= tol |λ|``, which bounds the relative error of λ;
        1e-6 for float64 vectors and 1e-4 for float32 by default.
    max_matvecs : int
        Most products to make, those for the residuals included.
    basis : int, optional
        Most basis vectors to hold; ``2 k + 20`` by default. More vectors need fewer products.
    seed : int
        Seeds the start vector.

    Returns
    -------
    EigenResult
        ``values``, ``vectors`` (n, k), ``residuals``, ``converged``, ``matvecs``, and a status in words. A
        value that is zero to rounding has no relative accuracy and is never called converged. After
        Ctrl-C the present approximations are returned with the status ``"interrupted"``.

    Notes
    -----
    One product a step, and ``k`` at the end for the residuals. Memory: ``basis + 1`` vectors and ``2 k`` at
    the end. From a single start vector one copy of an exactly multiple eigenvalue is found first; its
    further copies appear through rounding or after a breakdown.

    References
    ----------
    K. Wu, H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
    Anal. Appl. 22 (2000).
    """
    operator = Operator(op)
    n = operator.n
    _check(k, which, max_matvecs, n, tol, basis)
    tol = TOLERANCES[operator.dtype] if tol is None else tol
    size = min(n, max(k + 2, 2 * k + 20 if basis is None else basis))
    start = normal(n, check_seed(seed), 0, dtype=operator.dtype, device=operator.device)
    krylov = Krylov(operator, size, start, seed)
    interrupted = False
    with Cost() as cost, Bar(f"eigsh {which} {k}", total=100) as bar:
        try:
            _iterate(krylov, k, which, tol, max_matvecs - k, bar)
        except KeyboardInterrupt:
            if krylov.filled < k:
                raise
            interrupted = True
        values, vectors, residuals = _pairs(krylov, k, which)
    floor = ROUNDING * operator.eps * max(krylov.scale, float(np.abs(values).max()))
    zero = (np.abs(values) <= floor) & (residuals <= floor)
    converged = (residuals <= tol * np.abs(values)) & ~zero
    rounded = (residuals <= floor) & ~converged & ~zero
    status, message = _status(converged, zero, rounded, tol, operator, interrupted)
    facts = {**operator.provenance(), "solver": "thick-restart Lanczos", "start_seed": seed, "basis": size}
    return EigenResult.make(
        values,
        residuals,
        converged,
        vectors,
        which=which,
        tol=tol,
        matvecs=operator.matvecs,
        status=status,
        message=message,
        provenance=collect(cost, matvecs=operator.matvecs, breakdowns=krylov.breakdowns, **facts),
    )


def _iterate(krylov: Krylov, k: int, which: str, tol: float, budget: int, bar: Bar) -> None:
    """Extend and restart the basis until every wanted pair's estimate is met or the budget is used."""
    operator, shown = krylov.operator, 0.0
    while operator.matvecs < budget:
        krylov.extend()
        full = krylov.filled == krylov.size
        if krylov.filled < k or not (full or krylov.filled % 4 == 0 or krylov.beta == 0):
            continue
        values, coefficients, estimates = krylov.ritz()
        order = _order(values, which)
        wanted = order[:k]
        scale = np.abs(values).max()
        met = estimates[wanted] <= np.maximum(tol * np.abs(values[wanted]), EXHAUSTED * operator.eps * scale)
        done = 100 * _progress(estimates[wanted], tol * np.abs(values[wanted]), scale)
        bar.advance(max(0.0, done - shown), note=f"{int(met.sum())} of {k}, {operator.matvecs} products")
        shown = max(shown, done)
        # after a breakdown the estimates of the pairs found so far are zero, whatever is still hidden:
        # copies of a multiple value lie in the fresh direction
        if krylov.filled == operator.n or (met.all() and krylov.beta > 0):
            return
        if met.all() and krylov.breakdowns > 1 and krylov.filled >= min(k + 2, operator.n):
            return
        if full:
            kept = min(k + max(2, (krylov.size - k) // 2), krylov.size - 1)
            keep = order[:kept]
            krylov.restart(values[keep], coefficients[:, keep])


def _progress(estimates: np.ndarray, target: np.ndarray, scale: float) -> float:
    """Return how far the worst estimate has come from ``scale`` to its target, on a log scale, in [0, 1]."""
    tiny = 1e-300
    scale = max(float(scale), tiny)
    way = np.log(scale) - np.log(np.maximum(target, tiny))
    gone = np.log(scale) - np.log(np.maximum(estimates, tiny))
    return float(np.clip((gone / np.maximum(way, 1e-12)).min(), 0, 1))


def _order(values: np.ndarray, which: str) -> np.ndarray:
    """Return indices of ascending ``values``, most wanted first."""
    ascending = np.arange(len(values))
    if which == "LA":
        return ascending[::-1]
    if which == "SA":
        return ascending
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    both = np.empty_like(ascending)
    both[0::2] = ascending[::-1][: (len(values) + 1) // 2]
    both[1::2] = ascending[: len(values) // 2]
    return both


def _pairs(krylov: Krylov, k: int, which: str) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Return values, vectors (n, k) and true residuals of the wanted Ritz pairs; k products."""
    operator = krylov.operator
    values, coefficients, _ = krylov.ritz()
    vectors = krylov.vectors(coefficients[:, _order(values, which)[:k]])
    vectors = vectors / torch.tensor([operator.norm(v) for v in vectors.T], device=vectors.device).to(vectors)
    products = operator @ vectors
    rayleigh = np.array([operator.dot(v, p) for v, p in zip(vectors.T, products.T, strict=True)])
    left = products - vectors * torch.from_numpy(rayleigh).to(vectors)
    residuals = np.array([operator.norm(r) for r in left.T])
    order = np.argsort(rayleigh, kind="stable")
    if which == "LM":
        order = np.argsort(-np.abs(rayleigh), kind="stable")
    elif which != "SA":
        order = order[::-1]
    return rayleigh[order], vectors[:, torch.from_numpy(order.copy()).to(vectors.device)], residuals[order]


def _status(
    converged: np.ndarray, zero: np.ndarray, rounded: np.ndarray, tol: float, operator: Operator, interrupted: bool
) -> tuple[str, str]:
    """Return the status and its words."""
    k, good, none, limited = len(converged), int(converged.sum()), int(zero.sum()), int(rounded.sum())
    parts = [f"{good} of {k} pairs have a relative residual of at most {tol:g}"]
    if none:
        parts.append(f"{none} are zero to rounding, which no relative tolerance can tell from noise")
    if limited:
        precision = str(operator.dtype).removeprefix("torch.")
        remedy = "use float64, or loosen tol" if operator.dtype == torch.float32 else "loosen tol"
        parts.append(f"{limited} are as exact as {precision} makes them beside the largest value: {remedy}")
    left = k - good - none - limited
    if left:
        parts.append(f"{left} are not converged: raise max_matvecs or basis, loosen tol, or use float64")
    message = "; ".join(parts) + f" ({operator.matvecs} products)"
    if interrupted:
        return "interrupted", "stopped by Ctrl-C: " + message
    return ("converged" if good == k else "not converged"), message


def _check(k: int, which: str, max_matvecs: int, n: int, tol: float | None, basis: int | None) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise InputError(f"k must lie between 1 and n = {n}", got=k, fix="ask for fewer eigenpairs")
    if which not in ("LA", "SA", "LM", "BE"):
        raise InputError("which must be 'LA', 'SA', 'LM' or 'BE'", got=which, fix="use 'LA' for the largest values")
    if max_matvecs < 2 * k:
        raise InputError(f"max_matvecs must be at least {2 * k} for k = {k}", got=max_matvecs,
                         why="k products find the pairs and k verify them", fix="raise it")  # fmt: skip
    if tol is not None and not tol > 0:
        raise InputError("tol must be positive", got=tol, fix="pass for example tol=1e-3")
    if basis is not None and basis < min(n, k + 2):
        raise InputError(f"basis must be at least k + 2 = {k + 2}", got=basis, fix="raise it; 2 k + 20 is usual")
