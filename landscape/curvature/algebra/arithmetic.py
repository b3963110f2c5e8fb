"""Operators made of operators: sums, products and adjoints."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from landscape.curvature.algebra.matrix import aslinearoperator
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.objective import Objective
from landscape.space import Space


class Composite(LinearOperator):
    """An operator made of ``parts``; each part counts its own products."""

    def __init__(self, parts: Sequence[LinearOperator], space: Space, codomain: Space | None = None) -> None:
        super().__init__(space, codomain)
        self.parts = tuple(parts)
        self.deterministic = all(part.deterministic for part in self.parts)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives that the parts read, each once."""
        return tuple({id(o): o for part in self.parts for o in part.objectives}.values())

    @abstractmethod
    def words(self) -> str:
        """Return what it is in words, from what its parts are."""

    def provenance(self) -> dict[str, Any]:
        """Return the facts that the parts share, and what each of them is where they differ."""
        own = super().provenance()
        facts = [part.provenance() for part in self.parts if not isinstance(part, Identity)]
        first = facts[0] if facts else {}
        shared = {key: value for key, value in first.items() if all(f.get(key) == value for f in facts)}
        different = {"parts": facts} if any(f != first for f in facts) else {}
        return {**shared, **different, **own, "operator": self.words()}


def name_of(operator: LinearOperator) -> str:
    """Return what an operator is called inside a formula."""
    name = str(operator.provenance()["operator"])
    return f"({name})" if " " in name else name


def check_agree(a: Space, b: Space, why: str) -> None:
    """Refuse two spaces that differ in names or shapes."""
    if a.names != b.names or a.shapes != b.shapes:
        pairs = [(*x, *y) for x, y in zip(zip(a.names, a.shapes, strict=True), zip(b.names, b.shapes, strict=True),
                                          strict=False) if x != y]  # fmt: skip
        shown = f"{len(a.names)} and {len(b.names)} parameters"
        if pairs:
            name, shape, other, size = pairs[0]
            shown = f"{name} {tuple(shape)} beside {other} {tuple(size)}"
        raise InputError(why, got=shown, why="entries of their vectors would not mean the same",
                         fix="build both for the same parameters, or use restrict")  # fmt: skip


def is_endomorphism(operator: LinearOperator) -> bool:
    """Whether it maps a space to itself."""
    return (operator.space.names, operator.space.shapes) == (operator.codomain.names, operator.codomain.shapes)


def check_square(operator: LinearOperator, what: str) -> None:
    """Refuse an operator between two different spaces."""
    if not is_endomorphism(operator):
        raise InputError(f"{what} needs an operator from a space to itself", got="{} by {}".format(*operator.shape),
                         fix="pass for example A.T @ A")  # fmt: skip


def number(value: Any, *, zero: bool = True) -> float:
    """Return a finite scalar as a float; ``zero`` says whether it may be 0."""
    try:
        found = float(value) if np.ndim(value) == 0 and not isinstance(value, str) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or not (zero or found):
        raise InputError(f"an operator is scaled by a finite number{'' if zero else ' and not divided by zero'}",
                         got=f"{type(value).__name__} {value!r}"[:80],
                         fix="pass a number; products are made with @")  # fmt: skip
    return found


# -- linear combinations --------------------------------------------------------------------------


class Identity(LinearOperator):
    """The identity on a space."""

    psd = True

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        return block.clone()

    def provenance(self) -> dict[str, Any]:
        """Return its name, I."""
        return {**super().provenance(), "operator": "I"}


class Combination(Composite):
    """c_1 A_1 + c_2 A_2 + ...; a product costs one of each."""

    def __init__(self, terms: Iterable[tuple[float, LinearOperator]]) -> None:
        flat: list[tuple[float, LinearOperator]] = []
        for c, operator in terms:
            inner = operator.terms if isinstance(operator, Combination) else [(1.0, operator)]
            flat += [(c * d, part) for d, part in inner]
        self.terms: list[tuple[float, LinearOperator]] = flat
        first = flat[0][1]
        for _, other in flat[1:]:
            sentence = "operators that are added must have the same parameters"
            check_agree(first.space, other.space, sentence)
            check_agree(first.codomain, other.codomain, sentence)
        widest = max((part for _, part in flat), key=lambda part: part.dtype.itemsize)
        super().__init__([part for _, part in flat], widest.space, widest.codomain)
        self.symmetric = all(part.symmetric for part in self.parts)
        self.psd = all(part.psd and c >= 0 for c, part in flat)

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._sum(block, adjoint=False)

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._sum(block, adjoint=True)

    def _sum(self, block: torch.Tensor, adjoint: bool) -> torch.Tensor:
        target = self.space if adjoint else self.codomain
        total = torch.zeros(target.n, block.shape[1], dtype=target.dtype, device=target.device)
        for c, part in self.terms:
            total.add_((part.rmatmat(block) if adjoint else part @ block).to(total), alpha=c)
        return total

    def words(self) -> str:
        """Return the sum as a formula."""
        words = ""
        for c, part in self.terms:
            sign = (" - " if c < 0 else " + ") if words else ("-" if c < 0 else "")
            words += sign + ("" if abs(c) == 1 else f"{abs(c):g} ") + name_of(part)
        return words


def combined(like: LinearOperator, terms: Iterable[tuple[Any, Any]]) -> Combination:
    """Return Σ c A of pairs (c, A), where A is an operator, or a plain matrix on the space of ``like``."""
    return Combination([(number(c), _summand(operator, like)) for c, operator in terms])


def _summand(operator: Any, like: LinearOperator) -> LinearOperator:
    if not isinstance(operator, LinearOperator) and len(getattr(operator, "shape", ())) != 2:
        raise InputError("an operator is added to an operator or a matrix", got=type(operator).__name__,
                         fix="use A.shift(s) for A + s I")  # fmt: skip
    return aslinearoperator(operator, like.space, like.codomain)


def identity(operator: LinearOperator) -> Identity:
    """Return the identity on the operator's space."""
    check_square(operator, "a shift")
    return Identity(operator.space)


# -- products and adjoints ------------------------------------------------------------------------


class Chain(Composite):
    """A B ...: the last part is applied first; a product costs one of each."""

    def __init__(self, parts: Iterable[LinearOperator]) -> None:
        flat = [p for part in parts for p in (part.parts if isinstance(part, Chain) else (part,))]
        for outer, inner in pairwise(flat):
            check_agree(outer.space, inner.codomain, "operators that are chained must fit")
        super().__init__(flat, flat[-1].space, flat[0].codomain)
        # known to be symmetric only when it reads the same backwards: M.T M, or M.T S M with a symmetric S
        half, odd = divmod(len(flat), 2)
        mirrored = all(_are_adjoint(flat[i], flat[-1 - i]) for i in range(half))
        middle = flat[half] if odd else None
        self.symmetric = mirrored and (middle is None or middle.symmetric)
        self.psd = mirrored and (middle is None or middle.psd)

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        for part in reversed(self.parts):
            block = part @ block
        return block

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            block = part.rmatmat(block)
        return block

    def words(self) -> str:
        """Return the product as a formula."""
        return " @ ".join(map(name_of, self.parts))


def _are_adjoint(a: LinearOperator, b: LinearOperator) -> bool:
    def inner(operator: LinearOperator) -> LinearOperator | None:
        return operator.parts[0] if isinstance(operator, Adjoint) else None

    return (a is b and a.symmetric) or inner(a) is b or inner(b) is a


class Adjoint(Composite):
    """The adjoint of an operator that is not symmetric."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__([operator], operator.codomain, operator.space)
        self.symmetric, self.psd = operator.symmetric, operator.psd

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.parts[0].rmatmat(block)
        return product

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.parts[0] @ block
        return product

    def words(self) -> str:
        """Return the part's name with a mark."""
        return f"{name_of(self.parts[0])}^T"


def adjoint(operator: LinearOperator) -> LinearOperator:
    """Return the adjoint: the operator itself where it is symmetric."""
    if operator.symmetric:
        return operator
    return operator.parts[0] if isinstance(operator, Adjoint) else Adjoint(operator)
