"""Asking changes nothing: not on success, not after an exception, not after Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from tests.harmless import harmless, snapshot
from tests.problems import MODELS, Problem, problem


def trained(model: str) -> tuple[Problem, torch.optim.Optimizer, DataLoader[Any]]:
    """A model in the middle of its training: gradients on some parameters, an optimizer with moments, mixed flags."""
    p = problem(model)
    optimizer = torch.optim.Adam([q for q in p.model.parameters() if q.requires_grad], lr=1e-3)
    loader = DataLoader(
        TensorDataset(p.inputs, p.targets), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(4)
    )
    p.model.train()
    for x, y in loader:
        optimizer.zero_grad()
        p.loss(p.model(x), y).backward()
        optimizer.step()
    next(iter(p.model.parameters())).grad = None
    for i, module in enumerate(p.model.modules()):
        module.training = i % 2 == 0
    p.model.register_forward_hook(lambda *_: None)
    return p, optimizer, loader


QUESTIONS: dict[str, Callable[[ls.Objective, Any], Any]] = {
    "value": lambda o, opt: o.value(),
    "metrics": lambda o, opt: o.evaluate(("loss", "accuracy")),
    "gradient": lambda o, opt: o.gradient(),
    "product": lambda o, opt: ls.Hessian(o) @ torch.ones(o.space.n),
    "two products": lambda o, opt: [H @ torch.ones(o.space.n) for H in [ls.Hessian(o)] * 2],
    "elsewhere": lambda o, opt: ls.Hessian(o, at=o.vector() * 2).to_scipy() @ torch.ones(o.space.n).numpy(),
    "preconditioned": lambda o, opt: ls.preconditioned(ls.Hessian(o), opt) @ torch.ones(o.space.n),
    "subsample": lambda o, opt: o.subsample(4).value(),
    "classes": lambda o, opt: [c.value() for c in o.by_class().values()] if o.mode == "eval" else o.weight(),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("model", MODELS)
def test_success(model: str, mode: str) -> None:
    p, optimizer, loader = trained(model)
    with harmless(p.model, optimizer, loader):
        for ask in QUESTIONS.values():
            ask(ls.Objective(p.model, p.loss, loader, mode=mode), optimizer)


class Stop(nn.Module):
    """A layer that raises at its n-th call."""

    def __init__(self, error: BaseException, calls: int) -> None:
        super().__init__()
        self.error, self.calls = error, calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls == 0:
            raise self.error
        return x


@pytest.mark.parametrize("error", [RuntimeError("the loss failed"), KeyboardInterrupt()], ids=["exception", "Ctrl-C"])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_interrupted(question: str, mode: str, error: BaseException) -> None:
    p, optimizer, loader = trained("convolution")
    expected = QUESTIONS[question](ls.Objective(p.model, p.loss, loader, mode=mode), optimizer)
    for calls in (1, 3, 6):  # in the first pass and in a later one
        stop = Stop(error, calls)
        model = nn.Sequential(p.model, stop)
        model.training = False
        objective = ls.Objective(model, p.loss, loader, mode=mode)
        before = snapshot(p.model, optimizer, loader)
        raised = None
        try:
            QUESTIONS[question](objective, optimizer)
        except type(error) as caught:
            raised = caught
        assert raised is error or (raised is None and calls > 1)
        after = snapshot(p.model, optimizer, loader)
        assert before == after
        assert not model.training
        stop.calls = -1
        again = QUESTIONS[question](objective, optimizer)  # the same objective still works, and gives the same
        for a, b in zip(_tensors(expected), _tensors(again), strict=True):
            assert torch.equal(a, b)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return list(value.values())
    return [torch.as_tensor(v) for v in value] if isinstance(value, list) else [torch.as_tensor(value)]


def test_an_error_of_the_loss_is_not_hidden() -> None:
    p = problem("linear")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ls.Objective(p.model, p.loss, [(p.inputs[:, :2], p.targets)]).value()


def test_training_goes_on_as_if_nothing_had_been_asked() -> None:
    """Two runs with dropout, batch norm and a shuffling loader that the objective shares; one is asked each step."""
    final = []
    for asked in (False, True):
        torch.manual_seed(7)
        p = problem("convolution")
        model = nn.Sequential(nn.Dropout(0.3), p.model).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = DataLoader(TensorDataset(p.inputs, p.targets), batch_size=5, shuffle=True)
        objectives = [ls.Objective(model, p.loss, loader, mode=mode) for mode in ("eval", "train")]
        for _ in range(3):
            for x, y in loader:
                optimizer.zero_grad()
                p.loss(model(x), y).backward()
                if asked:
                    for objective in objectives:
                        H = ls.Hessian(objective)
                        ls.preconditioned(H, optimizer) @ torch.ones(objective.space.n)
                optimizer.step()
        final.append(snapshot(model, optimizer))
    assert final[0].keys() == final[1].keys()
    for key, value in final[0].items():
        if key == "rng torch" or key.startswith(("buffer", "parameter", "grad ")):
            a, b = (
                [x for x in v if not isinstance(x, int)] if isinstance(v, tuple) else v for v in (value, final[1][key])
            )
            assert a == b, key
    assert final[0]["optimizer"] == final[1]["optimizer"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_persistent_workers_of_the_training_loop_are_left_alone() -> None:
    p = problem("linear")
    loader = DataLoader(
        TensorDataset(p.inputs, p.targets),
        batch_size=5,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    seen = 0
    for x, _ in loader:
        if seen == 0:
            ls.Objective(p.model, p.loss, loader).value()
        seen += len(x)
    assert seen == len(p.inputs)


def test_the_guard_itself_notices() -> None:
    p, optimizer, loader = trained("convolution")
    changes: dict[str, Callable[[], Any]] = {
        "parameter": lambda: next(p.model.parameters()).data.add_(1),
        "grad": lambda: list(p.model.parameters())[1].grad.zero_(),
        "buffer": lambda: next(p.model.buffers()).add_(1),
        "training": lambda: p.model[0].train(not p.model[0].training),
        "rng torch": lambda: torch.rand(1),
        "optimizer": lambda: next(iter(optimizer.state.values()))["exp_avg"].add_(1),
        "generator": lambda: loader.generator.manual_seed(99),
        "hooks": lambda: p.model.register_forward_hook(lambda *_: None),
    }
    for name, change in changes.items():
        with pytest.raises(AssertionError, match=name), harmless(p.model, optimizer, loader):
            change()
