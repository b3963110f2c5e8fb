"""Sums over the processes of a group, and one decision for all of them: torch.distributed and nothing of our own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed as dist

from landscape.errors import InputError


class Ranks:
    """The processes that share some work; with ``group=None`` this one alone, for which nothing is done.

    Each method is called by all of them, in the same order.

    Attributes
    ----------
    count, index : int
        How many they are, and which of them this one is.
    """

    def __init__(self, group: Any, device: torch.device) -> None:
        self.group, self._device = group, device
        self.count, self.index = (1, 0) if group is None else _place(group)

    def sum(self, compute: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
        """Return what ``compute`` returns, summed over all of them in float64."""
        with self.together():
            totals = compute()
        return totals if self.group is None else [self._summed(total) for total in totals]

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of each value."""
        if self.group is None:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return [float(value) for value in found.tolist()]

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any of them."""
        return flag if self.group is None else self.largest([float(flag)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all of them, in their order."""
        found: list[Any] = [value] * self.count
        if self.group is not None:
            dist.all_gather_object(found, value, group=self.group)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise on all of them what the first raises in the block: one alone would leave the others waiting."""
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            if self.group is None:
                raise
            own = error
        if self.group is None or not self.any(own is not None):
            return
        errors = self.gather(_portable(own))
        first = next(rank for rank, error in enumerate(errors) if error is not None)
        if own is not None and first == self.index:
            raise own
        raise errors[first] from own


def _place(group: Any) -> tuple[int, int]:
    """Return the number of processes in ``group``, and which of them this one is."""
    if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise InputError(
            "group must be a process group of torch.distributed",
            got=type(group).__name__,
            fix="pass torch.distributed.group.WORLD after init_process_group, or nothing for one process",
        )
    index = dist.get_rank(group)
    if index < 0:
        raise InputError("this process must belong to the group that it passes", got="a group of others",
                         fix="build the objective in the group's processes only")  # fmt: skip
    return dist.get_world_size(group), index


def _portable(error: Exception | None) -> Exception | None:
    """Return an error that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class of someone else's cannot do
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
