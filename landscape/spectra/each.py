"""One question asked of several operators: layers, classes, checkpoints, an operator and its parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from landscape.errors import InputError, LandscapeError
from landscape.progress import Bar
from landscape.results import Family, Result, load
from landscape.results.partial import Partial
from landscape.results.provenance import Cost, collect, shared
from landscape.seeds import rademacher
from landscape.spectra.identity import agree, moments
from landscape.spectra.operators import Operator


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
        Write the family there (``.nc``). The answers so far are kept in a folder beside it while the work
        runs; after an interruption the same call goes on where it stopped.
    overwrite : bool
        Replace ``out`` if it is there.
    **options
        Passed on to the question. One ``seed`` serves all of them, so that operators of one size are asked
        with the same random vectors and differ by less than their error bars.

    Returns
    -------
    Family
        After Ctrl-C, the answers so far, with status ``"interrupted"``.

    Notes
    -----
    As many products as the questions take, and with ``out`` one more for each operator, by which a later call
    sees that it is the same.
    """
    named = dict(operators.items()) if hasattr(operators, "items") else {}
    if not named:
        raise InputError("each needs operators by name", got=type(operators).__name__,
                         fix="pass a dictionary, or H.blocks()")  # fmt: skip
    name = getattr(question, "__name__", "question")
    key = {"question": name, "by": by, "names": list(map(str, named)), **options}
    kept = Kept(out, key, overwrite=overwrite)
    with Cost() as cost:
        found, interrupted = ask_all(question, named, kept, options, by=by)
    done = sum(result.status != "interrupted" for result in found.values())
    family = Family.make(
        found,
        by=by,
        message=f"stopped by Ctrl-C after {done} of {len(named)}; the same call with out= goes on from here"
        if interrupted
        else "",
        interrupted=interrupted,
        provenance=collect(cost, question=name, **shared(found.values())),
    )
    if not interrupted:
        kept.finish(family)
    return family


def ask_all(
    question: Callable[..., Result], named: Mapping[str, Any], kept: Kept, options: Mapping[str, Any], *, by: str
) -> tuple[dict[str, Result], bool]:
    """Return the answers by name, those so far after Ctrl-C, and whether it came to that."""
    found: dict[str, Result] = {}
    with Bar(f"{getattr(question, '__name__', 'question')} by {by}", total=len(named)) as bar:
        for index, (one, operator) in enumerate(named.items()):
            try:
                made = operator() if _is_maker(operator) else operator
                found[str(one)] = kept.ask(index, question, made, options)
            except KeyboardInterrupt:
                if not found:
                    raise
                return found, True
            except LandscapeError as error:
                error.add_note(f"{by} {one}")
                raise
            if found[str(one)].status == "interrupted":
                return found, True
            bar.advance(1, note=str(one))
    return found, False


class Kept:
    """The answers so far: each in a file of its own, in a folder beside ``out`` until the result is whole."""

    def __init__(self, out: str | Path | None, key: Mapping[str, Any], *, overwrite: bool) -> None:
        self.partial = Partial(out, key, overwrite=overwrite)
        self.folder = None if self.partial.path is None else self.partial.path.with_suffix("")
        self.marks = {int(index): mark for index, mark in self.partial.found.items()}
        if self.folder is not None and not self.marks:
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, index: int, question: Callable[..., Result], operator: Any, options: Mapping[str, Any]) -> Result:
        """Return the answer that is there, or ask, going on where an earlier call stopped."""
        if self.folder is None:
            return question(operator, **options)
        self.folder.mkdir(exist_ok=True)
        place, unfinished = self.folder / f"{index}.nc", self.folder / f".{index}.partial.npz"
        target, known = Operator(operator), self.marks.get(index)
        mark = moments(target, rademacher(target.n, 0, 0, dtype=target.dtype, device=target.device))
        if known is None or not agree(known, mark, target.eps):
            for stale in (place, unfinished):
                stale.unlink(missing_ok=True)
            self.marks[index] = mark
            self.partial.save(lambda: {str(i): kept for i, kept in self.marks.items()}, now=True)
        return load(place) if place.exists() else question(operator, out=place, **options)

    def finish(self, result: Result) -> None:
        """Write the result and remove what was kept."""
        self.partial.finish(result)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _is_maker(operator: Any) -> bool:
    return callable(operator) and not hasattr(operator, "shape")
