"""What holds of every objective: it is the pooled loss, whatever the batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.objective.losses import DENOMINATORS
from tests.problems import LOSSES, MODELS, TASKS_ONCE, N, problem, thinned
from tests.reference import close, truth

LINES = [(m, "cross-entropy") for m in MODELS] + TASKS_ONCE + [("linear", l) for l in LOSSES]
GRID = thinned(MODELS, LOSSES) + LINES


def test_registry_covers_every_criterion() -> None:
    elsewhere = {nn.CTCLoss, nn.GaussianNLLLoss, nn.HingeEmbeddingLoss}  # test_losses.py
    assert set(DENOMINATORS) <= {type(case.make()) for case in LOSSES.values()} | elsewhere


@pytest.mark.parametrize(("model", "loss"), GRID)
def test_value_and_gradient_are_those_of_the_pooled_loss(model: str, loss: str) -> None:
    p = problem(model, loss)
    expected = truth(p, hessian=False)
    objective = ls.Objective(p.model, p.loss, p.batches())
    value, gradient = objective.value_and_gradient()
    close(value, expected.value, 1e-12)
    close(objective.value(), expected.value, 1e-12)
    close(gradient, expected.gradient, 1e-12)
    assert value.dtype == torch.float64
    assert list(objective.space.names) == expected.names


@pytest.mark.parametrize(("model", "loss"), LINES)
def test_batching_and_order_do_not_matter(model: str, loss: str) -> None:
    p = problem(model, loss)
    expected = truth(p, hessian=False)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    for size in (1, 8, N) if p.equal else (1, 7, N):
        for shuffled in (None, order):
            value, gradient = ls.Objective(p.model, p.loss, p.batches(size, shuffled)).value_and_gradient()
            close(value, expected.value, 1e-12)
            close(gradient, expected.gradient, 1e-12)


@pytest.mark.parametrize(("model", "loss"), LINES)
def test_single_precision(model: str, loss: str) -> None:
    p = problem(model, loss).to(torch.float32)
    expected = truth(p, hessian=False)
    objective = ls.Objective(p.model, p.loss, p.batches())
    value, gradient = objective.value_and_gradient()
    assert gradient.dtype == torch.float32
    close(value, expected.value, 1e-6)
    close(gradient, expected.gradient, 1e-6)


@pytest.mark.parametrize(("model", "loss"), LINES)
def test_a_wider_dtype_than_the_models(model: str, loss: str) -> None:
    p = problem(model, loss).to(torch.float32)
    expected = truth(p, hessian=False)
    objective = ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float64)
    value, gradient = objective.value_and_gradient()
    assert gradient.dtype == torch.float64
    close(value, expected.value, 1e-12)
    close(gradient, expected.gradient, 1e-12)
    assert next(p.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(("model", "loss"), LINES)
def test_the_same_bytes_every_time(model: str, loss: str) -> None:
    for sizes in (N, (7, 6, 3)):
        p = problem(model, loss).to(torch.float32)
        objective = ls.Objective(p.model, p.loss, p.batches(sizes))
        first, second = objective.value_and_gradient(), objective.value_and_gradient()
        fresh = ls.Objective(p.model, p.loss, p.batches(sizes))
        fresh.value()
        for value, gradient in (second, fresh.value_and_gradient()):
            assert torch.equal(value, first[0])
            assert torch.equal(gradient, first[1])
