"""Sums over many examples in float16, whose numbers end at 65504."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.curvature import Jacobian

EXAMPLES = 2048


def problem(kind: str) -> tuple[nn.Module, Any, Any]:
    """A model in float16 whose summed gradient is larger than 65504, with its loss and data."""
    torch.manual_seed(0)
    x = (torch.randn(EXAMPLES, 8) + 2).half()
    if kind == "square":
        return nn.Linear(8, 64).half(), nn.MSELoss(), (x, torch.randn(EXAMPLES, 64).half() + 6)
    if kind == "square, sum":
        return nn.Linear(8, 64).half(), nn.MSELoss(reduction="sum"), (x, torch.randn(EXAMPLES, 64).half() + 60)
    if kind == "labels":
        return nn.Linear(8, 4).half(), nn.CrossEntropyLoss(), (x.repeat(100, 1), torch.randint(4, (100 * EXAMPLES,)))

    def weighted(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
        return functional.cross_entropy(model(batch[0]), batch[1]), 100003.0

    return nn.Linear(8, 4).half(), weighted, (x, torch.randint(4, (EXAMPLES,)))


def off(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


KINDS = ("square", "square, sum", "labels", "weighted")


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_float64(kind: str) -> None:
    model, loss, data = problem(kind)
    value, gradient = ls.Objective(model, loss, data).value_and_gradient()
    true = ls.Objective(model, loss, data, dtype=torch.float64).value_and_gradient()
    torch.testing.assert_close(value, true[0], rtol=2e-3, atol=0)
    assert off(gradient, true[1]) < 2e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["autograd", "forward"])
@pytest.mark.parametrize("columns", ["loop", "batch"])
def test_hessian_products_are_those_of_float64(kind: str, backend: str, columns: str) -> None:
    model, loss, data = problem(kind)
    H = ls.Hessian(ls.Objective(model, loss, data), backend=backend, columns=columns)
    V = torch.randn(H.shape[0], 2)
    true = ls.Hessian(ls.Objective(model, loss, data, dtype=torch.float64)) @ V.double()
    assert off(H @ V, true) < 5e-3


@pytest.mark.parametrize("kind", ["square", "labels", "weighted"])
@pytest.mark.parametrize("columns", ["loop", "batch"])
def test_gauss_newton_products_are_those_of_float64(kind: str, columns: str) -> None:
    model, loss, data = problem(kind)
    G = ls.GGN(ls.Objective(model, loss, data), columns=columns)
    V = torch.randn(G.shape[0], 2)
    true = ls.GGN(ls.Objective(model, loss, data, dtype=torch.float64)) @ V.double()
    assert off(G @ V, true) < 5e-3


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e5])
def test_a_transposed_jacobian_takes_vectors_of_any_size(size: float) -> None:
    model, loss, data = problem("square")
    J = Jacobian(ls.Objective(model, loss, data))
    u = torch.randn(J.shape[0])
    true = Jacobian(ls.Objective(model, loss, data, dtype=torch.float64)).T @ (size * u).double()
    assert off(J.T @ (size * u), true) < 5e-3


def test_autocast_to_float16_keeps_the_range_too() -> None:
    model, loss, data = problem("square")
    model, data = model.float(), tuple(t.float() for t in data)
    gradient = ls.Objective(model, loss, data, autocast=torch.float16).gradient()
    assert off(gradient, ls.Objective(model, loss, data, dtype=torch.float64).gradient()) < 5e-3


def test_a_weight_does_not_round_a_loss_in_bfloat16() -> None:
    model, loss, data = problem("weighted")
    model, data = model.bfloat16(), (data[0].bfloat16(), data[1])
    mean = loss(model, data)[0].detach()
    torch.testing.assert_close(ls.Objective(model, loss, data).value(), mean.double(), rtol=1e-6, atol=0)
