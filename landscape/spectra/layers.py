"""Eigenpairs layer by layer, and what layers on their own do not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import EigenResult, LayerCurvature
from landscape.results.partial import Partial
from landscape.results.provenance import Cost, collect, shared
from landscape.seeds import check_seed, rademacher
from landscape.spectra.each import Kept, ask_all
from landscape.spectra.eigsh import eigsh
from landscape.spectra.operators import Operator

COLUMNS = 16  # masked vectors that are multiplied together
_WHOLE = "(the whole)"


def eigsh_by_layer(
    op: Any,
    k: int = 1,
    which: str = "LA",
    *,
    by: Any = "layer",
    probes: int = 16,
    tol: float | None = None,
    max_matvecs: int = 1000,
    basis: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> LayerCurvature:
    """Return eigenpairs of each layer's block of an operator, and how much of the whole the blocks miss.

    Parameters
    ----------
    op : operator, shape (n, n)
        A symmetric operator whose vectors have named parts, such as ``ls.Hessian(objective)``.
    k : int
        How many pairs of each block (or all, of a smaller block) and of the whole.
    which : {"LA", "SA", "LM", "BE"}
        Which ones, as in :func:`~landscape.eigsh`.
    by : {"layer", "parameter"}, callable or mapping
        What a block is, as in ``op.blocks``.
    probes : int
        Random sign vectors for the share that the blocks miss; at least 2, or 0 to leave it out.
    tol, max_matvecs, basis
        As in ``eigsh``, for each block and for the whole.
    seed : int
        Seeds the start vectors and the probes; probe i is a function of (seed, i).
    out : path, optional
        Write the result there (``.nc``).
    overwrite : bool
        Replace ``out`` if it is there.

    Returns
    -------
    LayerCurvature
        A family of eigenpairs by layer, with ``missed`` ± ``missed_stderr``, the share of |A|_F² outside the
        diagonal blocks, ``coupling`` between any two blocks, and for the whole's top eigenvectors
        ``top_within``, the share of vᵀAv within blocks. After Ctrl-C, what there is so far.

    Notes
    -----
    A product with a block costs one of the whole. With B blocks: those of ``eigsh`` for each block and for
    the whole, and B (k + probes) for the shares, whose probes are multiplied one block at a time; the
    message says how many each took. The part of A in the whole's k eigenvectors is taken exactly, and only the
    rest is estimated: the error bar is small when k covers the outliers. The interval
    is symmetric in the odds' logarithm, with the probes' scatter. Memory: that of ``eigsh``, and 48 vectors for the
    shares.
    """
    if not hasattr(op, "blocks"):
        raise InputError("blocks are of an operator whose vectors have named parts", got=type(op).__name__,
                         fix="pass ls.Hessian(objective); ask ls.each(ls.eigsh, ...) of matrices")  # fmt: skip
    if isinstance(probes, bool) or not isinstance(probes, int | np.integer) or probes < 0 or probes == 1:
        raise InputError("probes must be 0, or at least 2", got=probes, why="one has no error bar", fix="pass 16")
    view, word = op.blocks(by), by if isinstance(by, str) else "block"
    options: dict[str, Any] = {"k": k, "which": which, "tol": tol, "max_matvecs": max_matvecs, "basis": basis}
    options["seed"] = check_seed(seed)
    kept = Kept(out, {"question": "eigsh_by_layer", "by": word, "names": list(view), **options}, overwrite=overwrite)
    with Cost() as cost:
        found, interrupted = ask_all(_pairs, {**view, _WHOLE: op}, kept, options, by=word)
        whole = cast(EigenResult | None, found.pop(_WHOLE, None))
        shares = _Shares(op, [_places(op, part) for part in view.values()], whole, probes, seed, kept)
        if not interrupted:
            interrupted = not shares.fill()
    blocks = sum(result.dataset.attrs["matvecs"] for result in found.values())
    spent = (int(blocks), whole.matvecs if whole else 0, shares.done)
    message = (
        f"{len(found)} of {len(view)} blocks; {sum(spent)} products: {spent[0]} for eigenpairs of blocks, {spent[1]} "
        f"for those of the whole, {spent[2]} for what blocks miss"
    )
    bad = [name for name, result in {**found, **({_WHOLE: whole} if whole else {})}.items() if not result.ok]
    if bad:
        message += f"; not converged: {', '.join(bad)}"
    if interrupted:
        message = f"stopped by Ctrl-C: {message}; the same call with out= goes on from here"
    result = LayerCurvature.of_blocks(
        found,
        whole,
        shares.curvature,
        shares.mass,
        shares.exact,
        shares.samples,
        by=word,
        message=message,
        interrupted=interrupted,
        matvecs=sum(spent),
        provenance=collect(cost, matvecs=sum(spent), probe_seed=seed, **shared([whole] if whole else found.values())),
    )
    if not interrupted:
        kept.finish(result)
    return result


def _pairs(part: Any, *, k: int, which: str, **options: Any) -> EigenResult:
    return eigsh(part, min(k, part.shape[0]), which, **options)


_pairs.__name__ = "eigsh"


def _places(op: Any, part: Any) -> list[slice]:
    """Return where the parameters of ``part`` lie in a vector of the whole."""
    return [op.space.slices[name] for name in part.space.names]


class _Shares:
    """Which blocks the squares of A lie between: exactly for the part in the top eigenvectors, by probes for the rest.

    With L = Σ λ v vᵀ and R = A - L, |A_cb|² = 2 <L_cb, A_cb> - |L_cb|² + |R_cb|² whatever L is, and |R_cb z_b|² has the
    mean |R_cb|² for random signs z. One table holds v_cᵀ A v_b of each eigenvector and |R_cb z_b|² of each probe.
    """

    def __init__(self, op: Any, parts: list[list[slice]], whole: Any, probes: int, seed: int, kept: Kept) -> None:
        self.operator, self.parts, self.seed = Operator(op), parts, seed
        self.values = np.zeros(0) if whole is None else whole.values
        self.k, self.done = len(self.values), 0
        vectors = torch.zeros(self.operator.n, 0) if whole is None else whole.vectors
        self.vectors = vectors.to(self.operator.device, self.operator.dtype)
        self.table = np.zeros((self.k + probes, len(parts), len(parts)))
        self.partial = Partial(None, {})
        if whole is not None and kept.folder is not None:
            key = {"probes": probes, "seed": seed, "values": self.values.tolist()}
            self.partial = Partial(kept.folder / "shares.nc", key)
        if self.partial.found:
            self.table, self.done = self.partial.found["table"], int(self.partial.found["done"])

    def fill(self) -> bool:
        """Multiply what is missing; return whether that came to its end."""
        jobs = [(row, block) for row in range(len(self.table)) for block in range(len(self.parts))]
        with Bar("shares of the blocks", total=len(jobs)) as bar:
            bar.advance(self.done)
            try:
                while self.done < len(jobs):
                    some = jobs[self.done : self.done + COLUMNS]
                    self._multiply(some)
                    self.done += len(some)
                    bar.advance(len(some))
                    self.partial.save(self._state)
            except KeyboardInterrupt:
                self.partial.save(self._state, now=True)
                return False
        return True

    def _state(self) -> dict[str, Any]:
        return {"table": self.table, "done": self.done}

    def _multiply(self, jobs: list[tuple[int, int]]) -> None:
        """Fill the table's columns ``jobs``: (row, block) pairs."""
        whole = {row: self._vector(row) for row in {row for row, _ in jobs}}
        masked = torch.zeros(self.operator.n, len(jobs), dtype=self.operator.dtype, device=self.operator.device)
        for j, (row, block) in enumerate(jobs):
            for where in self.parts[block]:
                masked[where, j] = whole[row][where]
        product = self.operator @ masked
        # what is left of a probe's product when the part in the eigenvectors is taken out
        inside = torch.from_numpy(self.values).to(masked)[:, None] * (self.vectors.T @ masked)
        inside[:, [j for j, (row, _) in enumerate(jobs) if row < self.k]] = 0.0
        product = torch.addmm(product, self.vectors, inside, alpha=-1)
        for j, (row, _) in enumerate(jobs):
            masked[:, j] = whole[row] if row < self.k else product[:, j]
        sums = self._by_block(lambda where: (masked[where] * product[where]).sum(0, dtype=torch.float64))
        for (row, block), column in zip(jobs, sums.cpu().numpy().T, strict=True):
            self.table[row, :, block] = column

    def _by_block(self, found: Callable[[slice], torch.Tensor]) -> torch.Tensor:
        """Return, first dimension by block, the sum of what is found at its parameters' places."""
        return torch.stack([torch.stack([found(where) for where in part]).sum(0) for part in self.parts])

    def _vector(self, row: int) -> torch.Tensor:
        if row < self.k:
            return self.vectors[:, row]
        op = self.operator
        return rademacher(op.n, self.seed, row - self.k, dtype=op.dtype, device=op.device)

    @property
    def curvature(self) -> np.ndarray:
        """v_cᵀ A v_b of each eigenvector, (k, B, B); NaN of those that were not reached."""
        reached = np.arange(self.k) < self.done // len(self.parts)
        return np.where(reached[:, None, None], self.table[: self.k], np.nan)

    @property
    def mass(self) -> np.ndarray:
        """|v_b|² of the eigenvectors, (k, B)."""
        return self._by_block(lambda where: (self.vectors[where].double() ** 2).sum(0)).T.cpu().numpy()

    @property
    def samples(self) -> np.ndarray:
        """|R_cb|_F² by each probe that was reached, made symmetric as they are on average."""
        found = self.table[self.k : self.done // len(self.parts)]
        return (found + found.transpose(0, 2, 1)) / 2

    @property
    def exact(self) -> np.ndarray:
        """2 <L_cb, A_cb> - |L_cb|², (B, B)."""
        outer = self.values[:, None] * self.values
        gram = self._by_block(lambda where: self.vectors[where].double().T @ self.vectors[where].double()).cpu().numpy()
        found = 2 * np.einsum("i,icb->cb", self.values, self.curvature)
        found -= np.einsum("ij,cij,bij->cb", outer, gram, gram)
        return (found + found.T) / 2
