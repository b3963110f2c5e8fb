"""Gradients of the rows of a batch: all at once by ``torch.func``, or one backward pass each."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.gradients.groups import count_examples
from landscape.objective import Batch, Objective
from landscape.objective.examples import leads


class Differentiator:
    """Gradients and weights of the rows of a batch, by the method that works."""

    def __init__(self, objective: Objective, method: str) -> None:
        self._objective, self._space = objective, objective.space
        self._asked, self._method = method, "vmap" if method == "auto" else method
        self._reason = ""
        self._pull: torch.Tensor | None = None  # of the regularizer on each example
        if objective.regularizer is not None and objective.loss.reduction == "sum":
            self._sharing = count_examples(objective)  # now: a pass is open when it is needed
        else:
            self._sharing = 1

    @property
    def description(self) -> str:
        """The method in words, with the reason where it is not the first choice."""
        return f"{self._method} ({self._reason})" if self._reason else self._method

    def __call__(self, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gradients (b, n) and weights (b,) of ``rows``, with each example's share of the regularizer."""
        if batch.regularizer is None:
            return self._examples(batch, rows)
        if self._pull is None:
            self._pull = self._regularizer(batch)
        gradients, weights = self._examples(replace(batch, regularizer=None), rows)
        return gradients.add_(self._pull), weights

    def _regularizer(self, batch: Batch) -> torch.Tensor:
        """Return the gradient (n,) of what is added to each mean, or of an equal share of what is added to the sum."""
        leaves = batch.leaves()
        value = batch.penalty(leaves)
        if not value.requires_grad:
            return torch.zeros(self._space.n, dtype=self._space.dtype, device=self._space.device)
        pull = self._space.flatten(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))
        return pull / self._sharing

    def _examples(self, batch: Batch, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
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
        along = [i for i, part in enumerate(parts) if leads(part, batch.size)]

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
            terms = batch.terms(leaves, batch.part(slice(row, row + 1)).data)
            mean, weights[i] = self._mean(terms)
            parts = batch.gradient(replace(terms, numerator=mean, weight=1.0), leaves)
            block[i] = 0 if parts is None else self._space.flatten(parts)
        return block, weights

    def _empty(self, rows: slice) -> torch.Tensor:
        size = rows.stop - rows.start
        return torch.empty(size, self._space.n, dtype=self._space.dtype, device=self._space.device)

    def _weight(self, terms: Any) -> torch.Tensor:
        loss, device = self._objective.loss, self._objective.device
        if loss.reduction != "sum":
            return torch.as_tensor(terms.weight, dtype=torch.float64, device=device).detach()
        shared = self._objective.regularizer is not None  # of which an example without a label has its part, too
        if self._objective.is_classification and not shared and not terms.targets.is_floating_point():
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
