"""Operators of models that choose their layers or differentiate themselves, of half precision, of many columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.curvature import NTK, GradientCovariance, Jacobian
from landscape.curvature.columns import WIDTH, Columns
from landscape.errors import InputError

Tensor = torch.Tensor


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _seeded(make: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return make().double()


# -- experts that a batch may not choose ----------------------------------------------------------------


class Experts(nn.Module):
    """The sign of the first input chooses one of two layers; only what is chosen is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)])

    def forward(self, x: Tensor) -> Tensor:
        z = x.new_zeros(len(x), 2)
        for i, expert in enumerate(self.experts):
            rows = ((x[:, 0] > 0) == (i == 1)).nonzero()[:, 0] if i < 2 else x.new_zeros(0).long()
            if len(rows):
                z = z.index_put((rows,), expert(x[rows]))
        return z


CHOSEN = {
    "GGN": ls.GGN,
    "GGN, autograd": lambda o: ls.GGN(o, backend="autograd"),
    "GGN, batched": lambda o: ls.GGN(o, columns="batch"),
    "Fisher": ls.Fisher,
    "empirical": lambda o: ls.Fisher(o, kind="empirical"),
    "covariance": GradientCovariance,
    "Jacobian": Jacobian,
    "Jacobian, autograd": lambda o: Jacobian(o, backend="autograd"),
    "adjoint": lambda o: Jacobian(o).T,
    "NTK": NTK,
}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", CHOSEN)
def test_a_batch_that_does_not_use_the_parameters_adds_zero(name: str, first: int) -> None:
    model, x, y = _seeded(Experts), _drawn(9, 3), torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 0])
    without = x.clone()
    without[:, 0] = -without[:, 0].abs()
    data = [(x, y), (without, y)] if first == 0 else [(without, y), (x, y)]
    pooled = tuple(torch.cat(parts) for parts in zip(*data, strict=True))
    op, whole = (
        CHOSEN[name](ls.Objective(model, nn.CrossEntropyLoss(), d, params="experts.1.*")) for d in (data, pooled)
    )
    block = _drawn(op.shape[1], 3)
    expected = whole @ block
    assert float(expected.norm()) > 0
    assert float((op @ block - expected).norm()) <= 1e-12 * float(expected.norm())


@pytest.mark.parametrize("name", CHOSEN)
def test_parameters_that_no_batch_uses_are_refused(name: str) -> None:
    data = [(_drawn(4, 3), torch.tensor([0, 1, 0, 1]))] * 2
    op = CHOSEN[name](ls.Objective(_seeded(Experts), nn.CrossEntropyLoss(), data, params="experts.2.*"))
    with pytest.raises(InputError, match="does not depend on the selected parameters"):
        op @ torch.ones(op.shape[1])


# -- models that differentiate themselves -----------------------------------------------------------------


class Derivative(nn.Module):
    """The derivative of a network along its inputs, in dual numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        tangents: Tensor = torch.func.jvp(self.net, (x,), (torch.ones_like(x),))[1]
        return tangents


class Written(Derivative):
    """The same, written down."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.net[0](x))
        return ((1 - h**2) * self.net[0].weight.sum(1)) @ self.net[2].weight.T


@pytest.mark.parametrize("columns", ["loop", "batch", "auto"])
def test_models_with_dual_numbers_of_their_own(columns: str) -> None:
    model = _seeded(Derivative)
    other = Written().double()
    other.load_state_dict(model.state_dict())
    data = (_drawn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]))
    op = ls.GGN(ls.Objective(model, nn.CrossEntropyLoss(), data), columns=columns)
    block = _drawn(op.shape[0], 9)
    expected = ls.GGN(ls.Objective(other, nn.CrossEntropyLoss(), data)) @ block
    assert float((op @ block - expected).norm()) <= 1e-11 * float(expected.norm())
    if columns != "batch":  # torch.func has levels of them
        assert op.backend == "autograd"
        assert "dual numbers itself" in op.provenance()["backends that failed"]


# -- losses -------------------------------------------------------------------------------------------


def test_a_regularizer_that_is_constant_has_no_curvature() -> None:
    model, data = _seeded(lambda: nn.Linear(3, 2)), (_drawn(6, 3), _drawn(6, 2, seed=1))
    plain = ls.GGN(ls.Objective(model, nn.MSELoss(), data)).to_dense()
    for regularizer in (lambda p: torch.zeros(()), lambda p: p["weight"].detach().sum(), lambda p: p["bias"].sum()):
        found = ls.GGN(ls.Objective(model, nn.MSELoss(), data, regularizer=regularizer)).to_dense()
        assert torch.equal(found, plain)


def test_a_loss_function_may_look_at_the_layers() -> None:
    """What stands in for the model has its length and its items; one that calls the items is refused in words."""
    model = _seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    data = (_drawn(6, 3), _drawn(6, 2, seed=1))

    def looking(m: Any, batch: Any) -> tuple[Tensor, int]:
        kinds = {type(layer) for layer in m}
        assert kinds == {nn.Linear, nn.Tanh}
        return functional.mse_loss(m(batch[0]), batch[1]) * len(m) * m[0].in_features, batch[1].numel()

    def apart(m: Any, batch: Any) -> tuple[Tensor, int]:
        return functional.mse_loss(m[2](m[1](m[0](batch[0]))), batch[1]), batch[1].numel()

    v = _drawn(32)
    plain = 9 * (ls.GGN(ls.Objective(model, nn.MSELoss(), data)) @ v)
    assert float((ls.GGN(ls.Objective(model, looking, data)) @ v - plain).norm()) <= 1e-12 * float(plain.norm())
    with pytest.raises(InputError, match="calls it 0 times"):
        ls.GGN(ls.Objective(model, apart, data)) @ v


# -- half precision, many columns ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-8, 1e5, 1e8])
def test_products_in_half_precision_are_linear(size: float) -> None:
    model = _seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))).half()
    objective = ls.Objective(model, nn.CrossEntropyLoss(), (_drawn(6, 3).half(), torch.tensor([0, 1, 0, 1, 1, 0])))
    J, K = Jacobian(objective), NTK(objective)
    for op in (J, J.T, K):
        block = torch.stack([_drawn(op.shape[1]), size * _drawn(op.shape[1])], dim=1).float()
        one, scaled = (op @ block).T
        assert float((scaled / size - one).norm()) <= 3e-3 * float(one.norm())


@pytest.mark.parametrize("choice", ["batch", "auto"])
def test_columns_are_batched_a_few_at_a_time(choice: str) -> None:
    widths: list[int] = []

    def many(rows: Tensor) -> Tensor:
        widths.append(len(rows))
        return 2 * rows

    block = _drawn(5, 100)
    assert torch.equal(Columns(choice)(block, lambda v: 2 * v, many), 2 * block)
    assert max(widths) <= WIDTH
    assert choice == "auto" or sum(widths) == 100
