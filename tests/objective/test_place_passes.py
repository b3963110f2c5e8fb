"""Models that compute parts twice, or compile them: derivatives are of the point that was asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import landscape as ls
from tests.harmless import harmless
from tests.problems import N, problem
from tests.reference import close, truth


class Checkpointed(nn.Module):
    """The layers of a model, some of them under activation checkpointing."""

    def __init__(self, layers: nn.Sequential, run: Callable[[nn.Sequential, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layers, self.run = layers, run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[2:](self.run(self.layers[:2], x))


RUNS: dict[str, Any] = {
    "not reentrant": lambda part, x: checkpoint(part, x, use_reentrant=False),
    "reentrant": lambda part, x: checkpoint(part, x, use_reentrant=True),
    "without random state": lambda part, x: checkpoint(part, x, use_reentrant=False, preserve_rng_state=False),
    "in sequence": lambda part, x: checkpoint_sequential(part, 2, x, use_reentrant=False),
}


@pytest.mark.parametrize("sizes", [(7, 6, 3), (N,)], ids=["batches", "one batch"])
@pytest.mark.parametrize("run", RUNS)
def test_checkpoints_at_another_point(run: str, sizes: tuple[int, ...]) -> None:
    p = problem("mlp")
    expected = ls.Objective(p.model, p.loss, p.batches(sizes))
    model = Checkpointed(p.model, RUNS[run])
    before = {name: getattr(torch_checkpoint, name) for name in dir(torch_checkpoint)}
    objective = ls.Objective(model, p.loss, p.batches(sizes))
    at = objective.vector() + 0.3
    v = torch.ones(objective.space.n, dtype=torch.float64)
    with harmless(p.model):
        H = ls.Hessian(objective, at=at)
        close(objective.gradient(at), expected.gradient(at), 1e-12)
        for _ in range(2):
            close(H @ v, ls.Hessian(expected, at=at) @ v, 1e-12)
    assert before == {name: getattr(torch_checkpoint, name) for name in dir(torch_checkpoint)}


def test_an_operator_stays_at_its_point_while_training_goes_on() -> None:
    p = problem("mlp")
    model = Checkpointed(p.model, RUNS["not reentrant"])
    H = ls.Hessian(ls.Objective(model, p.loss, p.batches(N)))
    v = torch.ones(H.space.n, dtype=torch.float64)
    before = H @ v
    with torch.no_grad():
        for q in p.model.parameters():
            q.add_(0.5)
    assert torch.equal(H @ v, before)


def test_a_failing_checkpoint_raises_its_own_error() -> None:
    def broken(part: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        def inner(x: torch.Tensor) -> torch.Tensor:
            raise OSError("lost")

        return checkpoint(inner, x, use_reentrant=False)

    p = problem("mlp")
    before = torch_checkpoint._checkpoint_without_reentrant_generator
    with harmless(p.model), pytest.raises(OSError, match="lost"):
        ls.Objective(Checkpointed(p.model, broken), p.loss, p.batches()).gradient()
    assert torch_checkpoint._checkpoint_without_reentrant_generator is before


def test_training_with_checkpoints_goes_on_as_before() -> None:
    """Between questions a checkpoint is a checkpoint: its part runs again in the backward pass."""
    p = problem("mlp")
    calls = 0

    def counted(part: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        def inner(x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return part(x)

        return checkpoint(inner, x, use_reentrant=False)

    model = Checkpointed(p.model, counted)
    ls.Objective(model, p.loss, p.batches(N)).gradient()
    assert calls == 1
    p.loss(model(p.inputs), p.targets).backward()
    assert calls == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("how", ["module", "in place"])
def test_compiled_parts(how: str) -> None:
    p = problem("mlp")
    expected = truth(p)
    if how == "module":
        p.model[2] = torch.compile(p.model[2], backend="aot_eager")
    else:
        p.model[2].compile(backend="aot_eager")
    assert "torch._dynamo" in sys.modules
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, p.batches())
        close(objective.gradient(), expected.gradient, 1e-12)
        close(ls.Hessian(objective).to_dense(), expected.hessian, 1e-12)
