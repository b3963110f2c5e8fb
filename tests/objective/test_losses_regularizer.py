"""What is added to the mean loss, against closed forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from tests.harmless import harmless
from tests.problems import N, problem
from tests.reference import close, truth

Tensor = torch.Tensor


def power(parameters: dict[str, Tensor]) -> Tensor:
    """Sum of |theta|^3 / 3: the gradient is theta |theta|, the Hessian 2 |theta| on the diagonal."""
    return sum((p.abs() ** 3).sum() for p in parameters.values()) / 3


@pytest.mark.parametrize("sizes", [1, 7, N])
@pytest.mark.parametrize(
    "loss", ["cross-entropy", "cross-entropy, ignore_index", "cross-entropy, sum", "custom, weighted"]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_weight_decay(loss: str, sizes: int, dtype: torch.dtype, tolerance: float) -> None:
    expected = truth(problem("mlp", loss))
    p = problem("mlp", loss).to(dtype)
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, p.batches(sizes), regularizer=0.3)
        value, gradient = objective.value_and_gradient()
    theta = objective.vector().double()
    close(value, expected.value + 0.15 * theta @ theta, tolerance)
    close(objective.value(), value, 1e-7)
    close(gradient, expected.gradient + 0.3 * theta, tolerance)
    if dtype == torch.float64:
        vector = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=dtype)
        close(ls.Hessian(objective) @ vector, expected.hessian @ vector + 0.3 * vector, 1e-11)


@pytest.mark.parametrize("loss", ["square", "square, sum"])
@pytest.mark.parametrize("sizes", [7, N])
def test_function_of_selected_parameters(loss: str, sizes: int) -> None:
    p = problem("mlp", loss)
    seen: list[list[str]] = []

    def watched(parameters: dict[str, Tensor]) -> Tensor:
        seen.append(list(parameters))
        return power(parameters)

    plain = ls.Objective(p.model, p.loss, p.batches(), params="2.*")
    objective = ls.Objective(p.model, p.loss, p.batches(sizes), params="2.*", regularizer=watched)
    theta = objective.vector()
    close(objective.value(), plain.value() + theta.abs().pow(3).sum() / 3, 1e-12)
    close(objective.gradient(), plain.gradient() + theta * theta.abs(), 1e-12)
    vector = torch.ones_like(theta)
    close(ls.Hessian(objective) @ vector, ls.Hessian(plain) @ vector + 2 * theta.abs(), 1e-12)
    assert all(names == ["2.weight", "2.bias"] for names in seen)


def test_batches_without_a_counted_label() -> None:
    p = problem("mlp")
    x, y = p.inputs, p.targets
    batches = [(x[:4], torch.full_like(y[:4], -100)), (x, y), (x[:2], torch.full_like(y[:2], -100))]
    objective = ls.Objective(p.model, p.loss, batches, regularizer=0.5)
    theta, expected = objective.vector(), truth(p, hessian=False)
    close(objective.value(), expected.value + 0.25 * theta @ theta, 1e-12)
    close(objective.gradient(), expected.gradient + 0.5 * theta, 1e-12)


def test_at_another_point() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(), regularizer=0.5)
    plain = ls.Objective(p.model, p.loss, p.batches())
    theta = 2 * objective.vector()
    close(objective.value(theta), plain.value(theta) + 0.25 * theta @ theta, 1e-12)


def test_half_precision_parameters_are_squared_in_float32() -> None:
    p = problem("mlp").to(torch.bfloat16)
    objective = ls.Objective(p.model, p.loss, p.batches(), regularizer=1.0)
    plain = ls.Objective(p.model, p.loss, p.batches())
    theta = objective.vector().double()
    close(objective.value() - plain.value(), 0.5 * theta @ theta, 1e-6)


def test_a_subsample_keeps_it() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(), regularizer=0.5)
    plain = ls.Objective(p.model, p.loss, p.batches())
    theta = objective.vector()
    close(objective.subsample(5).value(), plain.subsample(5).value() + 0.25 * theta @ theta, 1e-12)


def test_named() -> None:
    p = problem("mlp")
    plain = ls.Objective(p.model, p.loss, p.batches())
    decayed = ls.Objective(p.model, p.loss, p.batches(), regularizer=1e-4)
    function = ls.Objective(p.model, p.loss, p.batches(), regularizer=power)
    assert "regularizer" not in plain.provenance()
    assert decayed.provenance()["regularizer"] == "weight decay 0.0001"
    assert function.provenance()["regularizer"] == "power"
    assert json.loads(json.dumps(function.provenance()))["regularizer"] == "power"
    assert "CrossEntropyLoss + weight decay 0.0001, n=" in repr(decayed)
    assert "+" not in repr(plain)


@pytest.mark.parametrize(
    ("regularizer", "match"),
    [
        (-1e-4, r"regularizer must be a weight decay, or a function .*got -0.0001; pass for example"),
        (float("nan"), r"regularizer must be a weight decay.*got nan"),
        (float("inf"), r"regularizer must be a weight decay.*got inf"),
        (True, r"regularizer must be a weight decay.*got True"),
        ("l2", r"regularizer must be a weight decay.*got l2"),
    ],
)
def test_refused(regularizer: Any, match: str) -> None:
    p = problem("linear")
    with pytest.raises(InputError, match=match):
        ls.Objective(p.model, p.loss, p.batches(), regularizer=regularizer)


@pytest.mark.parametrize(
    ("returned", "match"),
    [
        (lambda d: 1.0, r"must return one real number as a tensor, got 1.0"),
        (lambda d: next(iter(d.values())), r"must return one real number as a tensor, got a tensor of shape \(3, 4\)"),
        (lambda d: torch.tensor(1), r"must return one real number as a tensor, got a tensor of shape \(\)"),
    ],
)
def test_refused_returns(returned: Any, match: str) -> None:
    p = problem("linear")
    objective = ls.Objective(p.model, nn.CrossEntropyLoss(), p.batches(), regularizer=returned)
    with harmless(p.model), pytest.raises(InputError, match=match):
        objective.value()
