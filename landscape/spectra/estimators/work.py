"""The products of an estimate: counted against a budget, and kept beside a file so that a later call goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.progress import Bar
from landscape.results.partial import Partial
from landscape.seeds import check_seed, rademacher
from landscape.spectra.identity import agree, moments
from landscape.spectra.operators import Operator

CHUNK = 8  # vectors that travel together
PILOT = 16  # most probes that are made before anything is decided
START = 1 << 40  # where the random vectors begin that are no probes


class Work(Operator):
    """An operator with a budget of products, random probes, and a memory of what it has done.

    Parameters
    ----------
    source : operator or matrix, shape (n, n)
        As for :class:`Operator`.
    seed : int
        Probe i is a function of (seed, i).
    most : int
        The budget.
    out, overwrite
        As for :class:`~landscape.results.partial.Partial`; the state is kept beside ``out``.
    key : mapping
        What decides the numbers, apart from the operator.

    Notes
    -----
    Products ``work @ block`` are remembered (on the host, and only where there is an ``out``), and played back in the
    same order by the next call, whose own steps are then the same to the last digit. The first is made
    again, to see that the operator is the same; if it is not, the work begins anew. ``multiply`` does not remember:
    what is made of those products is small, and is remembered through ``remember``.
    """

    def __init__(
        self, source: Any, *, seed: int, most: int, out: str | Path | None, overwrite: bool, key: Mapping[str, Any]
    ) -> None:
        super().__init__(source)
        self.seed, self.most = check_seed(seed), most
        facts = {**key, **self.provenance(), "n": self.n, "seed": seed, "most": most, "vectors": str(self.dtype)}
        self.partial = Partial(out, facts, overwrite=overwrite)
        self.bar = Bar("", total=most)
        self._kept: list[np.ndarray] = list(self.partial.found.get("products", ()))
        self._played = 0
        self._more: Callable[[], Mapping[str, Any]] = dict
        self.probes = torch.empty(self.n, 0, dtype=self.dtype, device=self.device)
        self.products = self.probes

    @property
    def left(self) -> int:
        """How many products the budget still has."""
        return self.most - self.matvecs

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k), from memory where they are known."""
        return torch.cat([self._remembered(part) for part in block.split(CHUNK, dim=1)], dim=1)

    def _remembered(self, block: torch.Tensor) -> torch.Tensor:
        count = block.shape[1]
        known = self._kept[self._played : self._played + count]
        if known and self._played == 0:
            first = torch.from_numpy(known[0]).to(block)
            known = known if self.verify(block[:, 0], moments(self, block[:, 0], first)) else []
        if len(known) == count:
            product = torch.from_numpy(np.stack(known, axis=1)).to(block)
            self.matvecs += count
        else:
            product = self.multiply(block)
            if self.partial.out is not None:
                self._kept += list(product.T.cpu().numpy())
        self._played += count
        self.save()
        return product

    def multiply(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with at most ``CHUNK`` columns, which are not remembered."""
        before = self.matvecs
        try:
            product = super().__matmul__(block)
        except BaseException:
            self.matvecs = before  # those of a block that did not come back are not had
            raise
        self.bar.advance(block.shape[1], note=f"{self.matvecs} products")
        return product

    def verify(self, v: torch.Tensor, earlier: np.ndarray) -> bool:
        """Whether what an earlier call left is of this operator, by one product; forget it if not."""
        same = agree(earlier, moments(Operator(self._source), v), self.eps)
        if not same:
            self._kept, self.partial.found = [], {}
        return same

    def remember(self, more: Callable[[], Mapping[str, Any]]) -> None:
        """Keep what ``more()`` gives, too, from now on."""
        self._more = more

    def save(self, *, now: bool = False) -> None:
        """Write the state, when it is time to or at once."""

        def state() -> dict[str, np.ndarray]:
            rows = np.stack(self._kept) if self._kept else np.empty((0, self.n))
            return {**self.partial.found, "products": rows, **self._more()}

        self.partial.save(state, now=now)

    def signs(self, first: int, count: int) -> torch.Tensor:
        """Return probes ``first`` to ``first + count`` as columns (n, count)."""
        drawn = [rademacher(self.n, self.seed, first + i, dtype=self.dtype, device=self.device) for i in range(count)]
        return torch.stack(drawn, dim=1)

    def pilot(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first ``count`` probes and the products with them, both (n, count); made once."""
        while (have := self.probes.shape[1]) < count:
            block = self.signs(have, min(CHUNK, count - have))
            product = self @ block
            self.probes, self.products = torch.cat([self.probes, block], 1), torch.cat([self.products, product], 1)
        return self.probes, self.products
