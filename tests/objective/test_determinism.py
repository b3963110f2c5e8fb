"""A loss that changes from call to call is found, and the module at fault is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

import landscape as ls
from landscape.errors import InputError
from tests.harmless import harmless
from tests.problems import MODELS, problem


class Noise(nn.Module):
    """Adds what ``draw`` gives."""

    def __init__(self, draw: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.draw(x)


class Counter(nn.Module):
    """Gives other outputs with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


class OwnDropout(nn.Module):
    """Dropout whose masks come from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand(x.shape, generator=self.generator) < 0.5)


class Router(nn.Module):
    """Calls another expert each time."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.turn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.turn += 1
        return self.experts[self.turn % 2](x)


class InPlace(nn.Module):
    """Overwrites its input, as ``ReLU(inplace=True)`` does, with noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(float(np.random.default_rng().standard_normal()))


class _Unsteady(torch.autograd.Function):
    """The same value each time, and another gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * random.random()


class Unsteady(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Unsteady.apply(x)


_OWN = torch.Generator().manual_seed(1)

FAULTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "numpy": (lambda: Noise(lambda x: np.random.standard_normal()), "Noise '2.0'"),  # noqa: NPY002
    "numpy generator": (
        lambda: Noise(lambda x: np.random.default_rng().standard_normal()),
        "Noise '2.0'",
    ),
    "python": (lambda: Noise(lambda x: random.random()), "Noise '2.0'"),
    "torch generator": (lambda: Noise(lambda x: torch.rand(x.shape, generator=_OWN)), "Noise '2.0'"),
    "counter": (Counter, "Counter '2.0'"),
    "dropout": (OwnDropout, "OwnDropout '2.0'"),
    "other modules": (Router, "Router '2.0'"),
    "in place": (InPlace, "InPlace '2.0'"),
}


def _with(module: nn.Module) -> nn.Module:
    """Return a model that has ``module`` as its module "2.0"."""
    inner = nn.Sequential(module, nn.Tanh())
    return nn.Sequential(nn.Linear(4, 4), nn.Identity(), inner, nn.Linear(4, 3)).double()


def _data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return problem("mlp").batches()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_module_at_fault_is_named(fault: str, mode: str) -> None:
    make, name = FAULTS[fault]
    model = _with(make())
    objective = ls.Objective(model, nn.CrossEntropyLoss(), _data(), mode=mode)
    hooks = len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks)
    with harmless(model), pytest.raises(ls.errors.InputError, match=f"at fault is {name}") as caught:
        objective.check_deterministic()
    assert "torch's global generator" in str(caught.value)
    assert hooks == (len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks))


def test_the_models_own_forward() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * random.random()

    objective = ls.Objective(Own(nn.Linear(4, 3)).double(), nn.CrossEntropyLoss(), _data())
    with pytest.raises(ls.errors.InputError, match=r"at fault is the model's own forward \(Own\)"):
        objective.check_deterministic()


def test_the_loss_function() -> None:
    def augmented(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        x, y = batch
        return functional.cross_entropy(model(x), y) * np.random.default_rng().uniform(1, 2), len(x)

    p = problem("mlp")
    objective = ls.Objective(p.model, augmented, p.batches())
    with harmless(p.model), pytest.raises(ls.errors.InputError, match="at fault is the loss function augmented"):
        objective.check_deterministic()


def test_only_the_gradient() -> None:
    model = _with(Unsteady())
    objective = ls.Objective(model, nn.CrossEntropyLoss(), _data())
    with harmless(model), pytest.raises(ls.errors.InputError, match="the same loss and another gradient") as caught:
        objective.check_deterministic()
    assert "a backward pass" in str(caught.value)


def test_a_product_checks_first() -> None:
    objective = ls.Objective(_with(Counter()), nn.CrossEntropyLoss(), _data())
    with pytest.raises(ls.errors.InputError, match="Counter"):
        ls.Hessian(objective) @ torch.ones(objective.space.n, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_deterministic_passes(name: str, mode: str) -> None:
    p = problem(name)
    with harmless(p.model):
        ls.Objective(p.model, p.loss, p.batches(), mode=mode).check_deterministic()


def test_dropout_and_batch_norm_pass_in_train_mode() -> None:
    p = problem("convolution")
    model = nn.Sequential(p.model, nn.Dropout(0.5)).float()
    data = [(x.float(), y) for x, y in p.batches()]
    with harmless(model):
        ls.Objective(model, p.loss, data, mode="train").check_deterministic()


def test_it_is_checked_once_and_on_the_first_batch() -> None:
    seen: list[int] = []

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        x, y = batch
        seen.append(len(x))
        return functional.cross_entropy(model(x), y), len(x)

    p = problem("mlp")
    objective = ls.Objective(p.model, loss, p.batches((5, 8, 3)))
    objective.check_deterministic()
    assert seen == [5, 5]
    objective.check_deterministic()
    assert seen == [5, 5]
    objective.value()
    assert seen == [5, 5, 5, 8, 3]
    assert objective.provenance()["data"]["examples"] == 16


class Faint(nn.Module):
    """Gives a random share of its inputs, of ``size`` at most."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size, self.generator = size, torch.Generator()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.size * torch.rand(1, generator=self.generator) * x


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e-12])
def test_a_loss_near_zero_is_compared_with_itself(size: float) -> None:
    model = nn.Sequential(nn.Linear(3, 1), Faint(size))
    data = (torch.randn(5, 3), torch.zeros(5, 1))  # a loss of the order of the square
    with pytest.raises(InputError, match="at fault is Faint '1'"):
        ls.Objective(model, nn.MSELoss(), data).check_deterministic()


def test_a_nan_is_not_a_change() -> None:
    p = problem("mlp")
    with torch.no_grad():
        p.model[0].weight[0, 0] = torch.nan
    ls.Objective(p.model, p.loss, p.batches()).check_deterministic()
