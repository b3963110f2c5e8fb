"""The columns of a block: one after another or all at once, with the same numbers either way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import Function

import landscape as ls
from landscape.curvature.columns import Columns
from tests.curvature.contract import block
from tests.networks import Applied
from tests.problems import SIZES, Problem, problem
from tests.reference import close

Tensor = torch.Tensor
EXACT = ("autograd", "forward")


def objective(p: Problem, sizes: Any = SIZES, **options: Any) -> ls.Objective:
    return ls.Objective(p.model, p.loss, p.batches(sizes), **options)


@pytest.mark.parametrize("backend", EXACT)
def test_ways_of_multiplying_columns_agree(backend: str) -> None:
    p = problem("recurrent")
    V = block(objective(p).space.n, 12)
    found = {how: ls.Hessian(objective(p), backend=backend, columns=how) for how in ("loop", "batch", "auto")}
    expected = found["loop"] @ V
    for H in found.values():
        for _ in range(2):  # of "auto" the first block is the trial
            close(H @ V, expected, 1e-12)
    assert "column" not in found["loop"].provenance()["backend"]
    assert "columns batched" in found["batch"].provenance()["backend"]
    assert "batching is" in found["auto"].provenance()["backend"]


class Clock:
    """Products that take as long as they are told, and a clock that shows it."""

    def __init__(self, one: float, many: float) -> None:
        self.one_takes, self.many_takes, self.now = one, many, 0.0
        self.calls: list[int] = []

    def one(self, v: Tensor) -> Tensor:
        self.now += self.one_takes
        self.calls.append(1)
        return 2 * v

    def many(self, vs: Tensor) -> Tensor:
        self.now += self.many_takes
        self.calls.append(len(vs))
        return 2 * vs


@pytest.mark.parametrize(("many", "later"), [(1.0, [16]), (10.0, [1] * 16)])
def test_the_trial_decides(many: float, later: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, columns, V = Clock(1.0, many), Columns(), block(5, 16)
    monkeypatch.setattr("landscape.curvature.columns.time.perf_counter", lambda: clock.now)
    assert torch.equal(columns(V[:, :7], clock.one, clock.many), 2 * V[:, :7])  # too few for a trial
    assert clock.calls == [1] * 7
    assert torch.equal(columns(V, clock.one, clock.many), 2 * V)
    assert columns.words.startswith("columns batched" if later == [16] else "columns looped")
    clock.calls.clear()
    assert torch.equal(columns(V, clock.one, clock.many), 2 * V)
    assert clock.calls == later


def test_a_loss_that_torch_cannot_batch_is_looped() -> None:
    p = problem("mlp")

    def by_value(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        x, y = batch
        return nn.functional.cross_entropy(model(x), y), len(y)

    class Branch(Function):
        """A derivative that looks at the values of what comes in, as vmap does not allow."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g if float(g.detach().sum()) < 1e9 else 0 * g

    p.model.append(Applied(Branch.apply))
    H = ls.Hessian(ls.Objective(p.model, by_value, p.batches()), backend="autograd")
    plain = ls.Hessian(objective(problem("mlp")))
    V = block(H.shape[0], 9)
    close(H @ V, plain @ V, 1e-12)
    assert "columns looped: torch cannot batch this loss" in H.provenance()["backend"]


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("make", [ls.Hessian, ls.GGN], ids=["Hessian", "GGN"])
def test_deterministic_algorithms_choose_by_no_clock(make: Any) -> None:
    p = problem("mlp").to(torch.float32)
    op = make(objective(p))
    V = block(op.shape[0], 12, torch.float32)
    assert torch.equal(op @ V, op @ V)
    assert torch.equal(op @ V, make(objective(p), columns="loop") @ V)
    assert "batching" not in op.provenance()["backend"]


def test_an_unknown_way() -> None:
    with pytest.raises(ls.errors.InputError, match="columns must be 'auto', 'loop' or 'batch'"):
        ls.Hessian(objective(problem()), columns="all")


@pytest.mark.parametrize("make", [ls.Hessian, ls.GGN])
@pytest.mark.parametrize("backend", EXACT)
def test_columns_of_a_loss_that_draws_have_the_same_masks(make: Any, backend: str) -> None:
    """Under torch.func dropout draws other numbers: batched columns would be of another loss."""
    p = problem("dropped")
    looped, batched = (make(objective(p, mode="train"), backend=backend, columns=how) for how in ("loop", "batch"))
    V = block(looped.shape[0], 4)
    close(batched @ V, looped @ V, 1e-12)
    again = make(objective(p, mode="train"), columns="batch")
    close(again @ V, looped @ V, 1e-12)
