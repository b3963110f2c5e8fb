"""What is checked before the first product, and how far the error that differences state can be believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from tests.curvature.contract import block
from tests.reference import close

Tensor = torch.Tensor


class Noisy(nn.Linear):
    """A layer that draws from a generator of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(np.random.default_rng().random())


def test_asking_for_the_value_first_skips_no_check() -> None:
    x, y = torch.randn(6, 3), torch.randint(2, (6,))
    H = ls.Hessian(ls.Objective(Noisy(3, 2), nn.CrossEntropyLoss(), [(x, y)]))
    assert torch.isfinite(H.value)
    with pytest.raises(ls.errors.InputError, match="the same each time"):
        H @ torch.ones(H.shape[0])


class Routed(nn.Module):
    """Two experts; an example's sign says which one it goes to."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 2)
        for expert, mine in ((self.low, x[:, 0] < 0), (self.high, x[:, 0] >= 0)):
            if bool(mine.any()):
                out[mine] = torch.tanh(expert(x[mine]))
        return out


@pytest.mark.parametrize("backend", ["autograd", "forward", "difference"])
def test_a_first_batch_that_does_not_use_the_parameters(backend: str) -> None:
    model, x, y = Routed().double(), torch.randn(10, 3).double(), torch.randint(2, (10,))
    order = x[:, 0].argsort()
    x, y = x[order], y[order]
    cut = int((x[:, 0] < 0).sum())
    data = [(x[:cut], y[:cut]), (x[cut:], y[cut:])] if 0 < cut < 10 else [(x, y)]
    split, whole = (ls.Objective(model, nn.CrossEntropyLoss(), d, params="high.*") for d in (data, [(x, y)]))
    V = block(split.space.n)
    close(ls.Hessian(split, backend=backend) @ V, ls.Hessian(whole) @ V, 1e-8)


def test_products_near_a_loss_of_zero_are_said_to_be_rounding() -> None:
    words = set()
    for seed, scale in [(seed, scale) for seed in range(5) for scale in (60, 200, 600, 2000)]:
        torch.manual_seed(seed)
        model, x = nn.Linear(4, 3), torch.randn(12, 4)
        with torch.no_grad():
            model.weight.mul_(scale), model.bias.mul_(scale)
        y = model(x).argmax(1)
        H = ls.Hessian(ls.Objective(model, nn.CrossEntropyLoss(), [(x, y)]))
        words.add(_refusal(lambda H=H: H @ torch.ones(H.shape[0])))
    assert words == {"", "products with the Hessian are rounding at this point"}


def _refusal(call: Callable[[], Any]) -> str:
    """Return the first words of the refusal, if there is one."""
    try:
        call()
    except ls.errors.InputError as error:
        return str(error).split(",")[0]
    return ""


def _network(act: nn.Module, seed: int, batches: int) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 16), act, nn.Linear(16, 16), act, nn.Linear(16, 3))
    x, y = torch.randn(64, 5), torch.randint(3, (64,))
    x[:8], x[8:] = x[:8] * 0.01, x[8:] * 10  # the first batch is not like the others
    return model, list(zip(x.chunk(batches), y.chunk(batches), strict=True))


def _error(model: nn.Module, data: Any, seed: int, **options: Any) -> tuple[float, float]:
    """Return the relative error of a product by differences, and the one that is stated."""
    loss = nn.CrossEntropyLoss()
    exact = ls.Hessian(ls.Objective(model, loss, data, dtype=torch.float64, **options), backend="autograd")
    found = ls.Hessian(ls.Objective(model, loss, data, **options), backend="difference")
    v = block(exact.shape[0], 1, seed=seed)[:, 0]
    expected = exact @ v
    return float((found @ v - expected).norm() / expected.norm()), found.bound


@pytest.mark.parametrize("act", [nn.Tanh(), nn.GELU()], ids=["tanh", "gelu"])
@pytest.mark.parametrize("batches", [1, 8])
def test_differences_keep_within_the_error_they_state(act: nn.Module, batches: int) -> None:
    """For every one of 20 networks, in float32 and over batches that differ."""
    for seed in range(20):
        model, data = _network(act, seed, batches)
        error, stated = _error(model, data, seed)
        assert error <= stated


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_differences_at_parameters_near_zero(scale: float) -> None:
    """The step is not tied to their size: an adapter starts at zero."""
    for seed in range(5):
        model, data = _network(nn.Tanh(), seed, 1)
        with torch.no_grad():
            model[2].weight.mul_(scale)
        error, stated = _error(model, data, seed, params="2.weight")
        assert error <= stated


def test_differences_across_kinks_are_refused_or_right() -> None:
    found: list[tuple[float, float]] = []
    words = [_refusal(lambda s=seed: found.append(_error(*_network(nn.ReLU(), s, 4), s))) for seed in range(10)]
    assert all(error <= stated for error, stated in found)
    assert set(words) <= {"", "central differences cannot resolve Hessian products here"}


def test_each_backend_is_checked() -> None:
    model, data = _network(nn.Tanh(), 0, 2)
    objective = ls.Objective(model, nn.CrossEntropyLoss(), data)
    for backend in ("autograd", "forward"):
        H = ls.Hessian(objective, backend=backend)
        H @ torch.ones(H.shape[0])
        assert f"Hessian, {backend}" in objective.checked
