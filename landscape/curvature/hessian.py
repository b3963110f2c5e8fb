"""The Hessian of an objective as an operator."""

from __future__ import annotations

from typing import Any

import torch

from landscape.curvature.backends import BACKENDS, Backend
from landscape.curvature.columns import Columns
from landscape.curvature.fallback import Fallback
from landscape.curvature.objective_operator import ObjectiveOperator
from landscape.curvature.unsupported import Unsupported
from landscape.objective import Objective


class Hessian(ObjectiveOperator):
    """The Hessian of ``objective`` at the parameters that the model has when this is built.

    Later training does not move it: build another one for the new point. A regularizer of the objective is
    part of it, weight decay of an optimizer is not.

    Parameters
    ----------
    objective : Objective
        The loss whose second derivative this is, in its mode and for its selected parameters.
    backend : {"auto", "autograd", "forward", "difference"}
        How products are made. ``"autograd"`` differentiates the gradient once more (reverse over
        reverse); of an objective with one batch the graph is kept and reused by every later product.
        ``"forward"`` takes the gradient's directional derivative, with less memory and more time.
        ``"difference"`` takes central differences of the gradient, with an error that it states; it needs
        no second derivative. ``"auto"`` takes the first of them that torch supports for this loss, with the
        math attention kernel where the model has attention, and says in the provenance which and why.
    columns : {"auto", "loop", "batch"}
        How the columns of a block are multiplied: by default whichever a short trial on the first block of
        8 columns or more shows to be faster.
    at : tensor (n,) or dict of tensors, optional
        Another point than the model's present one.

    Raises
    ------
    NonFiniteError
        At the first product, when the loss is NaN or infinite at the point.
    InputError
        At the first product, when the loss or its gradient is not the same twice, when products are not
        symmetric, or when the backend that was asked for cannot differentiate the loss.

    Notes
    -----
    A product costs about two to four gradients, and less for further columns of a block, which share the
    batch's gradient graph. Memory: the graph of one batch, and two copies of the parameters. The checks before
    the first product cost two gradients and two products of the first batch, once for each objective.
    At points where the loss has kinks (ReLU, max-pooling) this is the Hessian almost everywhere.
    Reverse over reverse: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
    """

    def __init__(self, objective: Objective, *, backend: str = "auto", columns: str = "auto", at: Any = None) -> None:
        super().__init__(objective, at)
        shared = Columns(columns)
        self._products = Fallback(BACKENDS, backend, lambda kind: kind(objective, self.point, shared))

    @property
    def backend(self) -> str:
        """The backend that makes the products: with ``"auto"``, the one in use now."""
        return self._products.name

    @property
    def bound(self) -> float:
        """The largest relative error that the backend states for a product; known after the first one."""
        return self._products.current.bound

    @property
    def floor(self) -> float:
        """The length of a unit vector's product below which :attr:`bound` is relative to this length."""
        return self._products.current.floor

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        return self._products(lambda backend: self._by(backend, block))

    def _by(self, backend: Backend, block: torch.Tensor) -> torch.Tensor:
        if backend.exact and not self.space.whole:
            raise Unsupported("the hooks of a sharded model")
        return backend(block)

    def _value_found(self) -> torch.Tensor | None:
        return self._products.current.value

    def _error(self) -> tuple[float, float]:
        return self.bound, self.floor

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        return {**super().provenance(), "backend": self._products.current.describe(), **self._products.facts()}
