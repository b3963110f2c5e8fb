"""What a command asks about: one operator, or several by the name of a checkpoint, a layer or a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import landscape as ls
from landscape.curvature import LinearOperator
from landscape.errors import InputError
from landscape.objective import Objective
from landscape.results import Result
from landscape_cli.checkpoints import checkpoints
from landscape_cli.operators import make_operator, words_of
from landscape_cli.target import load_objective, load_weights

Make = Callable[[], LinearOperator]


@dataclass(frozen=True)
class Subject:
    """What makes an operator, or what makes each of several when its turn comes.

    Attributes
    ----------
    words : str
        The operator's name in words.
    makers : mapping
        Functions that make the operators, by name.
    by : str
        What the names are of; empty for one operator.
    """

    words: str
    makers: Mapping[str, Make] = field(repr=False)
    by: str = ""

    def one(self, option: str) -> LinearOperator:
        """Return the only operator, which ``option`` needs."""
        if self.by:
            raise _one_at_a_time(option, self.by, self.makers)
        (make,) = self.makers.values()
        return make()

    def by_layer(self) -> Subject:
        """Return the layers of the only operator."""
        blocks = self.one("--by-layer").blocks()
        return Subject(self.words, dict(blocks.items()), "layer")

    def ask(self, question: Callable[..., Result], **options: Any) -> Result:
        """Ask ``question`` of the operator, or of each of several."""
        if self.by:
            return ls.each(question, self.makers, by=self.by, **options)
        (make,) = self.makers.values()
        return question(make(), **options)


def subject(
    target: str, patterns: Sequence[str] | None, operator: str, params: str | None, by_class: bool = False
) -> Subject:
    """Return what ``MODULE:FUNCTION`` and the options of a command say to ask about.

    With several checkpoints one model takes the weights of each when its turn comes.
    """
    words = words_of(operator)
    files = checkpoints(patterns or ())
    if by_class and len(files) > 1:
        raise _one_at_a_time("--by-class", "checkpoint", files)
    objective = load_objective(target, *files.values()) if len(files) == 1 else load_objective(target)

    def of(part: Objective, path: Path | None = None) -> LinearOperator:
        if path is not None:
            load_weights(part, path)
        return make_operator(operator, part, params)

    if by_class:
        return Subject(words, {str(k): partial(of, part) for k, part in objective.by_class().items()}, "class")
    if len(files) > 1:
        return Subject(words, {name: partial(of, objective, path) for name, path in files.items()}, "checkpoint")
    return Subject(words, {"": partial(of, objective)})


def _one_at_a_time(option: str, by: str, names: Iterable[str]) -> InputError:
    return InputError(
        f"{option} takes one {by} at a time", got=", ".join(names), fix=f"ask for one, or leave {option} out"
    )
