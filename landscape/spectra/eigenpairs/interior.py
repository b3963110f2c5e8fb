"""Eigenpairs inside the spectrum, nearest to a shift, by band Lanczos on a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results.outliers import ROUNDING
from landscape.results.partial import Partial
from landscape.spectra.eigenpairs.certainty import Look
from landscape.spectra.eigenpairs.filtering import Filter, rayleigh_ritz, survey
from landscape.spectra.eigenpairs.pairs import Pairs
from landscape.spectra.eigenpairs.search import search
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

Resume = Callable[[Mapping[str, np.ndarray], Operator], Krylov]


def interior(
    operator: Operator, k: int, sigma: float, tol: float, budget: int, size: int, seed: int, bar: Bar,
    partial: Partial, resume: Resume,
) -> tuple[Pairs, Krylov, bool]:  # fmt: skip
    """Return the ``k`` pairs nearest to ``sigma``, the Krylov space of the filter, and whether Ctrl-C ended it.

    The residual of a Ritz vector under the filter is not the one under A: that is measured with ``k`` products, and
    the tolerance of the filter lowered, until all are small enough, and values told apart, or the budget is used.
    A window that turns out to hold too few values is doubled.
    """
    found = partial.found
    facts = {name: float(found[name]) for name in ("window", "reach", "strict")} if found else {}
    facts = facts or {**survey(operator, sigma, size, seed), "strict": tol}
    interrupted = False
    while True:
        filtered = Filter(operator, sigma, facts["window"], facts["reach"])
        krylov = resume(found, filtered)
        least = operator.matvecs + max(0, k - krylov.filled) * filtered.cost
        if least > budget and krylov.filled < k:
            raise InputError(
                f"max_matvecs must be at least {least + k + 1} to look for {k} eigenvalues near sigma here",
                got=budget + k + 1,
                why=f"one step of the filter that singles them out takes {filtered.cost} products",
                fix="raise it, or ask for the ends of the spectrum",
            )

        def state(krylov: Krylov = krylov, facts: dict[str, float] = facts) -> dict[str, np.ndarray]:
            numbers = {**facts, "matvecs": operator.matvecs}
            return {**krylov.state(), **{name: np.array(number) for name, number in numbers.items()}}

        def look(krylov: Krylov = krylov, facts: dict[str, float] = facts) -> Look:
            return Look.at(krylov, k, "LA", facts["strict"])

        try:
            while True:
                search(krylov, k, "LA", facts["strict"], budget, bar, lambda: partial.save(state))
                pairs = _pairs(look(), filtered, tol)
                used = operator.matvecs + filtered.cost > budget or krylov.filled == operator.n
                needed = max(filtered.needed(pairs, facts["strict"]), operator.eps)
                if used or facts["strict"] <= needed:
                    break
                facts["strict"] = 0.5 * needed
        except KeyboardInterrupt:
            partial.save(state, now=True)
            if krylov.filled < k:
                raise
            interrupted = True
            pairs = _pairs(look(), filtered, tol)
        told_apart = filtered.edge < 0.99 * look().theta[-1] or filtered.degree == 1
        if told_apart or used or interrupted:
            pairs.sure &= told_apart and (
                krylov.filled == operator.n or facts["strict"] <= filtered.needed(pairs, facts["strict"])
            )
            return pairs, krylov, interrupted
        facts, found = {**facts, "window": min(2 * facts["window"], 0.9 * facts["reach"]), "strict": tol}, {}


def _pairs(look: Look, filtered: Filter, tol: float) -> Pairs:
    """Return the eigenpairs of A in the span of the wanted Ritz vectors of its filter, nearest to the shift first."""
    operator, sigma = filtered.operator, filtered.sigma
    values, vectors, residuals = rayleigh_ritz(operator, look.krylov.vectors(look.coefficients[:, look.wanted]))
    order = np.argsort(np.abs(values - sigma), kind="stable")
    sure = np.full(len(values), bool(look.sure.all() and look.met.all()))
    floor = ROUNDING * operator.eps * (filtered.reach + abs(sigma))
    rows = torch.from_numpy(order).to(vectors.device)
    none = np.zeros(len(values))  # of noise, and of what rounding hides: the filter's are not the operator's
    return Pairs(values[order], vectors[:, rows], residuals[order], sure, tol, floor, len(values), none > 0, none)
