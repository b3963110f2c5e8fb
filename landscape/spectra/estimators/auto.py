"""The choice of a method, from a pilot of random probes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from landscape.spectra.estimators.exact import Exact
from landscape.spectra.estimators.found import Estimator, Found, Goal
from landscape.spectra.estimators.measures import Trace
from landscape.spectra.estimators.probing import Deflated, Hutchinson
from landscape.spectra.estimators.work import PILOT, Work
from landscape.spectra.estimators.xtrace import XTrace

SURE = 0.6  # by what factor a prediction that goes beyond the pilot must be better than one that does not


class Auto:
    """Whichever method needs the fewest products by the pilot's prediction, which uses the pilot, too.

    Hutchinson's need follows from the pilot's spread. XTrace's follows from the part of each of the pilot's products
    that lies outside the others', which says how fast a sketch of the range captures the operator; Hutch++
    sketches in the same way and is never better. The gain of a Krylov deflation is tried: directions are added
    while the deflated pilot says that they save more than they cost. When all n products cost no
    more, they are made.
    """

    name: ClassVar[str] = "auto"

    def __init__(self, work: Work, goal: Goal, measure: Any) -> None:
        self.work, self.goal, self.measure = work, goal, measure
        self.chosen: Estimator = Hutchinson(work, goal, measure)
        self.why = ""

    def run(self) -> None:
        """Make the pilot, choose, and run the choice."""
        work, goal, entries = self.work, self.goal, isinstance(self.measure, Trace)
        small = work.n if goal.rtol is None else min(work.n, 2 * PILOT)
        if entries and work.n <= min(small, work.most):
            self.choose(Exact, f"{work.n} products give every entry")
            return
        work.pilot(goal.pilot)
        deflated = Deflated(work, goal, self.measure)
        costs = {"hutchinson": deflated.cost()}
        self.chosen = deflated
        deflated.deflate()
        tried = len(deflated.basis or ())
        if tried:
            costs["deflated"] = deflated.cost()
        least = min(costs.values())
        if entries and goal.pilot >= 8:
            costs["xtrace"] = self.sketched(tried)
        self.why = self.words(costs)
        if goal.rtol is not None and entries and work.n <= min(work.left, min(costs.values()) - work.matvecs):
            self.choose(Exact, self.why + f", all entries {work.matvecs + work.n}")
        elif costs.get("xtrace", np.inf) < SURE * least:
            self.choose(XTrace, self.why)
        else:
            deflated.run()

    def choose(self, method: type[Exact] | type[XTrace], why: str) -> None:
        """Go on with ``method``."""
        self.why = why
        self.chosen = method(self.work, self.goal, self.measure)
        self.chosen.run()

    def words(self, costs: dict[str, float]) -> str:
        """Return the predictions in words."""
        if self.goal.rtol is None:
            errors = ", ".join(f"{name} {cost**0.5:.2g}" for name, cost in costs.items())
            return f"standard errors predicted for {self.goal.most} products: {errors}"
        needs = ", ".join(
            f"{name} {cost:.0f}" if cost < 1e6 else f"{name} more than 1e6" for name, cost in costs.items()
        )
        return f"products predicted: {needs}"

    def sketched(self, spent: int) -> float:
        """Return the goal's cost by XTrace, from how much of the pilot's products lies outside the others.

        ``spent`` products went elsewhere.
        """
        work, goal = self.work, self.goal
        R2 = np.square(torch.linalg.qr(work.products).R.double().cpu().numpy())
        count = len(R2)
        left = np.array([R2[k:, k:].sum() / (count - k) for k in range(count)])
        low, high = count // 4, 3 * count // 4
        if left[high] <= 0:
            return 0.0 if goal.rtol is None else spent + 2.0 * count
        decay = max(0.0, np.log(left[low] / left[high]) / np.log(high / low))
        sums = self.measure.sums()
        sums.add(work.probes, work.products)
        spread = sums.spread(self.measure.known(None))
        probes = np.arange(count, max(count, (goal.most - spent) // 2) + 1)
        one = np.minimum(spread.one, 2 * left[high] * (high / probes) ** decay)
        if goal.rtol is None:
            return float(one[-1] / probes[-1])
        met = one <= probes * spread.one / max(spread.needed(goal.rtol), 1e-300)
        return spent + 2.0 * float(probes[np.argmax(met)]) if met.any() else float("inf")

    def found(self) -> Found | None:
        """Return the estimate of the method that was chosen."""
        return self.chosen.found()
