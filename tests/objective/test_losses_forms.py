"""Losses in the forms that users bring: with derivatives of their own, of 8-bit labels, or for (outputs, targets)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import landscape as ls
from landscape.curvature import GradientCovariance
from landscape.errors import InputError
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import close

Tensor = torch.Tensor


# -- losses that take derivatives themselves ---------------------------------------------------------


def residual(model: Any, batch: Any) -> tuple[Tensor, int]:
    """The residual of u' = u, as for networks that solve differential equations."""
    x = batch[0].detach().requires_grad_(True)
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return (slope - u).square().mean(), len(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def points() -> Tensor:
    return torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]


def test_a_loss_of_derivatives_by_the_inputs_has_a_value() -> None:
    model, x = network(), points()
    expected = residual(model, (x,))[0]
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(expected, list(model.parameters()))])
    for loss in (residual, lambda m, b: residual(m, b)[0]):
        objective = ls.Objective(model, loss, (x,))
        with harmless(model):
            close(objective.value(), expected.detach(), 1e-12)
            close(objective.gradient(), gradient, 1e-12)
            close(objective.value(), expected.detach(), 1e-12)
    split = ls.Objective(model, residual, [(x[:4],), (x[4:],)])
    close(split.value(), expected.detach(), 1e-12)


@pytest.mark.parametrize("backend", ["autograd", "forward"])
def test_a_loss_of_derivatives_by_the_inputs_has_a_hessian(backend: str) -> None:
    model, x = network(), points()
    names = [name for name, _ in model.named_parameters()]

    def of(*tensors: Tensor) -> Tensor:
        call = partial(torch.func.functional_call, model, dict(zip(names, tensors, strict=True)))
        return residual(lambda x: call((x,)), (x,))[0]

    parts = torch.autograd.functional.hessian(of, tuple(p.detach() for p in model.parameters()))
    rows = [torch.cat([p.reshape(*a.shape, -1).flatten(0, a.ndim - 1) for p in row], 1)
            for row, a in zip(parts, model.parameters(), strict=True)]  # fmt: skip
    close(ls.Hessian(ls.Objective(model, residual, (x,)), backend=backend).to_dense(), torch.cat(rows), 1e-8)


def test_a_loss_of_derivatives_by_the_inputs_cannot_be_cut_at_the_outputs() -> None:
    objective = ls.Objective(network(), residual, (points(),))
    with pytest.raises(InputError, match="got a function that differentiates the model by its inputs"):
        ls.GGN(objective) @ torch.ones(objective.space.n, dtype=torch.float64)


def test_other_errors_of_a_loss_are_its_own() -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        raise RuntimeError("the loss does not require grad, says its author")

    for ask in (ls.Objective(network(), loss, (points(),)).value, ls.Objective(network(), loss, (points(),)).gradient):
        with pytest.raises(RuntimeError, match="says its author"):
            ask()


# -- labels of 8 bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]).double()),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), ignore_index=2, label_smoothing=0.1),
    ],
)
@pytest.mark.parametrize("labels", [[1, 1, 1, 2], [0, 3, 2, 1]])
def test_labels_of_8_bits_are_labels(criterion: nn.Module, labels: list[int]) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(3, 4).double(), torch.randn(4, 3).double(), torch.tensor(labels)
    small, long = (ls.Objective(model, criterion, (x, labels)) for labels in (y.to(torch.uint8), y))
    close(small.value(), criterion(model(x), y).detach(), 1e-12)
    v = torch.ones(small.space.n, dtype=torch.float64)
    for kind in (ls.Hessian, ls.GGN, ls.Fisher, GradientCovariance):
        close(kind(small) @ v, kind(long) @ v, 1e-12)
    assert small.evaluate("accuracy") == long.evaluate("accuracy")


def test_masks_of_8_bits_ignore_what_they_should() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Conv2d(2, 4, 1), torch.randn(3, 2, 5, 5), torch.randint(4, (3, 5, 5))
    y[0, :3] = 255
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    value = ls.Objective(model, criterion, (x, y.to(torch.uint8))).value()
    torch.testing.assert_close(value.float(), criterion(model(x), y).detach())


# -- losses that are no function of (model, batch) -----------------------------------------------------------


class Smoothed(nn.Module):
    """A criterion of its own, without a reduction."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("loss", "name"),
    [(Smoothed(), "Smoothed"), (lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.1), "<lambda>")],
)
def test_a_loss_of_outputs_and_targets_is_refused(loss: Any, name: str) -> None:
    p = problem("mlp")
    with harmless(p.model), pytest.raises(InputError, match=f"got {name}, which fails then: .*; pass lambda model, "):
        ls.Objective(p.model, loss, p.batches()).value()
    wrapped = ls.Objective(p.model, lambda model, b: (Smoothed()(model(b[0]), b[1]), len(b[0])), p.batches())
    close(wrapped.value(), nn.CrossEntropyLoss(label_smoothing=0.1)(p.model(p.inputs), p.targets).detach(), 1e-12)


def test_a_function_with_arguments_of_its_own_is_named_as_a_criterion() -> None:
    p = problem("mlp")
    given = partial(functional.cross_entropy, label_smoothing=0.1)
    with pytest.raises(InputError, match=r"pass nn.CrossEntropyLoss\(label_smoothing=0.1\)"):
        ls.Objective(p.model, given, p.batches())


def test_a_mistake_inside_a_loss_is_shown_as_it_is() -> None:
    p = problem("mlp")
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        ls.Objective(p.model, lambda model, batch: model.missing(batch), p.batches()).value()


# -- what the data are ------------------------------------------------------------------------------------------


def test_a_loader_over_a_mapping_needs_its_keys() -> None:
    p = problem("mlp")
    examples: Any = {f"example {i}": pair for i, pair in enumerate(zip(p.inputs, p.targets, strict=True))}
    with pytest.raises(InputError, match=r"got numbers, where keys are such as 'example 0'; pass DataLoader\("):
        ls.Objective(p.model, p.loss, DataLoader(examples, batch_size=5))
    value = ls.Objective(p.model, p.loss, DataLoader(examples, sampler=list(examples), batch_size=5)).value()
    close(value, p.loss(p.model(p.inputs), p.targets).detach(), 1e-12)


@pytest.mark.parametrize("examples", [2.5, "3", True])
def test_a_number_of_examples_is_whole(examples: Any) -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    with pytest.raises(InputError, match="examples must be a whole number"):
        objective.subsample(examples)
    assert objective.subsample(np.int64(3)).value() == objective.subsample(3).value()
