"""Running a method: its arguments, Ctrl-C, the status in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results.provenance import Cost, collect
from landscape.spectra.estimators import LEAST, METHODS
from landscape.spectra.estimators.found import Found, Goal
from landscape.spectra.estimators.measures import FEWEST, Measure, Trace
from landscape.spectra.estimators.work import Work


@dataclass(frozen=True)
class Asked:
    """The arguments that all questions about means over probes have."""

    rtol: float
    products: int | None
    max_products: int
    method: str
    seed: int
    out: str | Path | None
    overwrite: bool

    def check(self, methods: Iterable[str]) -> None:
        """Refuse what cannot be run."""
        methods = list(methods)
        if self.method not in methods:
            raise InputError("no such method here", got=self.method, fix=f"methods are {', '.join(methods)}")
        if not isinstance(self.rtol, Real) or not self.rtol > 0:
            raise InputError("rtol must be positive", got=self.rtol, fix="pass for example rtol=0.02")
        name = "max_products" if self.products is None else "products"
        most, least = getattr(self, name), LEAST.get(self.method, FEWEST)
        if isinstance(most, bool) or not isinstance(most, Integral) or most < least:
            raise InputError(f"{name} must be at least {least} for {self.method}", got=most,
                             why="fewer give no error bar worth its name", fix="raise it")  # fmt: skip

    @property
    def goal(self) -> Goal:
        """What is to be reached."""
        if self.products is not None:
            return Goal(None, self.products)
        return Goal(self.rtol, self.max_products)


@dataclass(frozen=True)
class Outcome:
    """What running a method came to."""

    work: Work
    found: Found
    status: str
    message: str
    provenance: dict[str, Any]

    def finish(self, result: Any) -> Any:
        """Write ``result`` if that was asked for and the work is done, and return it."""
        if self.status != "interrupted":
            self.work.partial.finish(result)
        return result


def run(
    title: str,
    op: Any,
    asked: Asked,
    make: Callable[[Work], Measure],
    words: Callable[[Found], str],
    key: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run the method that is asked for on what ``make`` measures; ``words`` says what was found."""
    goal = asked.goal
    work = Work(op, seed=asked.seed, most=goal.most, out=asked.out, overwrite=asked.overwrite,
                key={"question": title, "method": asked.method, "rtol": goal.rtol, **(key or {})})  # fmt: skip
    interrupted = False
    with Cost() as cost, Bar(title, total=goal.most) as work.bar:
        measure = make(work)
        if asked.method == "exact" and work.n > goal.most:
            raise InputError(f"exact needs {work.n} products, one for each entry", got=goal.most,
                             fix="raise products or max_products, or use another method")  # fmt: skip
        few = isinstance(measure, Trace) and work.n <= goal.pilot  # entries, fewer than a pilot has probes
        estimator = METHODS["exact" if few else asked.method](work, goal, measure)
        try:
            estimator.run()
        except KeyboardInterrupt:
            interrupted = True
            work.save(now=True)
        found = estimator.found()
    if found is None:
        raise KeyboardInterrupt
    met = found.exact or goal.met(found.spread)
    message = f"{_how(found)}: {words(found)}"
    if why := getattr(estimator, "why", ""):
        message += f"; {why}"
    status = "complete" if goal.rtol is None else "converged" if met else "not converged"
    if interrupted:
        status, message = "interrupted", f"stopped by Ctrl-C after {message}"
        if asked.out is not None:
            message += "; the same call goes on from here"
    elif status == "not converged":
        message += f"; this is more than {goal.rtol:.2%}: raise max_products, or loosen rtol"
    facts = {"estimator": found.method, "probe_seed": asked.seed, **found.facts, **work.provenance()}
    return Outcome(work, found, status, message, collect(cost, matvecs=work.matvecs, **facts))


def _how(found: Found) -> str:
    """Return what was done, in words."""
    probes, deflated = len(found.samples), found.facts.get("deflated", 0)
    if not probes:
        return "exact, entry by entry"
    parts = [found.method]
    if deflated and found.method != "xtrace":
        parts.append(f"{deflated} directions are known")
    parts.append(f"{probes} probes")
    if found.exact:
        parts.append("which all agree to rounding: exact")
    return ", ".join(parts)
