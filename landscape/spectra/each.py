"""One question asked of several operators: layers, classes, checkpoints, an operator and its parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import Family, Result
from landscape.results.partial import check_target
from landscape.results.provenance import Cost, collect, shared


def each(
    question: Callable[..., Result],
    operators: Any,
    *,
    by: str = "operator",
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Family:
    """Ask ``question`` of every operator and return the answers as one result.

    Parameters
    ----------
    question : function
        ``ls.eigsh``, ``ls.trace``, ``ls.diagonal``, ``ls.spectral_density``.
    operators : mapping
        Operators by name; ``H.blocks()`` gives those of the layers. A value may be a function without
        arguments that returns the operator, which is then made only when its turn comes.
    by : str
        What the names are of, in one word for titles: ``"layer"``, ``"class"``, ``"checkpoint"``.
    out : path, optional
        Write the family there (``.nc``).
    overwrite : bool
        Replace ``out`` if it is there.
    **options
        Passed on to the question. One ``seed`` serves all of them, so that operators of one size are asked
        with the same random vectors and differ by less than their error bars.

    Returns
    -------
    Family
        After Ctrl-C, the answers so far.
    """
    named = dict(operators.items()) if hasattr(operators, "items") else {}
    if not named:
        raise InputError("each needs operators by name", got=type(operators).__name__,
                         fix="pass a dictionary, or H.blocks()")  # fmt: skip
    target = check_target(out, overwrite)
    found: dict[str, Result] = {}
    interrupted = False
    name = getattr(question, "__name__", "question")
    with Cost() as cost, Bar(f"{name} by {by}", total=len(named)) as bar:
        for key, operator in named.items():
            made = operator() if _is_maker(operator) else operator
            try:
                found[str(key)] = question(made, **options)
            except KeyboardInterrupt:
                if not found:
                    raise
                interrupted = True
            if interrupted or found[str(key)].status == "interrupted":
                interrupted = True
                break
            bar.advance(1, note=str(key))
    family = Family.make(
        found,
        by=by,
        message=f"stopped by Ctrl-C after {len(found)} of {len(named)}" if interrupted else "",
        interrupted=interrupted,
        provenance=collect(cost, question=name, **shared(found.values())),
    )
    if target is not None:
        family.save(target)
    return family


def _is_maker(operator: Any) -> bool:
    return callable(operator) and not hasattr(operator, "shape")
