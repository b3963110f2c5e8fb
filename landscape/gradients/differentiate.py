"""Gradients of the rows of a batch: all at once by ``torch.func``, or one backward pass each."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.objective import Batch, Objective


class Differentiator:
    """Gradients and weights of the rows of a batch, by the method that works."""

    def __init__(self, objective: Objective, method: str) -> None:
        self._objective, self._space = objective, objective.space
        self._asked, self._method = method, "vmap" if method == "auto" else method
        self._reason = ""

    @property
    def description(self) -> str:
        """The method in words, with the reason where it is not the first choice."""
        return f"{self._method} ({self._reason})" if self._reason else self._method

    def __call__(self, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gradients (b, n) and weights (b,) of ``rows``."""
        if self._method == "loop":
            return self._loop(batch, rows)
        try:
            return self._vmap(batch, rows)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"torch.func cannot transform this loss: {words[0][:200]}"
            if self._asked == "vmap":
                raise InputError("method='vmap' does not work here", got=reason, fix="pass method='loop'") from error
        self._method, self._reason = "loop", reason  # if the loss itself is at fault, the loop raises it again
        return self._loop(batch, rows)

    def _vmap(self, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        leaves = batch.leaves()
        parts, spec = tree_flatten(batch.data)
        along = [i for i, part in enumerate(parts) if _leads(part, batch.size)]

        def loss(leaves: list[torch.Tensor], *examples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            own = list(parts)
            for i, example in zip(along, examples, strict=True):
                own[i] = example.unsqueeze(0)
            return self._mean(batch.terms(leaves, tree_unflatten(own, spec)))

        each = torch.func.vmap(torch.func.grad(loss, has_aux=True), in_dims=(None, *[0] * len(along)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")  # still one call, and right
            gradients, weights = each([leaf.detach() for leaf in leaves], *[parts[i][rows] for i in along])
        block = self._empty(rows)
        for where, part in zip(self._space.slices.values(), gradients, strict=True):
            block[:, where] = part.detach().reshape(len(block), -1)
        return block, weights.detach()

    def _loop(self, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        leaves = batch.leaves()
        block = self._empty(rows)
        weights = torch.zeros(len(block), dtype=torch.float64, device=self._objective.device)
        for i, row in enumerate(range(rows.start, rows.stop)):
            terms = batch.terms(leaves, rows_of(batch, slice(row, row + 1)))
            mean, weights[i] = self._mean(terms)
            parts = batch.gradient(replace(terms, numerator=mean), leaves)
            block[i] = 0 if parts is None else self._space.flatten(parts)
        return block, weights

    def _empty(self, rows: slice) -> torch.Tensor:
        size = rows.stop - rows.start
        return torch.empty(size, self._space.n, dtype=self._space.dtype, device=self._space.device)

    def _weight(self, terms: Any) -> torch.Tensor:
        loss, device = self._objective.loss, self._objective.device
        if loss.reduction != "sum":
            return torch.as_tensor(terms.weight, dtype=torch.float64, device=device).detach()
        if self._objective.is_classification and not terms.targets.is_floating_point():
            counted: torch.Tensor = terms.targets != getattr(loss.criterion, "ignore_index", None)
            return counted.any().double()
        return torch.ones((), dtype=torch.float64, device=device)

    def _mean(self, terms: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an example's own mean loss (its term, of a sum) and its weight."""
        weight = self._weight(terms)
        if self._objective.loss.reduction == "sum":
            return terms.numerator, weight
        divisor = torch.where(weight == 0, torch.ones_like(weight), weight)  # what has no weight is left out anyway
        return terms.numerator / divisor.to(terms.numerator.dtype), weight


def _leads(part: Any, size: int) -> bool:
    """Whether ``part`` is a tensor with one entry an example; all else belongs to every example."""
    return isinstance(part, torch.Tensor) and part.ndim > 0 and part.shape[0] == size


def rows_of(batch: Batch, rows: slice) -> Any:
    """Return the data of ``rows`` of a batch, in the batch's own nesting."""
    parts, spec = tree_flatten(batch.data)
    return tree_unflatten([part[rows] if _leads(part, batch.size) else part for part in parts], spec)
