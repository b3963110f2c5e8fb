"""What all operators of an objective share: a point, and checks before the first product."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from landscape.curvature.checks import check_symmetric
from landscape.curvature.operator import LinearOperator
from landscape.objective import Objective
from landscape.space import Space


class ObjectiveOperator(LinearOperator):
    """An operator of ``objective`` at a point, by default that of the model when this is built."""

    def __init__(self, objective: Objective, at: Any = None, codomain: Space | None = None) -> None:
        super().__init__(objective.space, codomain)
        self.objective = objective
        self.point = objective.point(at)
        self._value: torch.Tensor | None = None
        self._checked = False

    @property
    def value(self) -> torch.Tensor:
        """The objective's value at the operator's point."""
        if self._value is None:
            self._value = self.objective.check_finite(self.point)
        return self._value

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        self._check()
        product = self._scaled(block)
        if self._value is None:
            found = self._value_found()
            self._value = found if found is not None and bool(torch.isfinite(found)) else self.value
        return product

    def _value_found(self) -> torch.Tensor | None:
        """Return the objective's value if a product has given it on the way."""
        return None

    def _check(self) -> None:
        """Check, before the first product, that the loss is the same twice, finite, and its products symmetric."""
        if self._checked:
            return
        self.objective.check_deterministic(self.point)
        if self.symmetric and f"{type(self).__name__}, {self.backend}" not in self.objective.checked:
            _ = self.value  # a loss that is not finite is said before products that are not
            check_symmetric(self.objective, self.point, type(self).__name__, self._scaled, self._error)
            self.objective.checked.add(f"{type(self).__name__}, {self.backend}")  # "auto" may have changed it
        self._checked = True

    @property
    @abstractmethod
    def backend(self) -> str:
        """The backend that makes the products."""

    def _scaled(self, block: torch.Tensor) -> torch.Tensor:
        """Multiply columns that powers of two bring into the range of half precision, where it is used."""
        if torch.finfo(self.objective.coarsest).bits > 16 or not self.space.whole:
            return self._multiplied(block)
        largest = block.abs().amax(0).clamp_min(torch.finfo(block.dtype).tiny)
        scale = torch.exp2(-torch.log2(largest).floor())
        return self._multiplied(block * scale) / scale

    @abstractmethod
    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block``."""

    def _error(self) -> tuple[float, float]:
        """Return the relative error of products, and the length of a unit vector's product from which it is meant."""
        return 1e3 * torch.finfo(self.objective.coarsest).eps, 0.0

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of."""
        return {**super().provenance(), **self.objective.provenance()}
