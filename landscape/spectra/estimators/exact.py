"""The diagonal entry by entry, and with it the trace: as many products as there are entries."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from landscape.spectra.estimators.found import Found, Goal
from landscape.spectra.estimators.measures import Spread, Trace
from landscape.spectra.estimators.work import CHUNK, Work
from landscape.spectra.identity import moments


class Exact:
    """One product with each unit vector; nothing is left to chance."""

    name: ClassVar[str] = "exact"

    def __init__(self, work: Work, goal: Goal, measure: Trace) -> None:
        self.work, self.measure = work, measure
        self.done = 0

    def run(self) -> None:
        """Make the products."""
        work, entries = self.work, self.measure.entries
        kept, mark = work.partial.found.get("diagonal"), work.partial.found.get("mark", np.zeros(2))
        if kept is not None and len(kept) and work.verify(self._units(0, 1)[:, 0], mark):
            self.done = len(kept)
            work.matvecs += self.done
            entries[: self.done] = torch.from_numpy(kept).to(entries)
        work.remember(lambda: {"diagonal": entries[: self.done].cpu().numpy(), "mark": mark})
        while self.done < work.n:
            count = min(CHUNK, work.n - self.done)
            product = work.multiply(units := self._units(self.done, count))
            if self.done == 0:
                mark = moments(work, units[:, 0], product[:, 0])
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
