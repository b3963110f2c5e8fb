"""The model's outputs as a linear function of the parameters near a point: J v and Jᵀ u, batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from landscape.curvature.dual import dual_level, duals, tangents
from landscape.curvature.twice import Twice
from landscape.curvature.unsupported import recognised, refuse_once
from landscape.objective import Batch, Objective

Function = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


class Linearization(ABC):
    """J and Jᵀ of one batch's outputs by the selected parameters.

    The forward graph is made once and serves all products with Jᵀ. ``random`` says whether making it drew random
    numbers.
    """

    words: str

    def __init__(self, batch: Batch, twice: Twice) -> None:
        self.batch, self._twice = batch, twice
        self._leaves = batch.leaves()
        with twice:
            self.split = batch.split(self._leaves)
        self.random = batch.drew()
        self.outputs = self.split.outputs
        self._curved = [i for i, output in enumerate(self.outputs) if output.requires_grad]
        self.depends = bool(self._curved)  # J is 0 of experts that no example of the batch has chosen

    def jvp(self, v: torch.Tensor) -> list[torch.Tensor]:
        """Return J v for a vector (n,), in the outputs' shapes."""
        return self._tangents(v) if self.depends else [torch.zeros_like(output) for output in self.outputs]

    @abstractmethod
    def _tangents(self, v: torch.Tensor) -> list[torch.Tensor]:
        """Return J v where it is not 0."""

    def vjp(self, us: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return Jᵀ u (n,) for ``us`` in the outputs' shapes; (k, n) when each has a leading dimension k."""
        batched = us[0].ndim > self.outputs[0].ndim
        lead = us[0].shape[:1] if batched else ()
        space = self.batch.space
        if not self.depends:
            return torch.zeros(*lead, space.n, dtype=space.dtype, device=space.device)
        scale = self._scale(us, batched) if self.batch.narrow else None
        if scale is not None:
            us = [u * scale.view(-1, *[1] * (u.ndim - 1)) if batched else u * scale for u in us]
        rows = torch.autograd.grad(
            [self.outputs[i] for i in self._curved],
            self._leaves,
            [us[i].to(self.outputs[i].dtype) for i in self._curved],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
        filled = [
            torch.zeros(*lead, leaf.numel(), dtype=space.dtype, device=leaf.device)
            if row is None
            else row.to(space.dtype).reshape(*lead, -1)
            for row, leaf in zip(rows, self._leaves, strict=True)
        ]
        product = torch.cat(filled, dim=-1)
        return product if scale is None else product / scale.unsqueeze(-1)

    def _scale(self, us: Sequence[torch.Tensor], batched: bool) -> torch.Tensor:
        """Return the powers of two that make each vector's length about 1: in float16 no sum of its rows overflows."""
        squares = [u.float().flatten(1 if batched else 0).square().sum(-1) for u in us]
        return torch.exp2(-torch.log2(torch.stack(squares).sum(0).sqrt().clamp_min(2.0**-100)).floor())

    def jvps(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """Return J v for the rows of ``vectors`` (k, n), each output with a leading dimension k."""
        leaves = [leaf.detach() for leaf in self._leaves]
        along = [t.to(leaf.dtype) for t, leaf in zip(self.batch.space.split(vectors), leaves, strict=True)]
        product = torch.func.vmap(
            lambda ts: torch.func.jvp(self._function, (leaves,), (ts,))[1], randomness="same"
        )  # the function's outputs are all that is differentiated
        found: list[torch.Tensor] = product(along)
        return found

    def _function(self, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with self._twice:
            return self.batch.split(leaves).outputs


class Forward(Linearization):
    """J v in dual numbers, without a graph."""

    words = "tangents by dual numbers"

    def _tangents(self, v: torch.Tensor) -> list[torch.Tensor]:
        """Return J v for a vector (n,): one forward pass in dual numbers."""
        leaves = [leaf.detach() for leaf in self._leaves]
        with recognised(), torch.no_grad(), dual_level():
            return [t.detach() for t in tangents(self._function(duals(leaves, self.batch.space.split(v))))]


class Reverse(Linearization):
    """J v as the derivative of Jᵀ u by u: for models without dual numbers."""

    words = "tangents by reverse over reverse"

    def __init__(self, batch: Batch, twice: Twice) -> None:
        super().__init__(batch, twice)
        if not self.depends:
            return
        outputs = [self.outputs[i] for i in self._curved]
        refuse_once(outputs)
        with recognised():
            # any u will do, as Jᵀ u is linear in it; from zeros nobody could tell a backward that leaves no graph
            self._dummies = [
                torch.linspace(1, 2, o.numel(), dtype=o.dtype, device=o.device).view(o.shape).requires_grad_()
                for o in outputs
            ]
            rows = torch.autograd.grad(outputs, self._leaves, self._dummies, create_graph=True, allow_unused=True)
        self._rows = [(i, row) for i, row in enumerate(rows) if row is not None and row.requires_grad]

    def _tangents(self, v: torch.Tensor) -> list[torch.Tensor]:
        """Return J v for a vector (n,): one backward pass through the graph of a backward pass."""
        parts = self.batch.space.split(v)
        with recognised():
            found = torch.autograd.grad(
                [row for _, row in self._rows],
                self._dummies,
                [parts[i].to(row.dtype) for i, row in self._rows],
                retain_graph=True,
                materialize_grads=True,
            )
        result = [torch.zeros_like(output) for output in self.outputs]
        for i, tangent in zip(self._curved, found, strict=True):
            result[i] = tangent
        return result


#: In the order in which "auto" tries them.
LINEARIZATIONS: dict[str, type[Linearization]] = {"forward": Forward, "autograd": Reverse}


class Linearizer:
    """Makes the linearizations of an objective's batches; keeps that of an only batch.

    ``depends`` says whether the outputs of any batch so far depended on the selected parameters.
    """

    def __init__(self, kind: type[Linearization], objective: Objective, twice: Twice) -> None:
        self.kind, self._objective, self._twice = kind, objective, twice
        self._kept: Linearization | None = None
        self.depends = False

    def __call__(self, batch: Batch) -> Linearization:
        """Return the linearization of ``batch``, inside a session."""
        whole = batch.size == self._objective.batches.examples
        if whole and self._kept is not None:
            return self._kept
        self._kept = None  # also when a batch that was kept comes in pieces, for want of memory
        made = self.kind(batch, self._twice)
        self.depends = self.depends or made.depends
        if whole:
            self._kept = made
        return made
