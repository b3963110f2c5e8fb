"""A point in parameter space, and one batch of the loss as a function of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from landscape.errors import InputError
from landscape.objective.examples import rows_of
from landscape.objective.losses.terms import Loss, Split, Terms
from landscape.objective.marks import Marks
from landscape.objective.misfits import explained
from landscape.objective.regularizer import Regularizer
from landscape.objective.scale import middle
from landscape.seeds import seed_torch, torch_states
from landscape.space import Space

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """A point in parameter space: the selected parameters as a flat vector of ``space``, and everything else.

    ``vector`` (n,), ``fixed`` (unselected parameters by name) and ``buffers`` are copies, so the point
    stays where it is while training goes on. Frozen parameters are shared with the model; ``marks`` tell whether they
    have changed.
    """

    space: Space
    vector: torch.Tensor
    fixed: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    marks: Marks

    def moved(self, vector: torch.Tensor) -> Point:
        """Return the same point with other selected parameters."""
        return replace(self, vector=vector)

    def check(self) -> None:
        """Refuse a point of which something has changed since it was taken."""
        if (name := self.marks.changed()) is not None:
            raise InputError(
                "the frozen parameters of a point must stay as they were when it was taken",
                got=f"{name!r}, which has changed since",
                why="they are shared with the model, not copied",
                fix="build the operator again, or set requires_grad before you build it",
            )


def by_name(at: Any) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a point that is given by name, and none of one that is a flat vector."""
    if isinstance(at, torch.Tensor | np.ndarray):
        return {}
    if not isinstance(at, Mapping):
        raise InputError(
            "a point must be a flat vector or tensors by parameter name",
            got=type(at).__name__,
            fix="pass for example at=other_model.state_dict()",
        )
    return at


class BoundLoss(nn.Module):
    """The loss of a model as a module, so that ``functional_call`` can put other tensors into the model."""

    def __init__(self, model: nn.Module, loss: Loss, device: torch.device, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.differentiates = False  # until a pass without a gradient shows it
        # casts are not kept: they would pile up, since each batch has leaves of its own
        self._casts = partial(torch.autocast, device.type, dtype=autocast, cache_enabled=False)
        self.autocast = autocast
        # an embedding with max_norm shortens rows of its weight in place
        writing = {id(getattr(m, "weight", None)) for m in model.modules() if getattr(m, "max_norm", None) is not None}
        self.written = {f"model.{name}" for name, p in model.named_parameters() if id(p) in writing}

    def forward(self, ask: Callable[[Loss, nn.Module], T]) -> T:
        """Return what ``ask`` makes of loss and model."""
        with (
            torch.enable_grad() if self.differentiates else nullcontext(),
            nullcontext() if self.autocast is None else self._casts(),
        ):
            return ask(self.loss, self.model)


@dataclass(frozen=True)
class Batch:
    """One batch of an objective at a point, ready to be evaluated.

    ``start`` examples come before it in the pass. What ``regularizer`` gives is part of its terms. ``counts`` is
    false for one that repeats another while other processes work on theirs.
    """

    index: int
    data: Any
    size: int
    point: Point
    space: Space
    _bound: BoundLoss
    _seed: int
    start: int = 0
    regularizer: Regularizer | None = None
    counts: bool = True

    def part(self, rows: slice) -> Batch:
        """Return some of the examples as a batch of its own, with the index of this one."""
        data = rows_of(self.data, self.size, rows)
        return replace(self, data=data, size=rows.stop - rows.start, start=self.start + rows.start)

    def leaves(self) -> list[torch.Tensor]:
        """Return the selected parameters at the point, as leaves to differentiate by."""
        parts = zip(self.space.split(self.point.vector), self.space.dtypes, strict=True)
        return [part.detach().to(dtype).requires_grad_() for part, dtype in parts]

    def terms(self, leaves: Sequence[torch.Tensor] | None = None, data: Any = None) -> Terms:
        """Return the loss terms as a function of ``leaves`` (the point itself by default)."""
        values = self.leaves() if leaves is None else leaves
        batch = self.data if data is None else data
        terms = self._ask(values, lambda loss, model: loss(model, batch))
        if self.regularizer is None:
            return terms
        return replace(terms, numerator=terms.numerator + self._share(terms) * self.penalty(values))

    def split(self, leaves: Sequence[torch.Tensor] | None = None, data: Any = None) -> Split:
        """Return the loss cut at the model's outputs, which are functions of ``leaves``; without the regularizer."""
        values = self.leaves() if leaves is None else leaves
        batch = self.data if data is None else data
        split = self._ask(values, lambda loss, model: loss.split(model, batch))
        if split.criterion is not None:
            return split
        # a loss function may look at the model's buffers: it must find those of the point
        return replace(split, terms=lambda outputs: self._ask(values, lambda loss, model: split.terms(outputs)))

    def penalty(self, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the regularizer at ``leaves``, a 0-d tensor: 0 without one."""
        if self.regularizer is None:
            return torch.zeros((), dtype=self.space.dtype, device=self.space.device)
        wide = (leaf.to(self.space.dtype) for leaf in leaves)
        return self.regularizer(dict(zip(self.space.names, wide, strict=True)))

    def _share(self, terms: Terms) -> torch.Tensor | float:
        """Return how much of the regularizer this batch carries: its weight, or of a sum all of it, once."""
        if self._bound.loss.reduction == "sum":
            return float(self.start == 0 and self.size > 0)
        return terms.weight

    def _ask(self, values: Sequence[torch.Tensor], ask: Callable[[Loss, nn.Module], T]) -> T:
        """Return what ``ask`` makes of loss and model, with ``values`` and the point's tensors in the model."""
        state = {f"model.{name}": t for name, t in self.point.fixed.items()}
        # a forward pass may write into its buffers (running statistics), so it gets copies
        state |= {f"model.{name}": t.clone() for name, t in self.point.buffers.items()}
        state |= {f"model.{name}": t for name, t in zip(self.space.names, values, strict=True)}
        state |= {name: state[name].clone() for name in self._bound.written & state.keys()}
        seed_torch(self._seed, self.index)
        try:
            with explained(self.data, self._dtypes):
                answer: T = functional_call(self._bound, state, (ask,))
        except RuntimeError as error:
            # a loss may take derivatives itself, as those of a differential equation's residual do
            if torch.is_grad_enabled() or self._bound.differentiates or "does not require grad" not in str(error):
                raise
            self._bound.differentiates = True
            return self._ask(values, ask)
        return answer

    def drew(self) -> bool:
        """Whether the pass of this batch that was just made drew from torch's global generators; seeds them anew."""
        after = torch_states(self.space.device)
        seed_torch(self._seed, self.index)
        return not all(torch.equal(a, b) for a, b in zip(after, torch_states(self.space.device), strict=True))

    def gradient(
        self, terms: Terms, leaves: Sequence[torch.Tensor], *, create_graph: bool = False
    ) -> list[torch.Tensor] | None:
        """Return the derivatives of the terms' numerator by ``leaves``; ``None`` when it depends on none of them."""
        if not terms.numerator.requires_grad:
            return None
        unit = self.unit(terms)
        by = None if unit is None else unit.to(terms.numerator)
        with explained(self.data, self._dtypes):
            parts = torch.autograd.grad(terms.numerator, leaves, by, create_graph=create_graph, materialize_grads=True)
        return [part if unit is None else part.to(self.space.dtype) / unit for part in parts]

    @cached_property
    def narrow(self) -> bool:
        """Whether passes compute in float16, whose numbers end at 65504."""
        return torch.float16 in {self._bound.autocast, *self._dtypes}

    @property
    def _dtypes(self) -> set[torch.dtype]:
        return {*self.space.dtypes, *(t.dtype for t in self.point.fixed.values())}

    def unit(self, terms: Terms) -> torch.Tensor | None:
        """Return the power of two by which the numerator is multiplied while it is differentiated in float16."""
        if not self.narrow:
            return None
        entries = terms.targets.numel() if isinstance(terms.targets, torch.Tensor) else self.size
        return middle(entries if self._bound.loss.reduction == "sum" else terms.weight).to(self.space.device)
