"""Operators made of single examples, where outputs do not lead with examples, weights vanish, or examples act together.

Each truth is a loop over the examples: their own losses, differentiated one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.curvature import GradientCovariance
from landscape.errors import InputError

Tensor = torch.Tensor
TIME, N, C = 6, 4, 5


def _made(*modules: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(3)
    model = nn.Sequential(*modules).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * 0.7)
    return model


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gradients(model: nn.Module, losses: Iterable[Tensor]) -> Tensor:
    """Return the gradients of ``losses`` by the model's parameters, as rows."""
    return torch.stack(
        [torch.cat([g.reshape(-1) for g in torch.autograd.grad(l, list(model.parameters()))]) for l in losses]
    )


def _covariance(g: Tensor, w: Tensor) -> Tensor:
    centred = g - w @ g / w.sum()
    return centred.T @ (w[:, None] * centred) / w.sum()


def _close(found: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())


# -- CTC: (time, examples, classes) -------------------------------------------------------------------


class Sequences(nn.Module):
    """Log-probabilities by time of inputs (examples, time, 3), or of inputs (time, examples, 3)."""

    def __init__(self, by_time: bool) -> None:
        super().__init__()
        self.layer, self.by_time = nn.Linear(3, C), by_time

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x).log_softmax(-1)
        return z if self.by_time else z.transpose(0, 1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("in_one_row", [False, True])
def test_ctc_has_its_examples_second(reduction: str, by_time: bool, in_one_row: bool) -> None:
    model, criterion = _made(Sequences(by_time)), nn.CTCLoss(reduction=reduction)
    lengths, steps = torch.tensor([2, 1, 2, 1]), torch.full((N,), TIME)
    labels = torch.tensor([[1, 2], [3, 1], [4, 2], [2, 1]])
    x = _drawn(*((TIME, N, 3) if by_time else (N, TIME, 3)))
    given = torch.cat([row[:n] for row, n in zip(labels, lengths, strict=True)]) if in_one_row else labels
    objective = ls.Objective(model, criterion, (x, given, steps, lengths))
    each = [
        criterion(model(x[:, i : i + 1] if by_time else x[i : i + 1]), labels[i : i + 1], steps[:1], lengths[i : i + 1])
        for i in range(N)
    ]
    g, w = _gradients(model, each), torch.ones(N, dtype=torch.float64)
    _close(objective.gradient(), g.mean(0) if reduction == "mean" else g.sum(0))
    _close(GradientCovariance(objective).to_dense(), _covariance(g, w))
    _close(ls.Fisher(objective, kind="empirical").to_dense(), g.T @ g / (N if reduction == "mean" else 1))


# -- what has no examples -----------------------------------------------------------------------------


def contrastive(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    z = functional.normalize(model(batch[0]), dim=1)
    return functional.cross_entropy(3 * z @ z.T, torch.arange(len(z))), len(z)


def timed(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """The model's outputs are (time, examples, classes), with as many steps as a multiple of the examples."""
    z = model(batch[0])
    return functional.mse_loss(z, batch[1].transpose(0, 1)), z.numel()


class ByTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).transpose(0, 1)


class FlatByTime(ByTime):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(0, 1)


def flat_timed(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    z = model(batch[0])
    return functional.mse_loss(z, batch[1].transpose(0, 1).flatten(0, 1)), z.numel()


class LastOfTime(nn.Module):
    """A recurrent network over inputs (time, examples, 3), whose outputs lead with the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


class Mixing(nn.Module):
    """Examples attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x)
        return (z @ z.T).softmax(-1) @ z


WITHOUT: dict[str, Callable[[], tuple[nn.Module, Any, Any]]] = {
    "in-batch contrast": lambda: (_made(nn.Linear(3, 4)), contrastive, (_drawn(6, 3),)),
    "time first": lambda: (_made(ByTime()), timed, (_drawn(3, 6, 3), _drawn(3, 6, 2))),
    "time first, flat": lambda: (_made(FlatByTime()), flat_timed, (_drawn(3, 6, 3), _drawn(3, 6, 2))),
    "inputs by time": lambda: (_made(LastOfTime()), nn.MSELoss(), (_drawn(4, 6, 3), _drawn(6, 2))),
    "inputs by time, a divisor": lambda: (_made(LastOfTime()), nn.MSELoss(), (_drawn(3, 6, 3), _drawn(6, 2))),
    "inputs by time, as many": lambda: (_made(LastOfTime()), nn.MSELoss(), (_drawn(6, 6, 3), _drawn(6, 2))),
    "attention across examples": lambda: (_made(Mixing()), nn.MSELoss(), (_drawn(6, 3), _drawn(6, 2))),
}


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("kind", ["covariance", "empirical"])
def test_what_has_no_examples_is_refused(name: str, kind: str) -> None:
    objective = ls.Objective(*WITHOUT[name]())
    op = GradientCovariance(objective) if kind == "covariance" else ls.Fisher(objective, kind="empirical")
    for _ in range(2):  # not only once
        with pytest.raises(InputError, match="outputs and a loss of their own"):
            op @ torch.ones(objective.space.n)


def test_flat_positions_and_unread_outputs_have_examples() -> None:
    """Of (examples x positions, classes) each has its share; outputs by layers that no loss reads do not matter."""

    class Net(LastOfTime):
        def forward(self, x: Tensor) -> Any:
            z, hidden = self.rnn(x.transpose(0, 1))
            return self.head(z.transpose(0, 1)).flatten(0, 1), hidden

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        z = model(batch[0])[0]
        return functional.mse_loss(z, batch[1].flatten(0, 1)), z.numel()

    model, x, y = _made(Net()), _drawn(N, 3, 3), _drawn(N, 3, 2, seed=1)
    objective = ls.Objective(model, loss, [(x[:3], y[:3]), (x[3:], y[3:])])
    g = _gradients(model, (loss(model, (x[i : i + 1], y[i : i + 1]))[0] for i in range(N)))
    w = torch.full((N,), 6.0, dtype=torch.float64)
    _close(GradientCovariance(objective).to_dense(), _covariance(g, w))
    _close(ls.Fisher(objective, kind="empirical").to_dense(), g.T @ g / N)


def test_outputs_of_a_later_batch_are_looked_at() -> None:
    """Sizes that agree in the first batch need not in another."""
    model = _made(ByTime())
    data = [(_drawn(1, 6, 3), _drawn(1, 6, 2)), (_drawn(4, 6, 3), _drawn(4, 6, 2))]
    with pytest.raises(InputError, match="lead with the batch's examples"):
        GradientCovariance(ls.Objective(model, timed, data)) @ torch.ones(8)


@pytest.mark.parametrize("kind", ["mc", "exact", "empirical"])
def test_labels_without_examples_are_rows(kind: str) -> None:
    """Graphs pooled from nodes, and one example without a batch: cross-entropy's rows are its labels."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).reshape(2, -1, 2).mean(1)

    graphs = ls.Objective(_made(Pooled()), nn.CrossEntropyLoss(), (_drawn(8, 3), torch.tensor([0, 1])))
    single = ls.Objective(_made(nn.Linear(3, 4)), nn.CrossEntropyLoss(), [(_drawn(3), torch.tensor(1))])
    for objective in (graphs, single):
        exact = ls.Fisher(objective).to_dense()
        if kind == "mc":
            found = sum(ls.Fisher(objective, kind="mc", samples=50, seed=s).to_dense() for s in range(20)) / 20
            _close(found, exact, 0.15)
        elif kind == "empirical":
            x, y = next(iter(objective.batches))
            y = y.reshape(-1)
            losses = (functional.cross_entropy(objective.model(x).reshape(len(y), -1)[i], y[i]) for i in range(len(y)))
            g = _gradients(objective.model, losses)
            _close(ls.Fisher(objective, kind="empirical").to_dense(), g.T @ g / len(g))
        with pytest.raises(InputError, match="outputs and a loss of their own"):
            GradientCovariance(objective) @ torch.ones(objective.space.n)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()])
def test_drawn_labels_need_no_examples(loss: nn.Module) -> None:
    """Entries are drawn by themselves, so that any rows give the expectation: 4 steps, 6 examples."""
    model, x = _made(LastOfTime()), _drawn(4, 5, 3)
    objective = ls.Objective(model, loss, (x, _drawn(5, 2).sigmoid()))
    found = sum(ls.Fisher(objective, kind="mc", samples=50, seed=s).to_dense() for s in range(20)) / 20
    _close(found, ls.Fisher(objective).to_dense(), 0.2)


# -- weights ------------------------------------------------------------------------------------------


def test_a_label_that_counts_nothing_is_no_part_of_the_covariance() -> None:
    """Smoothing gives labels of class weight 0 a gradient; it belongs to no mean loss."""
    model, x = _made(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), _drawn(9, 3)
    y = torch.tensor([2, 2, 2, 2, 0, 1, 3, 1, 2])
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 0.0, 1.5]).double(), label_smoothing=0.3)
    counted = [i for i in range(9) if y[i] != 2]
    g = _gradients(model, (criterion(model(x[i : i + 1]), y[i : i + 1]) for i in counted))
    dense = GradientCovariance(ls.Objective(model, criterion, [(x[:5], y[:5]), (x[5:], y[5:])])).to_dense()
    _close(dense, _covariance(g, criterion.weight[y[counted]]))
    assert float(torch.linalg.eigvalsh(dense)[0]) >= -1e-12 * float(dense.norm())


BITS: dict[str, tuple[Callable[[Tensor], nn.Module], list[nn.Module]]] = {
    "logits": (lambda w: nn.BCEWithLogitsLoss(weight=w), []),
    "probabilities": (lambda w: nn.BCELoss(weight=w), [nn.Sigmoid()]),
    "several": (lambda w: nn.MultiLabelSoftMarginLoss(weight=w), []),
}


@pytest.mark.parametrize("name", BITS)
def test_weights_of_labels_are_not_squared(name: str) -> None:
    """An element that weighs 9 is one that is there 9 times; one that weighs 0 is not there."""
    make, head = BITS[name]
    model, x, y = _made(nn.Linear(3, 3), *head), _drawn(7, 3), (_drawn(7, 3, seed=1) > 0).double()
    weight = torch.tensor([9.0, 0.25, 0.0]).double()
    found = ls.Fisher(ls.Objective(model, make(weight), (x, y)), kind="empirical").to_dense()
    total = torch.zeros_like(found)
    for i in range(7):
        slopes = _gradients(
            model, (make(torch.eye(3).double()[c])(model(x[i : i + 1]), y[i : i + 1]) for c in range(3))
        )
        together = (weight.sqrt()[:, None] * slopes).sum(0)
        total += torch.outer(together, together)
    _close(found, total * (3 if name != "several" else 1) / 7)  # torch's mean is over elements, or over examples


def test_weights_of_margins_are_not_squared() -> None:
    model, x, y = _made(nn.Linear(3, 3)), _drawn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    weight = torch.tensor([9.0, 0.25, 1.0]).double()
    objective = ls.Objective(model, nn.MultiMarginLoss(p=2, weight=weight), (x, y))
    plain = nn.MultiMarginLoss(p=2)
    g = _gradients(model, (plain(model(x[i : i + 1]), y[i : i + 1]) for i in range(7)))
    _close(ls.Fisher(objective, kind="empirical").to_dense(), g.T @ (weight[y][:, None] * g) / 7)


def test_chance_is_not_taken_for_examples_that_act_on_each_other() -> None:
    class Chance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.generator = nn.Linear(3, 2), torch.Generator()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * torch.rand(1, generator=self.generator, dtype=x.dtype)

    objective = ls.Objective(_made(Chance()), nn.MSELoss(), (_drawn(6, 3), _drawn(6, 2)))
    with pytest.raises(InputError, match="the same each time it is computed"):
        GradientCovariance(objective) @ torch.ones(8)


def test_draws_that_belong_to_batches_are_let_be() -> None:
    """Noise from torch's own generator is seeded for each batch: halves draw other noise, and tell nothing."""

    def noisy(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        x, y = batch
        return functional.mse_loss(model(x + torch.randn_like(x)), y), y.numel()

    objective = ls.Objective(_made(nn.Linear(3, 2)), noisy, (_drawn(6, 3), _drawn(6, 2)))
    dense = GradientCovariance(objective).to_dense()
    assert float(torch.linalg.eigvalsh(dense)[0]) >= -1e-12 * float(dense.norm())
    assert float(dense.norm()) > 0
