"""A point in parameter space, and one batch of the loss as a function of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from landscape.objective.losses import Terms
from landscape.seeds import seed_torch
from landscape.space import Space


@dataclass(frozen=True)
class Point:
    """A point in parameter space: the selected parameters as a flat vector, and everything else.

    ``vector`` (n,), ``fixed`` (unselected parameters by name) and ``buffers`` are copies, so the point
    stays where it is while training goes on. Frozen parameters are shared with the model.
    """

    vector: torch.Tensor
    fixed: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]

    def moved(self, vector: torch.Tensor) -> Point:
        """Return the same point with other selected parameters."""
        return Point(vector, self.fixed, self.buffers)


class BoundLoss(nn.Module):
    """The loss of a model as a module, so that ``functional_call`` can put other tensors into the model."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Terms]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any) -> Terms:
        """Return the loss terms of one batch."""
        return self.loss(self.model, batch)


@dataclass(frozen=True)
class Batch:
    """One batch of an objective at a point, ready to be evaluated."""

    index: int
    data: Any
    size: int
    point: Point
    space: Space
    _bound: BoundLoss
    _seed: int

    def leaves(self) -> list[torch.Tensor]:
        """Return the selected parameters at the point, as leaves to differentiate by."""
        parts = zip(self.space.split(self.point.vector), self.space.dtypes, strict=True)
        return [part.detach().to(dtype).requires_grad_() for part, dtype in parts]

    def terms(self, leaves: Sequence[torch.Tensor] | None = None, data: Any = None) -> Terms:
        """Return the loss terms as a function of ``leaves`` (the point itself by default)."""
        values = self.leaves() if leaves is None else leaves
        state = {f"model.{name}": t for name, t in self.point.fixed.items()}
        # a forward pass may write into its buffers (running statistics), so it gets copies
        state |= {f"model.{name}": t.clone() for name, t in self.point.buffers.items()}
        state |= {f"model.{name}": t for name, t in zip(self.space.names, values, strict=True)}
        batch = self.data if data is None else data
        seed_torch(self._seed, self.index)
        terms: Terms = functional_call(self._bound, state, (batch,))
        return terms

    def gradient(
        self, terms: Terms, leaves: Sequence[torch.Tensor], *, create_graph: bool = False
    ) -> list[torch.Tensor] | None:
        """Return the derivatives of the terms' numerator by ``leaves``; ``None`` when it depends on none of them."""
        if not terms.numerator.requires_grad:
            return None
        return list(torch.autograd.grad(terms.numerator, leaves, create_graph=create_graph, materialize_grads=True))
