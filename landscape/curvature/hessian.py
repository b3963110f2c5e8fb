"""The Hessian of an objective as an operator."""

from __future__ import annotations

from typing import Any

import torch

from landscape.curvature.backends import BACKENDS, Backend
from landscape.curvature.checks import check_symmetric
from landscape.curvature.columns import Columns
from landscape.curvature.operator import LinearOperator
from landscape.curvature.unsupported import Unsupported
from landscape.errors import InputError
from landscape.objective import Objective


class Hessian(LinearOperator):
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
        if backend != "auto" and backend not in BACKENDS:
            raise InputError("there is no such backend", got=backend, fix=f"use 'auto' or one of {', '.join(BACKENDS)}")
        super().__init__(objective.space)
        self.objective = objective
        self.point = objective.point(at)
        self._asked = backend
        self._columns = Columns(columns)
        self._untried = list(BACKENDS) if backend == "auto" else [backend]
        self._reasons: list[str] = []
        self._products = self._next()
        self._value: torch.Tensor | None = None

    def _next(self) -> Backend:
        return BACKENDS[self._untried.pop(0)](self.objective, self.point, self._columns)

    @property
    def value(self) -> torch.Tensor:
        """The objective's value at the operator's point."""
        if self._value is None:
            self._value = self.objective.check_finite(self.point)
        return self._value

    @property
    def backend(self) -> str:
        """The backend that makes the products: with ``"auto"``, the one in use now."""
        return self._products.name

    @property
    def bound(self) -> float:
        """The largest relative error that the backend states for a product; known after the first one."""
        return self._products.bound

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        if self._value is None:
            self.objective.check_deterministic(self.point)
            self._value = self.objective.check_finite(self.point)
            check_symmetric(self.objective, self._multiplied, lambda: (self.bound, self._products.floor))
        return self._multiplied(block)

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        """Multiply by the first backend that can; stay with it."""
        scale = self._scale(block)
        while True:
            try:
                return self._products(block * scale) / scale
            except Unsupported as missing:
                if not self._untried:
                    raise InputError(
                        f"the {self.backend} backend needs a derivative that torch does not have",
                        got=str(missing),
                        why="the loss or the model uses an operation without a second derivative in torch",
                        fix="pass backend='auto', which falls back on differences, or write it in other operations",
                    ) from missing
                self._reasons.append(f"{self.backend}: no derivative of {missing}")
            self._products = self._next()

    def _scale(self, block: torch.Tensor) -> torch.Tensor | float:
        """Return powers of two that bring the columns into the range of half precision, where it is used."""
        if torch.finfo(self.space.coarsest).bits > 16:
            return 1.0
        largest = block.abs().amax(0).clamp_min(torch.finfo(block.dtype).tiny)
        return torch.exp2(-torch.log2(largest).floor())

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, and how its products are made."""
        reasons = {"backends that failed": "; ".join(self._reasons)} if self._reasons else {}
        return {**super().provenance(), **self.objective.provenance(), "backend": self._products.describe(), **reasons}
