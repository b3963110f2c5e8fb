"""Batches that do not fit into memory are worked on piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from landscape.errors import MemoryLimitError, is_out_of_memory
from landscape.objective.examples import divisible

if TYPE_CHECKING:
    from landscape.objective.objective import Objective
    from landscape.objective.point import Batch

Values = Sequence["torch.Tensor | float"]
T = TypeVar("T")


class Pieces:
    """How many examples are worked on at a time: whole batches until one does not fit into memory.

    ``size`` is then what did fit, and later passes start with it.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self._same = False  # pieces are known to add up to their batch

    def __call__(self, per_batch: Callable[[Batch], T], batch: Batch, objective: Objective) -> Iterator[T]:
        """Yield what ``per_batch`` returns for ``batch``, or for each of its pieces."""
        first = 0
        while True:
            size = batch.size if self.size is None else min(self.size, batch.size - first)
            piece = batch if size == batch.size else batch.part(slice(first, first + size))
            values = _tried(per_batch, piece)
            if values is None:
                if size <= 1 or not _may_split(batch, objective):
                    raise _too_large(batch, size)
                self.size = (size + 1) // 2
                continue
            if size < batch.size and not self._same:
                self._same = adds_up(batch, max(size, 2), objective) and getattr(objective.loss, "weighted", True)
                if not self._same:
                    raise _too_large(batch, batch.size)
            yield values
            del values
            first += size
            if first >= batch.size:
                return


def _tried(per_batch: Callable[[Batch], T], piece: Batch) -> T | None:
    """Return what ``per_batch`` returns; ``None`` when memory runs out, with all that was in use given back."""
    try:
        return per_batch(piece)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryLimitError) or not is_out_of_memory(error):
            raise
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return None


def _may_split(batch: Batch, objective: Objective) -> bool:
    weighted = getattr(objective.loss, "weighted", True)
    return objective.mode == "eval" and objective.shards is None and weighted and divisible(batch.data, batch.size)


def adds_up(batch: Batch, examples: int, objective: Objective) -> bool:
    """Whether the loss of some examples is that of their halves together: examples do not act on each other."""

    def terms(part: Batch) -> Values:
        found = part.terms()
        return [found.numerator, found.weight]

    cuts = ((0, examples), (0, examples // 2), (examples // 2, examples))
    with torch.no_grad():
        whole, left, right = (_tried(terms, batch.part(slice(*cut))) for cut in cuts)
    if whole is None or left is None or right is None:
        return False
    tolerance = torch.finfo(objective.coarsest).eps ** 0.5
    for together, a, b in ((float(x), float(y), float(z)) for x, y, z in zip(whole, left, right, strict=True)):
        if abs(together - a - b) > tolerance * (abs(a) + abs(b)):  # NaN passes: it stays NaN
            return False
    return True


def _too_large(batch: Batch, size: int) -> MemoryLimitError:
    return MemoryLimitError(
        f"memory ran out in batch {batch.index} of the data",
        got=f"{size} examples at a time",
        why="one example alone does not fit" if size <= 1 else
            "it cannot be split without another loss: the mode is 'train', its examples act on each other, "
            "the loss returns no weight, a tensor does not lead with the examples, or the model is sharded",
        fix="select fewer parameters with params=, or use another device" if size <= 1 else
            "give the data in smaller batches",
    )  # fmt: skip
