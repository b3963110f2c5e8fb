"""Hutchinson's estimator, plain or after a deflation: Hutch++ and Krylov deflation are the same with a basis."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from landscape.spectra.estimators.deflation import Basis, Deflation, KrylovBasis, SketchBasis
from landscape.spectra.estimators.found import Found, Goal
from landscape.spectra.estimators.measures import FEWEST, DiagonalSums, Measure, Spread, Sums, Trace
from landscape.spectra.estimators.work import CHUNK, Work

MARGIN = 1.1  # more probes than predicted, so that the error bar need seldom be looked at twice
STRIDE = 4  # the number of probes is at most multiplied by so much before the prediction is made anew


class Hutchinson:
    """The mean of vᵀAv over random signs v.

    A pilot fixes the number of further probes, and the error bar is looked at when they are done: an
    interval that is watched, and stopped on when it happens to be small, would hold the truth too seldom.

    M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
    splines, Commun. Stat. Simul. Comput. 18 (1989); C. Bekas, E. Kokiopoulou, Y. Saad, An estimator for the
    diagonal of a matrix, Appl. Numer. Math. 57 (2007).
    """

    name: ClassVar[str] = "hutchinson"
    bases: ClassVar[type[KrylovBasis] | type[SketchBasis] | None] = None

    def __init__(self, work: Work, goal: Goal, measure: Measure) -> None:
        self.work, self.goal, self.measure = work, goal, measure
        self.basis: Basis | None = None if self.bases is None else self.bases(work)
        self.deflation: Deflation | None = None
        self.sums: Sums | None = None
        self.decided = False  # how much to deflate
        self.known = measure.known(None)

    def run(self) -> None:
        """Make the pilot, deflate as far as it pays, and then as many probes as are needed."""
        self.work.pilot(self.goal.pilot)
        if not self.decided:
            self.deflate()
        self.probe()

    def deflate(self) -> None:
        """Add directions while the pilot, deflated by them, says that they save more than they cost."""
        self.decided = True
        if self.basis is None:
            return
        target = self.target()
        best, at = self.cost(), 0
        if self.spread().agree:  # a diagonal, which a basis would only hide
            return
        while not self.basis.full:
            count = self.basis.step if target is None else min(self.basis.step, target - len(self.basis))
            if (
                count <= 0
                or self.basis.cost * count > self.work.left - self.reserve
                or (target is None and self.hopeless(best))
            ):
                break
            self.basis.grow(count)
            self.deflation = self.basis.deflation()
            cost = self.cost()
            if cost < best:
                best, at = cost, len(self.basis)
            elif target is None and len(self.basis) - at >= 8 + at // 2:
                break

    @property
    def reserve(self) -> int:
        """Products that the basis and the fewest probes still need beyond those of the pilot."""
        if self.goal.rtol is not None and not isinstance(self.measure, Trace):
            return self.measure.per_probe * (FEWEST + 1)
        return (self.measure.per_probe - 1) * (self.work.probes.shape[1] + 1)

    @property
    def unused(self) -> int:
        """How many of the first probes do not count: the pilot, where it chose the directions by what it saw.

        It is flattered by its choice, and so would be the error bar of a square; that of a trace is made of all
        entries, and hardly sees it.
        """
        chosen = self.deflation is not None and self.goal.rtol is not None and not isinstance(self.measure, Trace)
        return self.work.probes.shape[1] if chosen else 0

    def target(self) -> int | None:
        """Return how many directions to add, where that is fixed beforehand."""
        return None

    def hopeless(self, best: float) -> bool:
        """Whether the next step costs more than it could save."""
        if self.basis is None or self.goal.rtol is None:
            return best == 0
        least = self.goal.pilot * self.measure.per_probe + self.basis.cost * (len(self.basis) + self.basis.step)
        return least >= best

    def cost(self) -> float:
        """Return the goal's cost with the present basis, from the pilot."""
        pilot = self.work.probes.shape[1]
        spent = self.unused + (0 if self.basis is None else self.basis.cost * len(self.basis))
        return self.goal.cost(self.spread(), self.goal.pilot if self.unused else pilot, spent, self.measure.per_probe)

    def spread(self) -> Spread:
        """Return how the pilot scatters with the present basis."""
        guide = self.measure.guide
        sums = guide.sums()
        sums.add(*self.seen())
        return sums.spread(guide.known(self.deflation))

    def seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pilot's probes and B times them."""
        probes, products = self.work.probes, self.work.products
        return probes, products if self.deflation is None else self.deflation.rest(probes, products)

    def probe(self) -> None:
        """Make probes until the goal is met or the budget is used."""
        work, goal = self.work, self.goal
        sums = self.begun()
        while True:
            begun = len(sums) >= FEWEST
            spread = sums.spread(self.known) if begun else self.spread()
            if (begun and goal.met(spread)) or spread.error == 0 or work.left < self.measure.per_probe:
                return
            for _ in range(0, self.planned(spread), CHUNK):
                count = min(CHUNK, work.left // self.measure.per_probe)
                if count == 0:
                    break
                probes = work.signs(self.unused + len(sums), count)
                product = work.multiply(probes) if self.deflation is None else self.deflation.multiply(work, probes)
                sums.add(probes, product)
                work.save()

    def planned(self, spread: Spread) -> int:
        """Return how many probes to add before the error bar is looked at again."""
        have = len(self.sums or ())
        left = self.work.left // self.measure.per_probe
        if self.goal.rtol is None:
            return left
        wanted = min(MARGIN * spread.needed(self.goal.rtol), STRIDE * (have or self.work.probes.shape[1]))
        return min(left, max(CHUNK if have else self.goal.pilot, math.ceil(wanted) - have))

    def begun(self) -> Sums:
        """Return the sums over the pilot, or those that an earlier call left, once."""
        if self.sums is not None:
            return self.sums
        self.known = self.measure.known(self.deflation)
        sums, kept = self.measure.sums(), self.work.partial.found
        if "rows" in kept:
            sums.restore(kept)
            self.work.matvecs += len(sums) * self.measure.per_probe - self.work.probes.shape[1] + self.unused
        elif not self.unused:
            sums.add(*self.seen())
        self.sums = sums
        self.work.remember(sums.state)
        return sums

    def found(self) -> Found | None:
        """Return the present estimate."""
        if self.work.probes.shape[1] < FEWEST:
            return None
        if self.sums is None and self.basis is not None and len(self.basis):
            self.deflation = self.basis.deflation()
        sums = self.begun()
        if len(sums) < FEWEST:
            sums = self.measure.sums()
            sums.add(*self.seen())
        facts = {"deflated": 0 if self.basis is None else len(self.basis)}
        entries = sums.diagonal() if isinstance(sums, DiagonalSums) else None
        spread = sums.spread(self.known)
        name = self.name if self.basis is None or len(self.basis) else Hutchinson.name
        return Found(name, self.known, sums.samples, spread, diagonal=entries, facts=facts)


class Deflated(Hutchinson):
    """Hutchinson's estimator for what a Krylov space of a random vector leaves over.

    A. S. Gambhir, A. Stathopoulos, K. Orginos, Deflation as a method of variance reduction for estimating the
    trace of a matrix inverse, SIAM J. Sci. Comput. 39 (2017); T. Chen, E. Hallman, Krylov-aware stochastic
    trace estimation, SIAM J. Matrix Anal. Appl. 44 (2023).
    """

    name = "deflated"
    bases = KrylovBasis


class HutchPlusPlus(Hutchinson):
    """Hutch++: a third of the products each for a sketch of the range, its trace, and probes of the rest.

    R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff, Hutch++: optimal stochastic trace estimation, SOSA 2021.
    """

    name = "hutch++"
    bases = SketchBasis

    def target(self) -> int | None:
        """Return a third of the budget, or None for a tolerance, where the pilot decides."""
        return self.work.most // 3 if self.goal.rtol is None else None
