"""The Jacobian of the model's outputs, and the neural tangent kernel."""

from __future__ import annotations

from typing import Any

import torch

from landscape.curvature.fallback import Fallback
from landscape.curvature.linearization import LINEARIZATIONS, Linearizer
from landscape.curvature.objective_operator import ObjectiveOperator
from landscape.curvature.operator import LinearOperator
from landscape.curvature.twice import Twice
from landscape.objective import Batch, Objective
from landscape.space import Space


class Jacobian(ObjectiveOperator):
    """The Jacobian of the model's outputs by the selected parameters, over all examples of the objective.

    Shape (m, n): the rows are all output entries, example by example in the order of the data. ``jacobian.T``
    is the transpose. Outputs are what the loss is computed from; of a causal ``"model"`` loss, the logits of
    the positions that have a next token.

    Parameters
    ----------
    objective : Objective
        Its loss must be one that can be cut at the model's outputs, as for :class:`~landscape.GGN`.
    backend : {"auto", "forward", "autograd"}
        How J v is made, as for :class:`~landscape.GGN`.
    at : tensor (n,) or dict of tensors, optional
        Another point than the model's present one.

    Notes
    -----
    A product with J costs a forward pass in dual numbers, about one gradient; one with its transpose a gradient.
    Building it costs one forward pass over the data. ``codomain`` names the outputs of each batch.
    """

    symmetric = False

    def __init__(self, objective: Objective, *, backend: str = "auto", at: Any = None) -> None:
        self._twice = Twice()
        self._kinds = Fallback(LINEARIZATIONS, backend, lambda kind: Linearizer(kind, objective, self._twice))
        point = objective.point(at)
        shapes: dict[str, torch.Size] = {}
        with objective.session(grad=False), self._twice:
            for batch in objective.iterate(point):
                for found in objective.pieces(lambda piece: [o.shape for o in piece.split().outputs], batch, objective):
                    for i, shape in enumerate(found):
                        name = f"batch {batch.index}, output {i}"
                        rows = shapes[name][:1].numel() if name in shapes else 0
                        shapes[name] = torch.Size([rows + shape[0], *shape[1:]]) if len(shape) else shape
        dtypes = (objective.space.dtype,) * len(shapes)
        super().__init__(objective, point, Space(tuple(shapes), tuple(shapes.values()), dtypes, objective.space.device))

    @property
    def backend(self) -> str:
        """The backend that makes J v: with ``"auto"``, the one in use now."""
        return self._kinds.name

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        return self._kinds(lambda linearized: self._forward(linearized, block))

    def _forward(self, linearized: Linearizer, block: torch.Tensor) -> torch.Tensor:
        objective = self.objective

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            linear = linearized(batch)
            columns = [torch.cat([t.reshape(-1) for t in linear.jvp(v.contiguous())]) for v in block.unbind(1)]
            return [torch.stack(columns, dim=1).to(self.codomain.dtype)]

        with objective.session(math_attention=True):
            batches = objective.iterate(self.point)
            parts = [part for batch in batches for (part,) in objective.pieces(per_batch, batch, objective)]
        objective.check_depends(linearized.depends)
        return torch.cat(parts)  # type: ignore[arg-type]

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        self._check()
        return self._kinds(lambda linearized: self._backward(linearized, block))

    def _backward(self, linearized: Linearizer, block: torch.Tensor) -> torch.Tensor:
        objective = self.objective
        total = torch.zeros(block.shape[1], self.space.n, dtype=torch.float64, device=self.device)
        start = 0

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            linear = linearized(batch)
            sizes = [output.numel() for output in linear.outputs]
            columns = block[start : start + sum(sizes)].unbind(1)
            cuts = ([p.reshape(o.shape) for p, o in zip(u.split(sizes), linear.outputs, strict=True)]
                    for u in columns)  # fmt: skip
            return [torch.stack([linear.vjp(cut) for cut in cuts]), sum(sizes)]

        with objective.session(math_attention=True):
            for batch in objective.iterate(self.point):
                for part, size in objective.pieces(per_batch, batch, objective):
                    total += part
                    start += int(size)
        objective.check_depends(linearized.depends)
        return total.T.to(self.space.dtype)

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        return {
            **super().provenance(),
            "backend": f"{self.backend} ({self._kinds.current.kind.words})",
            **self._kinds.facts(),
        }


class NTK(LinearOperator):
    """The empirical neural tangent kernel J Jᵀ of all outputs of an objective's examples, shape (m, m).

    Parameters
    ----------
    objective : Objective
        Usually of one small batch: ``objective.subsample(32)``.
    backend, at
        As for :class:`~landscape.curvature.Jacobian`.

    Notes
    -----
    A product costs one with the Jacobian's transpose and one with the Jacobian, about two gradients; the graph of
    an only batch is kept. Vectors have one entry for each output entry. Jacot et al. 2018, arXiv:1806.07572.
    """

    psd = True

    def __init__(self, objective: Objective, *, backend: str = "auto", at: Any = None) -> None:
        self.jacobian = Jacobian(objective, backend=backend, at=at)
        self.objective = objective
        super().__init__(self.jacobian.codomain)

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.jacobian @ (self.jacobian.T @ block)
        return product

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        return {**self.jacobian.provenance(), **super().provenance()}
