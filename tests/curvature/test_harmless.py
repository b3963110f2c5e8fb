"""A product changes nothing: not on success, not when the model or its backward pass fails, not after Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.curvature import LinearOperator
from tests.curvature.contract import block
from tests.curvature.operators import OPERATORS
from tests.harmless import harmless
from tests.problems import N, Problem, problem


class Trap(nn.Module):
    """A layer that raises in its n-th forward pass, or in the backward pass of the first one from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.passes, self.backward = 0, False

    def set(self, error: BaseException | None, passes: int, *, backward: bool) -> None:
        self.error, self.passes, self.backward = error, passes, backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes -= 1
        if self.error is None or self.passes > 0 or (self.backward and not x.requires_grad):
            return x
        if not self.backward:
            raise self.error
        y = x.clone()
        y.register_hook(self._raise)
        return y

    def _raise(self, gradient: torch.Tensor) -> None:
        if self.error is not None:  # the graph of an only batch is kept, and the hook with it
            raise self.error


class Setting:
    """A model in the middle of its training, with mixed flags and hooks, and its objective with a trap in it."""

    def __init__(self, model: str, mode: str, batch_size: int = 5) -> None:
        p: Problem = problem(model)
        self.trap = Trap()
        self.model = nn.Sequential(p.model, self.trap)
        self.optimizer = torch.optim.Adam([q for q in self.model.parameters() if q.requires_grad], lr=1e-3)
        self.loader: DataLoader[Any] = DataLoader(
            TensorDataset(p.inputs, p.targets), batch_size, shuffle=True, generator=torch.Generator().manual_seed(4)
        )
        for x, y in self.loader:
            self.optimizer.zero_grad()
            p.loss(self.model(x), y).backward()
            self.optimizer.step()
        next(iter(p.model.parameters())).grad = None
        for i, module in enumerate(self.model.modules()):
            module.training = i % 2 == 0
        p.model.register_forward_hook(lambda *_: None)
        self.objective = ls.Objective(self.model, p.loss, self.loader, mode=mode)

    def unchanged(self) -> Any:
        return harmless(self.model, self.optimizer, self.loader)


def products(op: LinearOperator) -> list[torch.Tensor]:
    """Ask for the products of a block, of a vector and of the adjoint."""
    return [op @ block(op.shape[1]), op @ block(op.shape[1])[:, 0], op.T @ block(op.shape[0])]


MODELS = ["convolution", "attention", "mixture", "normalised", "dropped"]
SUCCESS = [
    (name, MODELS[(i + j) % len(MODELS)], ["eval", "train"][(i + j) % 2])
    for i, name in enumerate(OPERATORS)
    for j in (0, 1)
]


@pytest.mark.parametrize(("name", "model", "mode"), SUCCESS)
def test_success(name: str, model: str, mode: str) -> None:
    if OPERATORS[name].by_example and model == "convolution":
        mode = "eval"
    at = Setting(model, mode)
    with at.unchanged():
        products(OPERATORS[name].make(at.objective))


ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("the model failed"),
    "Ctrl-C": KeyboardInterrupt,
}


def _fails(op: LinearOperator, error: BaseException) -> bool:
    """Whether products end with ``error`` itself; another one goes through."""
    try:
        products(op)
    except type(error) as caught:
        if caught is not error:
            raise
        return True
    return False


@pytest.mark.parametrize("batch_size", [5, N], ids=["batches", "one batch"])
@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("name", OPERATORS)
def test_interrupted(name: str, way: int, batch_size: int) -> None:
    """Ctrl-C in the forward pass and an exception in the backward pass, or for every second operator the reverse."""
    error, backward = list(ERRORS)[(way + list(OPERATORS).index(name)) % 2], bool(way)
    make = OPERATORS[name].make
    at = Setting("convolution", "eval" if OPERATORS[name].by_example else "train", batch_size)
    expected = products(make(at.objective))
    raised = 0
    for passes in (1, 3, 7):  # in the checks before the first product, and in the middle of products
        op = make(at.objective)
        at.trap.set(ERRORS[error](), passes, backward=backward)
        with at.unchanged():
            raised += _fails(op, at.trap.error)
        at.trap.set(None, 0, backward=backward)
        for again, whole in zip(products(op), expected, strict=True):  # the operator goes on as if nothing had been
            assert torch.equal(again, whole)
    assert raised >= (0 if backward and "Jacobian" in name else 1)
