"""Gradients of single examples of other losses: their weighted mean is the objective's gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.gradients.per_example import per_example
from tests.objective.test_losses import CASES, N, drawn, made, rows
from tests.problems import problem
from tests.reference import close


def mean_of(objective: ls.Objective, method: str) -> torch.Tensor:
    blocks = list(per_example(objective, method=method, chunk=3))
    total = sum((block.weights[:, None] * block.gradients).sum(0) for block in blocks)
    return total if objective.loss.reduction == "sum" else total / sum(block.weights.sum() for block in blocks)


def objective_of(name: str) -> ls.Objective:
    make, loss, batch = CASES[name]
    data = drawn(torch.float64)
    return ls.Objective(made(make, torch.float64), loss(), [batch(data, r) for r in rows(N, 4)])


@pytest.mark.parametrize("method", ["auto", "loop"])
@pytest.mark.parametrize("name", ["ctc", "ctc, sum", "gaussian", "mapping", "nested UserDict", "dictionary"])
def test_mean_of_examples(name: str, method: str) -> None:
    objective = objective_of(name)
    close(mean_of(objective, method), objective.gradient(), 1e-12)


@pytest.mark.parametrize("name", ["ctc, time first", "ctc, concatenated", "ctc, numbers"])
def test_batches_that_do_not_lead_with_the_examples(name: str) -> None:
    with pytest.raises(InputError, match=r"takes some examples of a batch alone, got .*: a batch is cut along"):
        mean_of(objective_of(name), "auto")


def _power(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum((p.abs() ** 1.5).sum() for p in parameters.values())


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("regularizer", [0.3, _power])
@pytest.mark.parametrize("loss", ["square", "square, sum", "cross-entropy, ignore_index", "cross-entropy, sum"])
def test_regularizer(loss: str, regularizer: Any, method: str) -> None:
    p = problem("mlp", loss)
    objective = ls.Objective(p.model, p.loss, p.batches(), regularizer=regularizer)
    plain = ls.Objective(p.model, p.loss, p.batches())
    gradient = objective.gradient()
    close(mean_of(ls.Objective(p.model, p.loss, p.batches(), regularizer=regularizer), method), gradient, 1e-12)
    assert (gradient - plain.gradient()).norm() > 0.1
