"""Jᵀ C J for a symmetric operator C on the outputs: the generalised Gauss-Newton matrix, and what is made like it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from landscape.curvature.columns import Columns
from landscape.curvature.fallback import Fallback
from landscape.curvature.linearization import LINEARIZATIONS, Linearizer
from landscape.curvature.objective_operator import ObjectiveOperator
from landscape.curvature.outputs.hessian import CONVEX, Curve, loss_hessian
from landscape.curvature.outputs.weights import batch_weight
from landscape.curvature.twice import Twice
from landscape.objective import Batch, Objective
from landscape.objective.losses import ModelLoss
from landscape.objective.losses.terms import Split


class OutputCurvature(ObjectiveOperator):
    """Σ_b Jᵀ C_b J / Σ_b w_b over batches b, C_b being a symmetric operator on the outputs of a batch."""

    def __init__(self, objective: Objective, *, backend: str = "auto", columns: str = "auto", at: Any = None) -> None:
        super().__init__(objective, at)
        self._columns, self._twice = Columns(columns), Twice()
        self._kinds = Fallback(LINEARIZATIONS, backend, lambda kind: Linearizer(kind, objective, self._twice))

    @property
    def backend(self) -> str:
        """The backend that makes the products: with ``"auto"``, the one in use now."""
        return self._kinds.name

    @abstractmethod
    def _curve(self, split: Split, batch: Batch) -> Curve:
        """Return C for a batch."""

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        return self._kinds(lambda linearized: self._summed(linearized, block))

    def _summed(self, linearized: Linearizer, block: torch.Tensor) -> torch.Tensor:
        objective = self.objective

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            linear = linearized(batch)
            curve = self._curve(linear.split, batch)

            def one(v: torch.Tensor) -> torch.Tensor:
                return linear.vjp(curve(linear.jvp(v)))

            def many(vectors: torch.Tensor) -> torch.Tensor:
                return linear.vjp(torch.func.vmap(curve)(linear.jvps(vectors)))

            return [self._weight(linear.split, batch), self._columns(block, one, None if linear.random else many)]

        weight, product = objective.sum(per_batch, self.point, math_attention=True)
        objective.check_depends(linearized.depends)
        return product.div_(self._total(weight)).to(self.space.dtype)

    def _weight(self, split: Split, batch: Batch) -> torch.Tensor | float:
        """Return what a batch counts."""
        return 0.0 if self.objective.loss.reduction == "sum" else batch_weight(split)

    def _total(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what the sum over batches is divided by."""
        return self.objective.total(weight)

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        parts = [self._kinds.current.kind.words, "math attention kernel" if self._twice.attention else ""]
        words = ", ".join(part for part in (*parts, self._columns.words) if part)
        return {**super().provenance(), "backend": f"{self.backend} ({words})", **self._kinds.facts()}


class GGN(OutputCurvature):
    """The generalised Gauss-Newton matrix Σ Jᵀ H_L J / Σ w: the Hessian without the model's own curvature.

    J is the Jacobian of the model's outputs and H_L the Hessian of the loss by them: in closed form for
    cross-entropy, log-likelihood, divergence, square and binary cross-entropy losses, worked on some tokens at
    a time, else by autograd. It is positive semi-definite when the loss is convex in the outputs. A
    regularizer of the objective adds its own Hessian.

    Parameters
    ----------
    objective : Objective
        Its loss must be a criterion, ``"model"``, or a function that calls the model once and computes the
        loss from what it returns. ``nn.NLLLoss`` and ``nn.KLDivLoss`` are linear in log-probabilities; their
        curvature is taken at the logits, as for cross-entropy.
    backend : {"auto", "forward", "autograd"}
        ``"forward"``: J v in dual numbers. ``"autograd"``: as the derivative of Jᵀ u by u. ``"auto"``: the
        first of them that torch supports for this model.
    columns : {"auto", "loop", "batch"}
        How the columns of a block are multiplied: by default whichever a short trial shows to be faster.
    at : tensor (n,) or dict of tensors, optional
        Another point than the model's present one.

    Raises
    ------
    InputError
        At the first product, for a loss that cannot be cut at the model's outputs.
    NonFiniteError
        At the first product, when the loss is NaN or infinite at the point.

    Notes
    -----
    A product costs about two gradients. Memory: the forward graph of one batch and the tangents of its outputs.
    Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent".
    """

    def __init__(self, objective: Objective, *, backend: str = "auto", columns: str = "auto", at: Any = None) -> None:
        super().__init__(objective, backend=backend, columns=columns, at=at)
        convex = isinstance(objective.loss, ModelLoss) or isinstance(objective.loss.criterion, CONVEX)
        self.psd = convex and objective.regularizer is None

    def _curve(self, split: Split, batch: Batch) -> Curve:
        return loss_hessian(split)

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        product = super()._multiplied(block)
        return product if self.objective.regularizer is None else product + self._penalty(block)

    def _penalty(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the Hessian of the regularizer."""
        space, regularizer = self.space, self.objective.regularizer
        assert regularizer is not None
        with torch.enable_grad(), torch.inference_mode(False):
            vector = self.point.vector.detach().requires_grad_()
            value = regularizer(dict(zip(space.names, space.split(vector), strict=True)))
            if not value.requires_grad:
                return torch.zeros_like(block)
            (gradient,) = torch.autograd.grad(value, vector, create_graph=True, materialize_grads=True)
            if not gradient.requires_grad:
                return torch.zeros_like(block)
            rows = [
                torch.autograd.grad(gradient, vector, v.contiguous(), retain_graph=True, materialize_grads=True)[0]
                for v in block.unbind(1)
            ]
        return torch.stack(rows, dim=1)
