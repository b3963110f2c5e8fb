"""Reverse over reverse: the gradient's graph is differentiated once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from landscape.curvature.backends.base import Backend, constant
from landscape.curvature.unsupported import recognised, refuse_once
from landscape.errors import is_out_of_memory
from landscape.objective import Batch

#: leaves, gradients, weight and numerator of a batch, and the unit of its gradients in half precision
Graph = tuple[list[torch.Tensor], list[torch.Tensor], "torch.Tensor | float", torch.Tensor, "torch.Tensor | None"]


class Autograd(Backend):
    """The gradient's graph of a batch serves all columns; that of an objective's only batch is kept."""

    name = "autograd"
    _kept: Graph | None = None

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        objective, space = self.objective, self.objective.space
        if self._kept is not None:
            self.point.check()
            try:
                return self._again(block)
            except (RuntimeError, MemoryError) as error:
                if block.shape[1] > 1 or not is_out_of_memory(error):
                    raise
            self._kept = None  # there is no room beside it any more: the batch comes in pieces

        depends = False

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            nonlocal depends
            with recognised():
                only = batch.size == objective.batches.examples and objective.ranks.group is None
                graph = self._graph(batch, mean=only)
                if graph is None:
                    terms = batch.terms()
                    return [terms.weight, torch.zeros_like(block), terms.numerator]
                depends = True
                product = self._apply(graph, block, last=not only)
                if only:  # kept once memory has held a product with it
                    self._kept = graph
                return [graph[2], product, graph[3]]

        weight, product, numerator = objective.sum(per_batch, self.point, math_attention=True)
        objective.check_depends(depends)
        total = objective.total(weight)
        if not objective.batches.partial:
            self.value = numerator / total
        return product.div_(total).to(space.dtype)

    def _again(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the Hessian of the one batch whose graph is kept."""
        assert self._kept is not None
        with torch.inference_mode(False), torch.autocast(block.device.type, enabled=False), recognised():
            product, weight = self._apply(self._kept, block), self._kept[2]
            if not (isinstance(weight, float) and weight == 1):  # not yet a mean
                product.div_(self.objective.total(torch.as_tensor(weight).double()))
            return product.to(self.objective.space.dtype)

    def _graph(self, batch: Batch, *, mean: bool) -> Graph | None:
        """Return the gradient of the batch's ``mean``, or of its numerator, with its graph; ``None`` without one."""
        leaves = batch.leaves()
        with self.twice:
            terms = batch.terms(leaves)
        refuse_once([terms.numerator])
        weight = constant(terms.weight)
        if mean and not batch.narrow:  # then products need no division
            total = self.objective.total(torch.as_tensor(weight).double())
            terms, weight = replace(terms, numerator=terms.numerator / total.to(terms.numerator), weight=1.0), 1.0
        gradients = batch.gradient(terms, leaves, create_graph=True)
        return None if gradients is None else (leaves, gradients, weight, terms.numerator.detach(), batch.unit(terms))

    def _apply(self, graph: Graph, block: torch.Tensor, *, last: bool = False) -> torch.Tensor:
        """Return the products with a batch's own Hessian; the ``last`` ones give its graph's memory back on the way."""
        leaves, gradients, _, _, unit = graph
        # a gradient without a graph is constant: the loss is linear in, or does not use, its parameter
        curved = [i for i, g in enumerate(gradients) if g.requires_grad]
        if not curved:
            return torch.zeros_like(block)
        product = self._product(leaves, gradients, curved, retain=not last or block.shape[1] > 1)
        if unit is None:
            return self.columns(block, product, product)
        return self.columns(block * unit, product, product).div_(unit)  # in float16, as the gradients were made

    def _product(
        self, leaves: list[torch.Tensor], gradients: list[torch.Tensor], curved: list[int], *, retain: bool
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the product with one vector (n,), or with several (k, n)."""
        space = self.objective.space

        def product(vectors: torch.Tensor) -> torch.Tensor:
            batched: dict[str, Any] = {"is_grads_batched": True} if vectors.ndim == 2 else {}
            parts = space.split(vectors)
            rows = torch.autograd.grad(
                [gradients[i] for i in curved],
                leaves,
                [parts[i].to(gradients[i].dtype) for i in curved],
                retain_graph=retain,
                allow_unused=True,
                **batched,
            )
            filled = [torch.zeros_like(p) if r is None else r.to(p.dtype) for r, p in zip(rows, parts, strict=True)]
            return torch.cat([r.reshape(*vectors.shape[:-1], -1) for r in filled], dim=-1)

        return product

    def describe(self) -> str:
        """Return how products are made."""
        kept = "graph of the one batch kept" if self._kept is not None else ""
        return f"autograd ({self._words('reverse over reverse', kept)})"
