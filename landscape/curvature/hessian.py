"""The Hessian of an objective as an operator."""

from __future__ import annotations

from typing import Any

import torch

from landscape.curvature.backends import BACKENDS
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.objective import Objective


class Hessian(LinearOperator):
    """The Hessian of ``objective`` at the parameters that the model has when this is built.

    Later training does not move it: build another one for the new point. Weight decay is not part of it.

    Parameters
    ----------
    objective : Objective
        The loss whose second derivative this is, in its mode and for its selected parameters.
    backend : {"auto", "autograd"}
        How products are made. ``"autograd"`` differentiates the gradient once more (reverse over
        reverse); of an objective with one batch the graph is kept and reused by every later product.
    at : tensor (n,) or dict of tensors, optional
        Another point than the model's present one.

    Raises
    ------
    NonFiniteError
        At the first product, when the loss is NaN or infinite at the point.

    Notes
    -----
    A product costs about two gradients for each batch, and less for further columns of a block, which
    share the batch's gradient graph. Memory: the graph of one batch, and two copies of the parameters.
    At points where the loss has kinks (ReLU, max-pooling) this is the Hessian almost everywhere.
    """

    def __init__(self, objective: Objective, *, backend: str = "auto", at: Any = None) -> None:
        name = "autograd" if backend == "auto" else backend
        if name not in BACKENDS:
            raise InputError("there is no such backend", got=backend, fix=f"use 'auto' or one of {', '.join(BACKENDS)}")
        super().__init__(objective.space)
        self.objective = objective
        self.point = objective.point(at)
        self.backend = name
        self._products = BACKENDS[name](objective, self.point)
        self._value: torch.Tensor | None = None

    @property
    def value(self) -> torch.Tensor:
        """The objective's value at the operator's point."""
        if self._value is None:
            self._value = self.objective.check_finite(self.point)
        return self._value

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        if self._value is None:
            self._value = self.objective.check_finite(self.point)
        return self._products(block)

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        return {**super().provenance(), **self.objective.provenance(), "backend": self._products.describe()}
