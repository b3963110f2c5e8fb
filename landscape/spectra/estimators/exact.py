"""The diagonal entry by entry, and with it the trace: as many products as there are entries."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from landscape.spectra.estimators.found import Found, Goal
from landscape.spectra.estimators.measures import Spread, Trace
from landscape.spectra.estimators.work import CHUNK, Work


class Exact:
    """One product with each unit vector; nothing is left to chance."""

    name: ClassVar[str] = "exact"

    def __init__(self, work: Work, goal: Goal, measure: Trace) -> None:
        self.work, self.measure = work, measure
        self.done = 0

    def run(self) -> None:
        """Make the products."""
        work, entries = self.work, self.measure.entries
        kept = work.partial.found.get("diagonal")
        if kept is not None:
            first = work.multiply(self._units(0, 1))[0, 0]
            work.verify(torch.as_tensor(kept[:1]), first[None].double().cpu())
            self.done = len(kept)
            work.matvecs += self.done - 1
            entries[: self.done] = torch.from_numpy(kept).to(entries)
        work.remember(lambda: {"diagonal": entries[: self.done].cpu().numpy()})
        while self.done < work.n:
            count = min(CHUNK, work.n - self.done)
            product = work.multiply(self._units(self.done, count))
            entries[self.done : self.done + count] = product[self.done : self.done + count].diagonal().double()
            self.done += count
            work.save()

    def _units(self, first: int, count: int) -> torch.Tensor:
        block = torch.zeros(self.work.n, count, dtype=self.work.dtype, device=self.work.device)
        block[first : first + count].fill_diagonal_(1)
        return block

    def found(self) -> Found | None:
        """Return the diagonal when it is whole."""
        if self.done < self.work.n:
            return None
        known = self.measure.known(None)
        entries = self.measure.entries
        spread = Spread(0.0, 0.0, np.inf, abs(float(known.sum())))
        return Found(self.name, known, np.empty((0, len(known))), spread, diagonal=(entries, torch.zeros_like(entries)))
