"""What a command asks about: one operator, or several by the name of a checkpoint, a layer or a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import landscape as ls
from landscape.curvature import LinearOperator
from landscape.errors import InputError
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
            raise InputError(
                f"{option} takes one {self.by} at a time",
                got=", ".join(self.makers),
                fix=f"name one, or leave {option} out",
            )
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


def subject(target: str, patterns: Sequence[str] | None, operator: str, params: str | None) -> Subject:
    """Return what ``MODULE:FUNCTION`` and the options of a command say to ask about.

    With several checkpoints one model takes the weights of each when its turn comes.
    """
    words = words_of(operator)
    files = checkpoints(patterns or ())
    objective = load_objective(target)

    def of(path: Path | None) -> LinearOperator:
        if path is not None:
            load_weights(objective, path)
        return make_operator(operator, objective, params)

    makers = {name: partial(of, path) for name, path in files.items()} or {"": partial(of, None)}
    return Subject(words, makers, "checkpoint" if len(files) > 1 else "")
