"""One of several ways of doing the same thing: the first that torch supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from landscape.curvature.unsupported import Unsupported
from landscape.errors import InputError

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


class Fallback(Generic[K, T]):
    """Tries the members of ``kinds`` in their order when ``asked`` is ``"auto"``, else the one that was asked for.

    Attributes
    ----------
    current : T
        The one in use, made by ``build(kind)``.
    name : str
        Its name in ``kinds``.
    reasons : list of str
        Why those before it were given up.
    """

    def __init__(self, kinds: Mapping[str, type[K]], asked: str, build: Callable[[type[K]], T]) -> None:
        if asked != "auto" and asked not in kinds:
            raise InputError("there is no such backend", got=asked, fix=f"use 'auto' or one of {', '.join(kinds)}")
        self._kinds, self._build = kinds, build
        self._untried = list(kinds) if asked == "auto" else [asked]
        self.reasons: list[str] = []
        self._take()

    def _take(self) -> None:
        self.name = self._untried.pop(0)
        self.current = self._build(self._kinds[self.name])

    def __call__(self, ask: Callable[[T], R]) -> R:
        """Return ``ask`` of the current one; where torch lacks a derivative, of the next, and stay with it."""
        while True:
            try:
                return ask(self.current)
            except Unsupported as missing:
                if not self._untried:
                    others = (
                        "pass backend='auto' to try all of them, or "
                        if len(self._kinds) > 1 + len(self.reasons)
                        else ""
                    )
                    raise InputError(
                        f"the {self.name} backend needs a derivative that torch does not have",
                        got=str(missing),
                        why="the loss or the model uses an operation that torch cannot differentiate so",
                        fix=f"{others}write it in other operations",
                    ) from missing
                self.reasons.append(f"{self.name}: no derivative of {missing}")
            self._take()

    def facts(self) -> dict[str, str]:
        """Return why other backends were given up, for provenance."""
        return {"backends that failed": "; ".join(self.reasons)} if self.reasons else {}
