"""How Hessian products are made. A backend is one class and one line in ``BACKENDS``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from landscape.errors import InputError
from landscape.objective import Batch, Objective, Point

Graph = tuple[list[torch.Tensor], list[torch.Tensor], "torch.Tensor | float"]


class Autograd:
    """Reverse over reverse: the gradient's graph is differentiated once more, column by column."""

    def __init__(self, objective: Objective, point: Point) -> None:
        self._objective, self._point = objective, point
        self._kept: Graph | None = None

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        objective, space = self._objective, self._objective.space
        if self._kept is not None:
            weight = torch.as_tensor(self._kept[2], device=block.device).double()
            with torch.inference_mode(False), torch.autocast(block.device.type, enabled=False):
                return (self._apply(self._kept, block) / objective.total(weight)).to(space.dtype)

        depends = False

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            nonlocal depends
            graph = self._graph(batch)
            if graph is None:
                return [batch.terms().weight, torch.zeros_like(block)]
            depends = True
            if objective.batches.count == 1:
                self._kept = graph
            return [graph[2], self._apply(graph, block)]

        weight, product = objective.sum(per_batch, self._point, math_attention=True)
        objective.check_depends(depends)
        return (product / objective.total(weight)).to(space.dtype)

    def _graph(self, batch: Batch) -> Graph | None:
        leaves = batch.leaves()
        terms = batch.terms(leaves)
        gradients = batch.gradient(terms, leaves, create_graph=True)
        weight = terms.weight.detach() if isinstance(terms.weight, torch.Tensor) else terms.weight
        return None if gradients is None else (leaves, gradients, weight)

    def _apply(self, graph: Graph, block: torch.Tensor) -> torch.Tensor:
        leaves, gradients, _ = graph
        columns = [self._column(leaves, gradients, column) for column in block.unbind(1)]
        return torch.stack(columns, dim=1)

    def _column(
        self, leaves: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], column: torch.Tensor
    ) -> torch.Tensor:
        space = self._objective.space
        # a gradient without a graph is constant: the loss is linear in, or does not use, its parameter
        pairs = [
            (g, v.to(g.dtype))
            for g, v in zip(gradients, space.split(column.contiguous()), strict=True)
            if g.requires_grad
        ]
        if not pairs:
            return torch.zeros_like(column)
        try:
            products = torch.autograd.grad(
                [g for g, _ in pairs], leaves, [v for _, v in pairs], retain_graph=True, materialize_grads=True
            )
        except RuntimeError as error:
            missing = re.search(r"derivative for '?([\w:]+)'? is not implemented", str(error))
            if missing is None:
                raise
            raise InputError(
                "the loss or the model uses an operation without a second derivative in torch",
                got=missing[1],
                why="a Hessian product differentiates twice",
                fix="replace it by one written in elementary operations",
            ) from error
        return space.flatten(products)

    def describe(self) -> str:
        """Return the backend in words, for provenance."""
        kept = ", graph of the one batch kept" if self._objective.batches.count == 1 else ""
        return f"autograd (reverse over reverse, math attention kernel{kept})"


BACKENDS = {"autograd": Autograd}
