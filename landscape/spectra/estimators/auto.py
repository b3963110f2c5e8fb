"""The choice of a method, from a pilot of random probes."""

from __future__ import annotations

from typing import Any, ClassVar

from landscape.spectra.estimators.exact import Exact
from landscape.spectra.estimators.found import Estimator, Found, Goal
from landscape.spectra.estimators.measures import Trace
from landscape.spectra.estimators.probing import Deflated
from landscape.spectra.estimators.work import PILOT, Work


class Auto:
    """Whichever of three needs the fewest products by the prediction of a pilot, whose products serve it as well.

    Plain Hutchinson's need follows from the pilot's spread. A deflation is tried: directions are added while the
    pilot, deflated by them, says that they save more than they cost; none of it is lost. When all n products cost no
    more than what is still needed, they are made. Hutch++ and XTrace are not among the three: a direction of a
    sketch costs two products, one of a Krylov space costs one and lies better.
    """

    name: ClassVar[str] = "auto"

    def __init__(self, work: Work, goal: Goal, measure: Any) -> None:
        self.work, self.goal, self.measure = work, goal, measure
        self.chosen: Estimator = Deflated(work, goal, measure)
        self.why = ""

    def run(self) -> None:
        """Make the pilot, choose, and run the choice."""
        work, goal, entries = self.work, self.goal, isinstance(self.measure, Trace)
        if entries and work.n <= (goal.most if goal.rtol is None else min(goal.most, 2 * PILOT)):
            self.exactly(f"{work.n} products give every entry")
            return
        deflated = Deflated(work, goal, self.measure)
        self.chosen = deflated
        work.pilot(goal.pilot)
        costs = {"hutchinson": deflated.cost()}
        deflated.deflate()
        if deflated.deflation is not None:
            costs["deflated"] = deflated.cost()
        self.why = self.words(costs)
        if goal.rtol is not None and entries and work.n <= min(work.left, min(costs.values()) - work.matvecs):
            self.exactly(f"{self.why}, all entries {work.matvecs + work.n}")
        else:
            deflated.run()

    def exactly(self, why: str) -> None:
        """Compute every entry."""
        self.why, self.chosen = why, Exact(self.work, self.goal, self.measure)
        self.chosen.run()

    def words(self, costs: dict[str, float]) -> str:
        """Return the predictions in words."""
        if self.goal.rtol is None:
            errors = (f"{name} {cost**0.5:.2g}" for name, cost in costs.items())
            return f"standard errors predicted for {self.goal.most} products: {', '.join(errors)}"
        needs = (f"{name} {cost:.0f}" if cost < 1e6 else f"{name} more than 1e6" for name, cost in costs.items())
        return f"products predicted: {', '.join(needs)}"

    def found(self) -> Found | None:
        """Return the estimate of the method that was chosen."""
        return self.chosen.found()
