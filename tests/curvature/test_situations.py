"""Every operator where people's models and data are not plain: other points, selections, batches, precisions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from tests.curvature.contract import block
from tests.curvature.operators import OPERATORS, agree
from tests.problems import OWN, SIZES, C, N, Problem, problem
from tests.reference import Dense, close, known

KNOWN = [name for name, case in OPERATORS.items() if case.expected is not None and "batched" not in name]
BATCHES: dict[str, Any] = {"one batch": N, "batches": SIZES}


def agrees(name: str, objective: ls.Objective, dense: Dense, tolerance: float = 1e-11) -> None:
    op = OPERATORS[name].make(objective)
    V = block(op.shape[1], dtype=op.dtype)
    agree(op, op @ V, OPERATORS[name].expected(dense, V.double()), tolerance)


@pytest.mark.parametrize("name", KNOWN)
def test_some_parameters(name: str) -> None:
    """A frozen layer that is named is part of it, one that requires a gradient and is not named is not."""
    p = problem("partial")
    chosen = ("frozen.weight", "used.bias", "unused.weight")
    objective = ls.Objective(p.model, p.loss, p.batches(), params=lambda key, _: key in chosen)
    agrees(name, objective, Dense(p, select=lambda key, _: key in chosen))


@pytest.mark.parametrize("name", KNOWN)
def test_at_another_point(name: str) -> None:
    p, moved = problem("tied"), problem("tied", seed=1)
    objective = ls.Objective(p.model, p.loss, p.batches())
    case = OPERATORS[name]
    expected = Dense(Problem(moved.model, p.loss, p.inputs, p.targets))
    there = objective.space.flatten(dict(moved.model.named_parameters()))
    for at in (there, there.numpy(), moved.model.state_dict()):
        op = case.make(objective, at=at)
        V = block(op.shape[1])
        agree(op, op @ V, case.expected(expected, V), 1e-11)


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("name", KNOWN)
def test_training_on_does_not_move_it(name: str, batches: str) -> None:
    p = problem("convolution")
    op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(BATCHES[batches])))
    late = OPERATORS[name].make(op.objectives[0])
    V = block(op.shape[1])
    before = op @ V
    p.model.train()
    p.model(p.inputs)  # moves the running statistics
    with torch.no_grad():
        for q in p.model.parameters():
            q.mul_(3.0).add_(1.0)
    assert torch.equal(op @ V, before)
    assert torch.equal(late @ V, before)
    agree(op, before, OPERATORS[name].expected(known("convolution", "cross-entropy"), V), 1e-11)


@pytest.mark.parametrize("name", KNOWN)
def test_a_regularizer_is_part_of_the_loss_and_not_of_the_outputs(name: str) -> None:
    p = problem("tied")
    op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(), regularizer=0.3))
    V = block(op.shape[1])
    added = 0.3 * V if name.startswith(("Hessian", "GGN")) else 0.0
    agree(op, op @ V, OPERATORS[name].expected(known("tied", "cross-entropy"), V) + added, 1e-11)


@pytest.mark.parametrize("name", [name for name in KNOWN if not OPERATORS[name].by_order])
def test_a_batch_that_counts_nothing(name: str) -> None:
    p = problem("tied", "cross-entropy, ignore_index")
    nothing = (p.inputs[:2], torch.full((2,), -100))
    for data in ([nothing, *p.batches()], [*p.batches(), nothing]):
        agrees(name, ls.Objective(p.model, p.loss, data), known("tied", "cross-entropy, ignore_index"))


class Words(nn.Module):
    """A model in the form of Hugging Face's: keywords in, an object with a loss and logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = problem("language model, shifted", OWN).model

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.inner(input_ids)
        loss = functional.cross_entropy(logits[:, :, :-1], labels[:, 1:])
        return {"loss": loss, "logits": logits.transpose(1, 2)}


class Scores(nn.Module):
    """The scores (N, T - 1, V) of the tokens that have a next one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[:, :, :-1].transpose(1, 2)


class ByClass(Scores):
    """The same, as torch's cross-entropy takes them: (N, V, T - 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).transpose(1, 2)


@pytest.mark.parametrize("name", KNOWN)
def test_a_model_that_computes_its_own_loss(name: str) -> None:
    """A causal language model in dictionaries: each token's label is the next token, and some do not count."""
    p = problem("language model, shifted", OWN)
    labels = p.targets[:, 1:]
    if OPERATORS[name].by_order:
        same = Problem(
            Scores(p.model), None, p.inputs, labels, lambda m, x, y: functional.cross_entropy(m(x).transpose(1, 2), y)
        )
    else:
        same = Problem(ByClass(p.model), nn.CrossEntropyLoss(), p.inputs, labels)
    data = [{"input_ids": x, "labels": y} for x, y in p.batches()]
    agrees(name, ls.Objective(Words(), "model", data), Dense(same))


class Pair(nn.Module):
    """Two outputs, of which a loss function makes one number."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(4, C), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tanh(self.inner(x)), functional.softplus(self.scale(x))


class Joined(nn.Module):
    """The same outputs side by side."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.inner(x), dim=1)


def _heteroscedastic(mean: torch.Tensor, variance: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((mean - y) ** 2 / variance + variance.log()).sum(1).mean()


def _two(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    x, y = batch
    return _heteroscedastic(*model(x), y), len(x)


def _side_by_side(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    x, y = batch
    return _heteroscedastic(*model(x).split([C, 1], dim=1), y), len(x)


@pytest.mark.parametrize("name", [n for n in KNOWN if not n.startswith(("Fisher, forward", "Fisher, autograd"))])
def test_several_outputs(name: str) -> None:
    torch.manual_seed(3)
    model, p = Pair().double(), problem("linear", "square")
    same = Problem(
        Joined(copy.deepcopy(model)), _side_by_side, p.inputs, p.targets, lambda m, x, y: _side_by_side(m, (x, y))[0]
    )
    dense, objective = Dense(same), ls.Objective(model, _two, p.batches())
    if not OPERATORS[name].by_order:
        agrees(name, objective, dense)
        return
    found = OPERATORS[name].make(objective).to_dense()  # rows batch by batch, and there output by output
    expected = OPERATORS[name].expected(dense, torch.eye(found.shape[1], dtype=torch.float64))
    close(torch.linalg.svdvals(found), torch.linalg.svdvals(expected), 1e-11)


@pytest.mark.parametrize("name", KNOWN)
def test_mixed_precision(name: str) -> None:
    """Under autocast, where differences must either be refused or keep their bound."""
    p = problem("mlp").to(torch.float32)
    op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(), autocast=torch.bfloat16))
    V = block(op.shape[1], dtype=torch.float32)
    expected = OPERATORS[name].expected(Dense(p), V.double())
    try:
        product = op @ V
    except ls.errors.InputError:
        assert name == "Hessian, difference"
    else:
        assert product.dtype == torch.float32
        agree(op, product, expected, 0.1)
