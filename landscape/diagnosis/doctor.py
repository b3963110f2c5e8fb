"""An objective looked over: whether its numbers can be relied on, and what to do where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from landscape.curvature import Hessian
from landscape.diagnosis.finding import Finding, failed, warned
from landscape.diagnosis.registry import CHECKS, Check
from landscape.diagnosis.subject import Subject
from landscape.errors import InputError, LandscapeError, is_out_of_memory
from landscape.objective import Objective
from landscape.objective.share import refuse_shared
from landscape.progress import Bar
from landscape.results.checkup import Checkup, Row
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed


def doctor(
    objective: Objective,
    *,
    operator: Callable[[Objective], Any] = Hessian,
    seed: int = 0,
    pyhessian: bool = True,
) -> Checkup:
    """Check an objective and its operator on this very model, loss and data.

    Parameters
    ----------
    objective : Objective
        What to look over. It is left as it was.
    operator : callable
        Makes of an objective the operator whose products are checked, such as ``ls.GGN``; ``ls.Hessian`` by default.
    seed : int
        Seeds the choice of examples and the vectors.
    pyhessian : bool
        Whether to compare with the ``pyhessian`` package, where it is installed and can do what the objective needs.

    Returns
    -------
    Checkup
        One row for each check: its name, ``"pass"``, ``"warning"`` or ``"fail"``, what was found with its numbers,
        and what to do. Its status is ``"failed"`` when a check has failed. After Ctrl-C it holds the checks that had
        been made.

    Raises
    ------
    InputError
        When several processes share the objective's data or model. What is wrong with the objective itself is a row.

    Notes
    -----
    Checks are in ``landscape.diagnosis.CHECKS``. One that would only repeat what an earlier one has failed on is not
    made, and says so. Cost: reading the data, one gradient over all of it, and about a hundred gradients and products
    of a part: at most 64 examples and one batch, as few as 2 for large models. Memory: that part and the parameters in
    float64.
    """
    if not isinstance(objective, Objective):
        raise InputError("the doctor needs an objective", got=type(objective).__name__,
                         fix="pass ls.Objective(model, loss, data)")  # fmt: skip
    if not callable(operator):
        raise InputError("operator must make an operator of an objective", got=type(operator).__name__,
                         fix="pass for example operator=ls.GGN")  # fmt: skip
    refuse_shared(objective, "a checkup", "look over an objective without group= on a whole model")
    subject = Subject(objective, operator, check_seed(seed))
    wanted = {name: check for name, check in CHECKS.items() if pyhessian or name != "pyhessian"}
    rows: list[Row] = []
    interrupted = False
    with Cost() as cost, Bar("doctor", total=len(wanted)) as bar:
        try:
            for name, check in wanted.items():
                rows.append(Row(name, *_asked(check, subject, rows)))
                bar.advance(1, note=name)
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    facts = {**({"operator": subject.name} if subject.name else {}), "checkup_seed": seed}
    return Checkup.make(rows, interrupted=interrupted, provenance=collect(cost, **facts, **objective.provenance()))


def _asked(check: Check, subject: Subject, before: list[Row]) -> Finding:
    """Return what a check finds; what it raises on the way is a finding, too."""
    broken = [row.check for row in before if row.check in check.needs and row.verdict == "fail"]
    if broken:
        cause = " and ".join(broken)
        return warned(f"not looked at, because {cause} failed", f"mend {cause} first")
    try:
        return check.ask(subject)
    except LandscapeError as error:
        return failed(error.found, error.fix)
    except Exception as error:  # of the user's code, which may raise anything
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if is_out_of_memory(error):
            return failed(f"memory ran out: {words}", "give the data in smaller batches, or select fewer parameters")
        return failed(f"{type(error).__name__}: {words}", "call the model and the loss on one batch by themselves")
