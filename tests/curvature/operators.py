"""Every operator of an objective, with its dense reference: one line here and it inherits all contract tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import landscape as ls
from landscape.curvature import LinearOperator
from tests.problems import LOSSES, MODELS, OWN, TASKS
from tests.reference import Dense

Tensor = torch.Tensor


@dataclass(frozen=True)
class Case:
    """An operator of an objective, the reference's products, and where it is not defined."""

    make: Callable[..., LinearOperator]
    expected: Callable[[Dense, Tensor], Tensor]
    without: tuple[str, ...] = ()  # models, losses and tasks
    by_order: bool = False  # whether the order of the examples plays a part

    @property
    def models(self) -> list[str]:
        return [m for m in MODELS if m not in self.without]

    @property
    def losses(self) -> list[str]:
        return [l for l in LOSSES if l not in self.without]

    @property
    def tasks(self) -> list[tuple[str, str]]:
        return [(t, OWN) for t in TASKS if t not in self.without]


def _hessian(backend: str, *without: str) -> Case:
    # torch has no second derivative of the margins
    missing = ("label margin", "margin", *without)
    return Case(lambda o: ls.Hessian(o, backend=backend), lambda d, V: d.hessian_times(V), missing)


OPERATORS: dict[str, Case] = {
    "Hessian, autograd": _hessian("autograd"),
    "Hessian, forward": _hessian("forward", "huber", "soft margin"),
    "Hessian, difference": _hessian("difference"),
}


def agree(op: LinearOperator, product: Tensor, expected: Tensor, tolerance: float) -> None:
    """Assert that columns differ by ``tolerance`` or the bound that ``op`` states, relative to the longest."""
    limit = max(tolerance, getattr(op, "bound", 0.0))
    error, size = (torch.linalg.vector_norm(t, dim=0).max() for t in (product.double() - expected, expected))
    assert product.shape == expected.shape
    assert float(error) <= limit * max(float(size), 1e-3), f"differs by {error / size:.3g}, allowed {limit:.3g}"
