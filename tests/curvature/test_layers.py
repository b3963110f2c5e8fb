"""Layers whose derivatives torch treats in a way of its own, against the dense reference."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import landscape as ls
from tests.curvature.contract import block
from tests.curvature.operators import OPERATORS, agree
from tests.problems import SIZES, C, N, Problem
from tests.reference import Dense

Tensor = torch.Tensor
WIDTH = 4


class Pooled(nn.Module):
    """A layer over sequences, its mean, and a head."""

    def __init__(self, layer: nn.Module, width: int = WIDTH) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, C)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)
        return self.head(torch.tanh(found[0] if isinstance(found, tuple) else found).mean(1))


class Temperature(nn.Module):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.head = nn.Parameter(torch.tensor(0.7)), nn.Linear(WIDTH, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * self.log.exp()


def _head(*layers: nn.Module, width: int = 5) -> nn.Module:
    return nn.Sequential(*layers, nn.Linear(width, C))


def _normed(dim: int | None) -> nn.Module:
    return _head(parametrizations.weight_norm(nn.Linear(WIDTH, 5), dim=dim), nn.Tanh())


def _images() -> nn.Module:
    layers = nn.Conv2d(2, 3, 3), nn.SiLU(inplace=True), nn.MaxPool2d(2), nn.GroupNorm(1, 3), nn.Flatten()
    return _head(*layers, width=12).to(memory_format=torch.channels_last)


LAYERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "padding": (lambda: Pooled(nn.Embedding(7, WIDTH, padding_idx=0)), "tokens"),
    "padding at the end": (lambda: Pooled(nn.Embedding(7, WIDTH, padding_idx=-1)), "tokens"),
    "sparse gradients": (lambda: Pooled(nn.Embedding(7, WIDTH, sparse=True)), "tokens"),
    "encoder": (lambda: Pooled(nn.TransformerEncoderLayer(WIDTH, 2, 6, batch_first=True)), "sequences"),
    "LSTM": (lambda: Pooled(nn.LSTM(WIDTH, 2, 2, batch_first=True, dropout=0.2, bidirectional=True)), "sequences"),
    "scalar": (Temperature, "rows"),
    "orthogonal": (lambda: _head(parametrizations.orthogonal(nn.Linear(WIDTH, 5)), nn.Tanh()), "rows"),
    "weight norm of columns": (lambda: _normed(1), "rows"),
    "weight norm of all": (lambda: _normed(None), "rows"),
    "images, channels last": (_images, "images"),
}
MISSING = {("Hessian, forward", "images, channels last")}  # torch has no dual numbers of the in-place SiLU's gradient
USUAL = ("Hessian, autograd", "Hessian, forward", "GGN, forward", "GGN, forward, batched", "GradientCovariance",
         "Jacobian")  # fmt: skip


def made(layer: str) -> Problem:
    g = torch.Generator().manual_seed(5)
    inputs = {
        "tokens": torch.randint(0, 7, (N, WIDTH), generator=g),
        "sequences": torch.randn(N, 3, WIDTH, generator=g, dtype=torch.float64),
        "rows": torch.randn(N, WIDTH, generator=g, dtype=torch.float64),
        "images": torch.randn(N, 2, 6, 6, generator=g, dtype=torch.float64),
    }
    make, kind = LAYERS[layer]
    torch.manual_seed(1)
    return Problem(make().double(), nn.CrossEntropyLoss(), inputs[kind], torch.randint(0, C, (N,), generator=g))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", USUAL)
def test_layer(name: str, layer: str) -> None:
    p = made(layer)
    op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(), mode="train"))
    V = block(op.shape[1])
    if (name, layer) in MISSING:
        with pytest.raises(ls.errors.InputError, match="needs a derivative that torch does not have"):
            op @ V
        return
    dense = Dense(_dense_gradients(p), train=True, sizes=SIZES)
    agree(op, op @ V, OPERATORS[name].expected(dense, V), 1e-11)


def _dense_gradients(p: Problem) -> Problem:
    p = copy.deepcopy(p)
    for module in p.model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False  # the reference's loops know no sparse tensors
    return p
