"""Sums over batches: numbers in float64, and vectors too once there is more than one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from landscape.space import Space

CHUNK = 1 << 20  # entries that are made float64 at a time, where torch copies them for that

#: What a batch adds to one of the sums: a number, a tensor, or a vector of the space as its parts.
Addend = torch.Tensor | float | list[torch.Tensor]


class Totals:
    """The sums of what batches return; ``several`` says that more than one batch is known to come.

    A vector that comes as the list of its parts is added part by part, so that it lies in memory once.
    """

    def __init__(self, space: Space, device: torch.device, *, several: bool) -> None:
        self.sums: list[torch.Tensor] = []
        self._space, self._device, self._wide = space, device, several

    def add(self, returned: Sequence[Addend]) -> None:
        """Add what one batch returned."""
        if not self.sums:
            self.sums = [self._first(value) for value in returned]
            return
        if not self._wide:  # vectors of a single batch need no wider accumulator
            self._wide = True
            for i, total in enumerate(self.sums):
                self.sums[i] = total.to(torch.float64, copy=True)
        for total, value in zip(self.sums, returned, strict=True):
            if isinstance(value, list):
                self._add(total, value)
            else:
                total.add_(self._number(value))

    def _first(self, value: Addend) -> torch.Tensor:
        if isinstance(value, list) and self._wide:
            total = torch.zeros(self._space.n, dtype=torch.float64, device=self._device)
            self._add(total, value)
            return total
        if isinstance(value, list):
            return self._space.flatten(value)
        found = self._number(value)
        return found.to(torch.float64, copy=True) if self._wide or not found.ndim else found

    def _add(self, total: torch.Tensor, parts: list[torch.Tensor]) -> None:
        for where, part in zip(self._space.slices.values(), parts, strict=True):
            flat = (part.to_dense() if part.is_sparse else part).detach().reshape(-1)
            for sums, entries in zip(total[where].split(CHUNK), flat.split(CHUNK), strict=True):
                sums.add_(entries)

    def _number(self, value: torch.Tensor | float) -> torch.Tensor:
        return torch.as_tensor(value, device=self._device).detach()
