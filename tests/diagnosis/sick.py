"""Objectives that something is wrong with, by the check that finds it, and ones that nothing is wrong with."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from tests.problems import OWN, Problem, problem

Tensor = torch.Tensor


# -- models ---------------------------------------------------------------------------------------


class Applied(nn.Module):
    """Applies a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Short(Function):
    """A square with the right gradient, whose derivative leaves out that of the factor: symmetric, and too small."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * g


class Skew(Function):
    """A softplus with the right gradient, and a second derivative that is not symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return functional.softplus(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x.detach() + 0.1 * (x - x.detach()).cumsum(-1))


class Once(Function):
    """A square that is marked as differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Fresh(nn.Module):
    """Draws from Python's generator."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.1 * random.random())


class Growing(nn.Module):
    """Keeps a state in ``state``, by which its outputs grow with every call: by less than the rounding of float32."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state + 1
        return x * (1 + 1e-5 * self.state)


class Owner(nn.Module):
    """Draws from a generator that it owns."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 1e-5 * torch.rand((), generator=self.generator))


class Drawing(nn.Module):
    """Draws from torch's generator in every mode, as dropout that is switched on by hand does."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)


def with_layer(function: Callable[[Tensor], Tensor] | nn.Module, loss: str = "cross-entropy") -> Problem:
    """The MLP with another first activation."""
    p = problem("mlp", loss)
    p.model[1] = function if isinstance(function, nn.Module) else Applied(function)
    return p


def of(p: Problem, batches: Any = None, **options: Any) -> ls.Objective:
    return ls.Objective(p.model, p.loss, p.batches() if batches is None else batches, **options)


# -- data -----------------------------------------------------------------------------------------


class Stream:
    """Other examples with each reading."""

    def __init__(self, p: Problem) -> None:
        self.p = p

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.p.inputs + random.SystemRandom().random(), self.p.targets


def _noisy(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    noise = random.SystemRandom().random()
    return torch.stack([x for x, _ in rows]) + noise, torch.stack([y for _, y in rows])


def _augmented() -> ls.Objective:
    p = problem("mlp")
    return of(p, DataLoader(TensorDataset(p.inputs, p.targets), batch_size=8, collate_fn=_noisy))


def _with_nan() -> ls.Objective:
    p = problem("mlp")
    p.inputs[9, 2] = float("nan")
    return of(p)


def _diverged() -> ls.Objective:
    p = problem("mlp")
    with torch.no_grad():
        p.model[2].bias[0] = float("inf")
    return of(p)


def _root() -> ls.Objective:
    p = problem("mlp", "square")
    return of(Problem(p.model, lambda m, b: (((m(b[0]).detach() - m(b[0])) ** 2).sum().sqrt(), 1), p.inputs, p.targets))


def _misfit() -> ls.Objective:
    p = problem("mlp")
    return ls.Objective(p.model, p.loss, [(p.inputs[:, :3], p.targets)])


def _own_error(model: nn.Module, batch: Any) -> Tensor:
    raise KeyError("labels")


def _ignored() -> ls.Objective:
    p = problem("mlp", "cross-entropy, ignore_index")
    return ls.Objective(p.model, p.loss, [(p.inputs, torch.full_like(p.targets, -100))])


def _detached() -> ls.Objective:
    p = problem("mlp")
    return ls.Objective(p.model, lambda m, b: (functional.cross_entropy(m(b[0]).detach(), b[1]), 1), p.batches())


def _saturated() -> ls.Objective:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 3), torch.randn(12, 4)
    with torch.no_grad():
        model.weight.mul_(6000), model.bias.mul_(6000)
    return ls.Objective(model, nn.CrossEntropyLoss(), [(x, model(x).argmax(1))])


# -- weights --------------------------------------------------------------------------------------


def _token_mean(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """A mean over counted labels that is weighed by examples."""
    x, y = batch
    return functional.cross_entropy(model(x), y), len(x)


def _miscounted() -> ls.Objective:
    p = problem("tied", "cross-entropy, ignore_index")
    order = p.targets.argsort()
    return ls.Objective(p.model, _token_mean, [(p.inputs[order], p.targets[order])])


def _contrastive(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    z = functional.normalize(model(batch[0]), dim=1)
    return functional.cross_entropy(5 * z @ z.T, torch.arange(len(z))), len(z)


def _drawn(size: float) -> ls.Objective:
    """A loss with random numbers, which are the same each time: torch's generator is seeded for each batch."""
    p = problem("mlp")

    def drawn(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        return functional.cross_entropy(model(batch[0]), batch[1]) * (1 + size * torch.rand(())), len(batch[0])

    return ls.Objective(p.model, drawn, p.batches())


def _batch_statistics() -> ls.Objective:
    p = problem("convolution")
    p.model[1] = nn.BatchNorm2d(2, track_running_stats=False).double()
    return of(p)


# -- parameters, modes, products --------------------------------------------------------------------


def _at_kinks() -> ls.Objective:
    """Some inputs are zero, as padding is, and so are the biases: derivatives by these depend on the side."""
    p = with_layer(nn.ReLU())
    p.inputs[:8] = 0
    with torch.no_grad():
        p.model[0].bias.zero_()
    return of(p)


def _dead() -> ls.Objective:
    p = with_layer(nn.ReLU())
    with torch.no_grad():
        p.model[0].bias.fill_(-1e3)
    return of(p)


def _untrained() -> ls.Objective:
    p = problem("convolution")
    p.model[1].num_batches_tracked.zero_()
    return of(p)


def _trained_norm(mode: str) -> ls.Objective:
    p = problem("convolution")
    p.model[1].num_batches_tracked.fill_(100)
    return of(p, mode=mode)


def _in_bfloat16() -> ls.Objective:
    p = problem("mlp")
    return ls.Objective(p.model.bfloat16(), p.loss, [(p.inputs.bfloat16(), p.targets)])


def _linear() -> ls.Objective:
    p = problem("linear", "square")
    return ls.Objective(p.model, lambda m, b: (m(b[0]).sum(1).mean(), len(b[0])), p.batches())


@dataclass(frozen=True)
class Case:
    """An objective, and what its check must say."""

    make: Callable[[], ls.Objective]
    verdict: str
    words: str
    operator: Callable[[ls.Objective], Any] = ls.Hessian


#: check -> what it finds. Every check has at least one.
SICK: dict[str, dict[str, Case]] = {
    "data": {
        "augmentation in the collation": Case(_augmented, "warning", "other examples: numbers are of the one draw"),
        "a stream": Case(lambda: of(problem("mlp"), Stream(problem("mlp"))), "warning", "other examples"),
    },
    "loss": {
        "NaN in the data": Case(_with_nan, "fail", "the loss is nan, because of batch 1 of 3"),
        "diverged parameters": Case(_diverged, "fail", r"2\.bias holds NaN or infinity"),
        "a norm at zero": Case(_root, "fail", r"gradient is not finite in 0\.weight"),
        "inputs that do not fit": Case(_misfit, "fail", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        "an error of its own": Case(
            lambda: ls.Objective(nn.Linear(2, 2), _own_error, [(torch.ones(3, 2),)]),
            "fail",
            "^KeyError: 'labels'",
        ),
        "all labels ignored": Case(_ignored, "fail", "the data hold no counted label"),
        "no graph": Case(_detached, "fail", "the loss does not depend on the selected parameters"),
        "saturated": Case(_saturated, "warning", "zero to rounding"),
    },
    "determinism": {
        "Python's generator": Case(
            lambda: of(with_layer(Fresh())), "fail", "at fault is Fresh '1'.* passes change the state of Python's gener"
        ),
        "NumPy's generator": Case(
            lambda: of(with_layer(lambda x: x * (1 + 1e-5 * np.random.rand()))),  # noqa: NPY002
            "fail",
            "passes change the state of NumPy's generator$",
        ),
        "a generator of its own": Case(
            lambda: of(with_layer(Owner())), "fail", "at fault is Owner '1'.* passes change 'generator' of Owner '1'$"
        ),
        "a count": Case(
            lambda: of(with_layer(Growing(0)).to(torch.float32)),
            "fail",
            "at fault is Growing '1'.* passes change 'state' of Growing '1'$",
        ),
        "a state that is a tensor": Case(
            lambda: of(with_layer(Growing(torch.zeros(())))), "fail", "passes change 'state' of Growing '1'$"
        ),
        "random numbers in the loss": Case(
            lambda: _drawn(1.0), "warning", "the random numbers that the loss function drawn draws: fixed by seed 0"
        ),
        "random numbers in eval mode": Case(
            lambda: of(with_layer(Drawing())), "warning", "the random numbers that Drawing '1' draws: fixed by seed 0"
        ),
    },
    "weights": {
        "a mean over labels weighed by examples": Case(_miscounted, "fail", r"change by [\d.]+%"),
        "examples that act on each other": Case(
            lambda: ls.Objective(problem("mlp").model, _contrastive, [problem("mlp").batches(16)[0]]),
            "fail",
            r"16 examples; value or gradient change by [\d.]+%",
        ),
        "batch statistics in eval mode": Case(_batch_statistics, "warning", "1 uses the statistics of a batch"),
        "batch statistics in train mode": Case(
            lambda: _trained_norm("train"), "warning", "1 uses the statistics of a batch"
        ),
        "dropout in train mode": Case(
            lambda: of(problem("dropped"), mode="train"),
            "warning",
            r"Dropout '\d' draws random numbers, which belong to whole batches",
        ),
        "random numbers in the loss": Case(
            lambda: _drawn(1.0), "warning", "the loss function drawn draws random numbers, which belong to whole"
        ),
        "few random numbers in the loss": Case(
            lambda: _drawn(1e-4),
            "warning",
            r"change by \d\.\de-05 when .* the loss function drawn draws random numbers",
        ),
    },
    "parameters": {
        "a layer that is not used": Case(
            lambda: of(problem("partial")), "warning", r"unused\.weight, unused\.bias are not used by the loss"
        ),
        "dead units": Case(_dead, "warning", r"0\.weight, 0\.bias, 2\.weight have a gradient of exactly zero"),
    },
    "modes": {
        "statistics of a new layer": Case(_untrained, "warning", "running statistics of '1' are those of a new layer"),
    },
    "backend": {
        "differentiable once": Case(
            lambda: of(with_layer(Once.apply)), "warning", r"by difference .* given up: autograd: no derivative of Once"
        ),
        "no second derivative": Case(lambda: of(problem("mlp", "margin")), "warning", "multi_margin_loss_backward"),
        "none that works": Case(
            lambda: of(problem("mlp", "margin")),
            "fail",
            "the autograd backend needs a derivative that torch does not have",
            partial(ls.Hessian, backend="autograd"),
        ),
        "an operator that is not defined": Case(
            lambda: of(problem("mlp", "margin")), "fail", "this Fisher information needs a loss", ls.Fisher
        ),
    },
    "symmetry": {
        "a second derivative that is not symmetric": Case(
            lambda: of(with_layer(Skew.apply)), "fail", r"differ by [\d.]+% in 0\.weight, 0\.bias"
        ),
    },
    "differences": {
        "a backward that leaves out a term": Case(
            lambda: of(with_layer(Short.apply)),
            "fail",
            r"off by [\d.]+% from central differences of the gradient, most in .*0\.weight.*; a second step confirms",
        ),
        "units at their kink": Case(_at_kinks, "warning", "nothing could be compared: central differences cannot"),
    },
    "pyhessian": {
        "a layer that pyhessian is wrong on": Case(
            lambda: of(problem("normalised")), "warning", r"differ from pyhessian's by [\d.]+%.*not with pyhessian's"
        ),
    },
    "precision": {
        "16 bits": Case(_in_bfloat16, "warning", "bfloat16 products against float64"),
        "saturated": Case(_saturated, "fail", "hardly a digit is right"),
        "no curvature": Case(_linear, "warning", "all products are zero"),
    },
    "cost": {
        "longer than an hour": Case(lambda: of(problem("mlp")), "warning", "100 products: about"),
    },
}


def _pooled() -> Problem:
    p = problem("mlp")
    layers = nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 8, 2), nn.MaxPool1d(3), nn.Flatten(), nn.Linear(8, 3)
    return Problem(nn.Sequential(*layers).double(), p.loss, p.inputs, p.targets)


def _normed(examples: int) -> ls.Objective:
    """Batch statistics of a vector of features, which one example has none of."""
    p = problem("mlp")
    p.model[1] = nn.BatchNorm1d(p.model[0].out_features).double()
    p.model[1].num_batches_tracked.fill_(100)
    return of(p, [(p.inputs[:examples], p.targets[:examples])], mode="train")


def _of_unequal_lengths() -> list[tuple[Tensor, Tensor]]:
    return [(x[:, : 2 + i % 2], y) for i, (x, y) in enumerate(problem("recurrent").batches())]


#: objectives on which no check may fail, and those that only a check named here may warn of
HEALTHY: dict[str, tuple[Callable[[], ls.Objective], set[str]]] = {
    **{
        name: (lambda name=name: of(problem(name)), set())
        for name in ("linear", "mlp", "tied", "recurrent", "attention", "gpt", "mixture", "adapted", "dropped")
    },
    **{
        loss: (lambda loss=loss: of(problem("mlp", loss)), set())
        for loss in (
            "cross-entropy, all at once",
            "cross-entropy, sum",
            "function cross_entropy",
            "square",
            "huber",
            "binary, logits",
            "poisson",
            "custom, weighted",
        )
    },
    "custom": (lambda: of(problem("mlp", "custom"), problem("mlp", "custom").batches(8)), set()),
    "language model": (lambda: of(problem("language model", OWN)), set()),
    "segmentation": (lambda: of(problem("segmentation", OWN)), set()),
    "frozen and unused": (lambda: of(problem("partial")), {"parameters"}),
    "batch norm": (lambda: _trained_norm("eval"), set()),
    "batch norm, train mode": (lambda: _trained_norm("train"), {"weights"}),
    "batch norm of features, train mode": (lambda: _normed(16), {"weights"}),
    "batch norm of features, 4 examples": (lambda: _normed(4), {"weights"}),
    "batch norm of features, 3 examples": (lambda: _normed(3), set()),
    "weight norm": (lambda: of(problem("normalised")), {"pyhessian"}),
    "ReLU": (lambda: of(with_layer(nn.ReLU())), set()),
    "max-pooling": (lambda: of(_pooled()), set()),
    "float32": (lambda: of(problem("mlp").to(torch.float32)), set()),
    "float32, ReLU": (lambda: of(with_layer(nn.ReLU()).to(torch.float32)), set()),
    "regularized": (lambda: of(problem("mlp"), regularizer=0.1), set()),
    "some parameters": (lambda: of(problem("mlp"), params="2.*"), set()),
    "batches of one": (lambda: of(problem("mlp"), problem("mlp").batches(1)), set()),
    "a dictionary": (
        lambda: ls.Objective(
            problem("mlp").model,
            lambda m, b: (functional.cross_entropy(m(b["x"]), b["y"]), len(b["y"])),
            [{"x": x, "y": y} for x, y in problem("mlp").batches()],
        ),
        set(),
    ),
    "unequal lengths": (lambda: of(problem("recurrent"), _of_unequal_lengths()), set()),
}
