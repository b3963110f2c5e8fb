"""What the checks look at: an objective, a small part of it, and that part in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.diagnosis.compared import Compared, compare
from landscape.diagnosis.finding import counted
from landscape.diagnosis.repeats import drawing
from landscape.errors import DataChangedError, InputError
from landscape.objective import Batch, Objective
from landscape.objective.examples import divisible
from landscape.objective.gradient import ValueAndGradient
from landscape.objective.sources import batch_size, tensors_of
from landscape.objective.totals import Addend
from landscape.seeds import normal

MOST, FEWEST = 64, 2  # examples in the part
WORK = 2e9  # entries of the part's inputs times parameters: what the time of a gradient grows with


class Unquestioned(set[str]):
    """Stands for what has been found to hold of an objective: all of it, since the checks ask that themselves."""

    def __contains__(self, _: object) -> bool:
        return True


def unquestioned(objective: Objective) -> Objective:
    """Return the objective with products that are made whatever is wrong with it."""
    other = copy.copy(objective)
    other.checked = Unquestioned()
    return other


def _spread(batches: list[Any], count: int) -> Any:
    """Return ``count`` of the examples in ``batches`` as one batch: every so many-th of them."""
    forms = [tree_flatten(batch) for batch in batches]
    sizes = [batch_size(batch) for batch in batches]
    rows = torch.linspace(0, sum(sizes) - 1, count, dtype=torch.float64).round().long()
    columns = [
        torch.cat(column)[rows.to(column[0].device)] if isinstance(column[0], torch.Tensor) else column[0]
        for column in zip(*(leaves for leaves, _ in forms), strict=True)
    ]
    return tree_unflatten(columns, forms[0][1])


@dataclass(frozen=True)
class Survey:
    """Value, weight and gradient of all the data, and the batches whose loss is not finite."""

    value: float
    weight: float
    gradient: torch.Tensor
    bad: list[int]


class Subject:
    """An objective to be looked over, with what several checks need; each thing is made when it is first asked for.

    Attributes
    ----------
    objective : Objective
        All of it.
    seed : int
        Seeds the choice of the part, and the vectors.
    name : str
        What the operator is, once one has been made.
    """

    def __init__(self, objective: Objective, operator: Callable[[Objective], Any], seed: int) -> None:
        self.objective, self.seed, self.name = unquestioned(objective), seed, ""
        self._operator = operator

    def make(self, objective: Objective) -> Any:
        """Return the operator of ``objective``."""
        op = self._operator(objective)
        self.name = type(op).__name__
        return op

    @cached_property
    def survey(self) -> Survey:
        """One gradient over all of the data."""
        objective, gradients, bad = self.objective, ValueAndGradient(), list[int]()

        def per_batch(batch: Batch) -> list[Addend]:
            found = gradients(batch)
            if not bool(torch.isfinite(torch.as_tensor(found[0]))):
                bad.append(batch.index)
            return found

        loss, weight, gradient = objective.sum(per_batch, objective.point())
        objective.check_depends(gradients.depends)
        total = objective.total(weight)
        return Survey(float(loss / total), float(weight), gradient.div_(total).to(objective.space.dtype), bad)

    @cached_property
    def part(self) -> Objective:
        """A few examples, in one batch that is no larger than those of the data."""
        objective = self.objective
        try:
            chosen = objective.subsample(MOST, seed=self.seed).batches
        except DataChangedError:
            raise
        except (InputError, RuntimeError):  # batches that do not fit together: the first of them
            chosen = objective.batches
        with objective.session(grad=False):
            found = list(chosen) if chosen is not objective.batches else list(islice(chosen, 1))
        size = batch_size(found[0])
        if not divisible(found[0], size):
            return objective.over([found[0]])
        entries = max(1, tensors_of(found[0])[0].numel() // max(1, size))
        limit = max(FEWEST, int(WORK / (entries * objective.space.n)))
        return objective.over([_spread(found, min(size, MOST, limit))])

    @cached_property
    def batch(self) -> Any:
        """The data of :attr:`part`."""
        with self.part.session(grad=False):
            return next(iter(self.part.batches))

    @property
    def size(self) -> int:
        """The examples of :attr:`part`."""
        return batch_size(self.batch)

    @cached_property
    def fine(self) -> Objective:
        """:attr:`part` in float64 where it can be computed so, else as it is."""
        if self.part.coarsest == torch.float64:
            return self.part
        try:
            other = unquestioned(self.part.over([self.batch], dtype=torch.float64))
            value = other.value()
        except Exception:  # a kernel, a device, a cast or an assertion that knows no float64
            return self.part
        return other if bool(torch.isfinite(value)) else self.part

    @cached_property
    def drawing(self) -> list[str]:
        """Who draws from torch's generator in a pass of the part."""
        return drawing(self.part)

    @cached_property
    def differences(self) -> Compared:
        """Products of the part beside central differences, in float64 where that tells more."""
        return compare(self.make, [self.fine] if self.fine is self.part else [self.fine, self.part])

    def words(self, objective: Objective) -> str:
        """Return what products of ``objective`` are of: :attr:`part`, or that in float64."""
        precision = str(objective.coarsest).removeprefix("torch.")
        return f"on {counted(self.size, 'example')} in {precision}"

    def vector(self, objective: Objective, index: int) -> torch.Tensor:
        """Return random vector number ``index`` (n,) for the operator of ``objective``."""
        space = objective.space
        return normal(space.n, self.seed, index, dtype=space.dtype, device=space.device)
