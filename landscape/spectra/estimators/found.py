"""What a method hands back, and how much is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from landscape.spectra.estimators.measures import FEWEST, Spread
from landscape.spectra.estimators.work import PILOT, Work


@dataclass(frozen=True)
class Goal:
    """Either a relative tolerance, or (``rtol`` None) the smallest error that the budget buys."""

    rtol: float | None
    most: int

    @property
    def pilot(self) -> int:
        """How many probes are made before anything is decided."""
        return max(FEWEST, min(PILOT, self.most // 3))

    def cost(self, spread: Spread, probes: int, spent: int, per_probe: int = 1) -> float:
        """Return what is to be made small: the products in all, or the error, if no more is deflated.

        ``probes`` are there, and ``spent`` products went elsewhere.
        """
        if self.rtol is None:
            return spread.one / max(probes, (self.most - spent) // per_probe)
        return spent + per_probe * max(probes, spread.needed(self.rtol))

    def met(self, spread: Spread) -> bool:
        """Whether the error bar is within the tolerance."""
        return self.rtol is not None and spread.half_width <= self.rtol * spread.size


@dataclass(frozen=True)
class Found:
    """An estimate: what is known, the probes' numbers for the rest, and the error of the whole.

    ``known`` (columns,) and ``samples`` (probes, columns) are as in :class:`Measure`. ``inflation`` is the
    ratio of the error of a mean of these samples to that of independent ones. ``diagonal`` holds entries and
    their variances where the diagonal was asked for.
    """

    method: str
    known: np.ndarray
    samples: np.ndarray
    spread: Spread
    inflation: float = 1.0
    diagonal: tuple[torch.Tensor, torch.Tensor] | None = None
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether nothing was left to chance."""
        return self.spread.error == 0


class Estimator(Protocol):
    """A method: it runs until its goal is met or its budget is used, and can be asked at any time."""

    name: ClassVar[str]

    def __init__(self, work: Work, goal: Goal, measure: Any) -> None: ...

    def run(self) -> None:
        """Make products."""
        ...

    def found(self) -> Found | None:
        """Return the present estimate; None while there are too few products for one."""
        ...
