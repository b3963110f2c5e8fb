"""Eigenpairs by thick-restart band Lanczos."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import EigenResult
from landscape.results.partial import Partial
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed
from landscape.spectra.eigenpairs.certainty import Look
from landscape.spectra.eigenpairs.interior import Resume, interior
from landscape.spectra.eigenpairs.pairs import Pairs, pairs_of
from landscape.spectra.eigenpairs.search import search
from landscape.spectra.eigenpairs.selection import KINDS
from landscape.spectra.identity import agree, moments
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

#: Relative residual asked for by default, by the dtype of the vectors.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}


def eigsh(
    op: Any,
    k: int = 6,
    which: str = "LA",
    *,
    sigma: float | None = None,
    tol: float | None = None,
    max_matvecs: int = 1000,
    basis: int | None = None,
    start: Any = None,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> EigenResult:
    """Return ``k`` eigenpairs of a symmetric operator, each with its true residual, and whether none is missing.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    k : int
        How many pairs, at most n.
    which : {"LA", "SA", "LM", "BE"}
        Largest algebraic, smallest algebraic, largest magnitude, or both ends (the odd one at the high
        end). Values come in that order: for ``"LA"`` the largest first, for ``"BE"`` from high to low.
    sigma : float, optional
        With ``which="LM"``, the values nearest to ``sigma``, the nearest first, as in SciPy but without an inverse:
        a polynomial of the operator that is largest at ``sigma`` takes its place. Deep inside a dense spectrum that
        takes thousands of products; raise ``max_matvecs``.
    tol : float, optional
        A pair counts as converged when ``|A v - λ v| <= tol |λ|``, which bounds the relative error of λ, and when
        no other is missing above it; 1e-6 for float64 vectors and 1e-4 for float32 by default.
    max_matvecs : int
        Most products to make, those for the residuals included.
    basis : int, optional
        Most basis vectors to hold; ``3 k + 30`` by default. More vectors need fewer products.
    start : EigenResult or tensor, shape (n, m), optional
        Earlier eigenvectors, or any guess, to start from. Random vectors join them, so that a new direction is
        found however little it has in common with the old ones. By default one random vector.
    seed : int
        Seeds the random vectors.
    out : path, optional
        Write the result there (``.nc``). What is found so far is kept beside it: after a kill or a Ctrl-C the same
        call goes on from there, to the same values.
    overwrite : bool
        Replace ``out`` if it is there.

    Returns
    -------
    EigenResult
        ``values``, ``vectors`` (n, k), ``residuals``, ``converged``, ``matvecs``, and a status in words. A
        value that is zero to rounding has no relative accuracy and is never called converged. After
        Ctrl-C the present approximations are returned with the status ``"interrupted"``.

    Raises
    ------
    InputError
        When an argument cannot be used, or the operator is not symmetric.
    NonFiniteError
        When a product is not finite.

    Notes
    -----
    A residual proves that there is an eigenvalue, not that none is missing above it: of an exactly multiple value
    a single start vector finds one copy, and of two very close ones it may see a mixture. So random vectors join
    the search while it converges, until the chance that an eigenvalue which exists would have stayed hidden above is
    below 0.2 % for every place; below 3 % for a second copy of a value found, of which there hardly ever is one, and
    below 5 % that several random vectors all missed it. With ``start`` these are 0.05 %, 1 % and 1 %. Pairs for which
    this is not reached are not called converged, and the message says so.

    One product a step; one at the end that checks all residuals, and one more for each pair that rounding leaves in
    doubt. Memory: ``basis`` vectors, those of ``start`` and a few random ones, and ``2 k`` at the end.

    References
    ----------
    K. Wu, H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
    Anal. Appl. 22 (2000); A. Ruhe, Implementation aspects of band Lanczos algorithms, Math. Comp. 33 (1979);
    J. Kuczynski, H. Wozniakowski, Estimating the largest eigenvalue by the power and Lanczos algorithms with a
    random start, SIAM J. Matrix Anal. Appl. 13 (1992).
    """
    operator = Operator(op)
    n = operator.n
    _check(k, which, max_matvecs, n, tol, basis)
    _check_sigma(sigma, which)
    tol = TOLERANCES[operator.dtype] if tol is None else tol
    size = min(n, max(k + 2, 3 * k + 30 if basis is None else basis))
    block = None if start is None else _block(start, operator)
    key = {"n": n, "dtype": str(operator.dtype), "k": k, "which": which, "tol": tol, "basis": size, "seed": seed}
    partial = Partial(out, {**key, "sigma": sigma, "start": _fingerprint(block)}, overwrite=overwrite)
    check_seed(seed)

    def resume(found: Mapping[str, np.ndarray], operator: Operator) -> Krylov:
        return _resumed(found, operator, size, block, seed)

    with Cost() as cost, Bar(f"eigsh {which} {k}", total=100) as bar:
        if sigma is None:
            pairs, krylov, interrupted = _ends(operator, k, which, tol, max_matvecs - k - 1, seed, bar, partial, resume)
        else:
            pairs, krylov, interrupted = interior(
                operator, k, float(sigma), tol, max_matvecs - k - 1, size, seed, bar, partial, resume
            )
    status, message = pairs.status(operator, interrupted, operator.matvecs)
    found = EigenResult.make(
        pairs.values,
        pairs.residuals,
        pairs.converged,
        pairs.vectors,
        which=which,
        sigma=sigma,
        tol=tol,
        matvecs=operator.matvecs,
        status=status,
        message=message,
        provenance=collect(
            cost, matvecs=operator.matvecs, matvecs_residuals=pairs.products, start_seed=seed, basis=size,
            solver="thick-restart band Lanczos" if sigma is None else "filtered band Lanczos",
            start_vectors=0 if block is None else block.shape[1], random_vectors=len(krylov.probes),
            restarts=krylov.restarts, breakdowns=krylov.breakdowns,
            **({} if sigma is None else {"filter_degree": krylov.operator.cost // 2}), **operator.provenance(),
        ),
    )  # fmt: skip
    if not interrupted:
        partial.finish(found)
    return found


def _ends(
    operator: Operator, k: int, which: str, tol: float, budget: int, seed: int, bar: Bar, partial: Partial,
    resume: Resume,
) -> tuple[Pairs, Krylov, bool]:  # fmt: skip
    """Return the pairs at the ends of the spectrum, their Krylov space, and whether Ctrl-C ended it."""
    krylov, interrupted = resume(partial.found, operator), False

    def state() -> dict[str, np.ndarray]:
        return {**krylov.state(), "matvecs": np.array(operator.matvecs)}

    try:
        search(krylov, k, which, tol, budget, bar, lambda: partial.save(state))
        pairs = pairs_of(Look.at(krylov, k, which, tol), operator, seed)
    except KeyboardInterrupt:
        partial.save(state, now=True)
        if krylov.filled < k:
            raise
        interrupted = True
        pairs = pairs_of(Look.at(krylov, k, which, tol), operator, seed, checked=False)
    return pairs, krylov, interrupted


def _resumed(
    found: Mapping[str, np.ndarray], operator: Operator, size: int, block: torch.Tensor | None, seed: int
) -> Krylov:
    """Return a Krylov space as it was left, if one product shows that it is of the same operator; else a new one."""
    krylov = Krylov(operator, size, block, seed)
    if block is not None:
        krylov.probe()
    if found and found["counts"][0] > 0:  # a product at least
        earlier = Krylov(operator, size, block, seed)
        earlier.resume(found)
        first = found["H"][:, 0]  # the product with the first vector, in the basis
        if agree([first[0], first @ first], moments(operator, earlier.basis[0]), operator.eps):
            operator.matvecs += int(found["matvecs"])
            return earlier
    return krylov


def _block(start: Any, operator: Operator) -> torch.Tensor:
    """Return start vectors as columns (n, m) in the operator's dtype, on its device."""
    given = start.vectors if isinstance(start, EigenResult) else start
    if not isinstance(given, torch.Tensor | np.ndarray) or given.ndim not in (1, 2) or len(given) != operator.n:
        raise InputError(
            f"start must hold vectors of length n = {operator.n} as columns",
            got=f"shape {tuple(given.shape)}" if hasattr(given, "shape") else type(given).__name__,
            fix="pass an earlier eigsh result of an operator of this size, or a tensor of shape (n, m)",
        )
    block = torch.as_tensor(given).detach().to(device=operator.device, dtype=operator.dtype).reshape(operator.n, -1)
    if not bool(torch.isfinite(block).all()):
        raise InputError("start must be finite", got="NaN or infinity", fix="leave it out to start from random vectors")
    return block


def _fingerprint(block: torch.Tensor | None) -> str | None:
    return None if block is None else hashlib.blake2b(block.cpu().numpy().tobytes(), digest_size=8).hexdigest()


def _check_sigma(sigma: float | None, which: str) -> None:
    if sigma is None:
        return
    if which != "LM":
        raise InputError("with sigma, which must be 'LM'", got=which,
                         why="the values nearest to sigma are the largest of (A - sigma)⁻¹ in magnitude",
                         fix="pass which='LM', or leave sigma out")  # fmt: skip
    if not np.isfinite(sigma):
        raise InputError("sigma must be finite", got=sigma, fix="pass a number inside the spectrum")


def _check(k: int, which: str, max_matvecs: int, n: int, tol: float | None, basis: int | None) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise InputError(f"k must lie between 1 and n = {n}", got=k, fix="ask for fewer eigenpairs")
    if which not in KINDS:
        raise InputError("which must be 'LA', 'SA', 'LM' or 'BE'", got=which, fix="use 'LA' for the largest values")
    if max_matvecs < 2 * k + 1:
        raise InputError(f"max_matvecs must be at least {2 * k + 1} for k = {k}", got=max_matvecs,
                         why="k products find the pairs and up to k + 1 verify them", fix="raise it")  # fmt: skip
    if tol is not None and not tol > 0:
        raise InputError("tol must be positive", got=tol, fix="pass for example tol=1e-3")
    if basis is not None and basis < min(n, k + 2):
        raise InputError(f"basis must be at least k + 2 = {k + 2}", got=basis, fix="raise it; 2 k + 20 is usual")
