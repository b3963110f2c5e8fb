"""Points: where they are taken, what they may be, and that they stay where they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.objective.marks import _spread
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import close, truth


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()


def data(n: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(n, 3, generator=g, dtype=torch.float64), torch.randint(3, (n,), generator=g)
    return [(x[:3], y[:3]), (x[3:], y[3:])]


def loss_of(model: nn.Module) -> torch.Tensor:
    batches = data()
    x, y = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    return nn.functional.cross_entropy(model(x), y).detach()


# -- parameters that were replaced ------------------------------------------------------------------


def _assigned(model: nn.Sequential) -> None:
    model.load_state_dict({name: 0.5 * p for name, p in model.state_dict().items()}, assign=True)


def _replaced(model: nn.Sequential) -> None:
    model[0] = nn.Linear(3, 3, dtype=torch.float64)


@pytest.mark.parametrize("change", [_assigned, _replaced])
def test_points_are_taken_of_the_parameters_that_the_model_has_by_then(change: Callable[[Any], None]) -> None:
    model = two_layers()
    objective = ls.Objective(model, nn.CrossEntropyLoss(), data())
    before = objective.value()
    change(model)
    with harmless(model):
        close(objective.value(), loss_of(model), 1e-12)
        assert objective.value() != before
        close(objective.vector(), torch.cat([p.detach().reshape(-1) for p in model.parameters()]), 0.0)
        assert all(a is b for a, b in zip(objective.parameters.values(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("layer", "words"),
    [(nn.Tanh(), "a model without '0.weight'"), (nn.Linear(4, 3), r"'0.weight' of shape \(3, 4\) instead of \(3, 3\)")],
)
def test_parameters_that_are_gone_are_refused(layer: nn.Module, words: str) -> None:
    model = two_layers()
    objective = ls.Objective(model, nn.CrossEntropyLoss(), data())
    model[0] = layer
    for ask in (objective.value, objective.vector, objective.point, lambda: objective.parameters):
        with pytest.raises(InputError, match=words):
            ask()


def test_lazy_layers_are_refused_until_they_have_parameters() -> None:
    model = nn.Sequential(nn.LazyLinear(3)).double()
    with pytest.raises(InputError, match=r"'0\.weight', which a lazy layer has not made yet"):
        ls.Objective(model, nn.CrossEntropyLoss(), data())
    model(data()[0][0])
    close(ls.Objective(model, nn.CrossEntropyLoss(), data()).value(), loss_of(model), 1e-12)


# -- frozen parameters, which are shared -----------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2])
def test_frozen_parameters_that_change_later_are_refused(batches: int) -> None:
    model, parts = two_layers(), data()
    parts = parts if batches == 2 else parts[:1]
    model[0].requires_grad_(False)
    objective = ls.Objective(model, nn.CrossEntropyLoss(), parts)
    H, point, v = ls.Hessian(objective), objective.point(), torch.ones(objective.space.n, dtype=torch.float64)
    before, value = H @ v, objective.value(point)
    with torch.no_grad():
        model[2].weight.mul_(2)  # selected: copied
    torch.testing.assert_close(H @ v, before)
    assert objective.value(point) == value
    model[0].requires_grad_(True)
    nn.functional.cross_entropy(model(parts[0][0]), parts[0][1]).backward()
    torch.optim.SGD(model.parameters(), 1.0).step()
    for ask in (lambda: H @ v, lambda: objective.value(point), lambda: objective.gradient(point)):
        with pytest.raises(InputError, match=r"'0\.weight', which has changed since"):
            ask()
    assert torch.isfinite(ls.Hessian(objective) @ v).all()


def _scaled(w: torch.Tensor) -> None:
    w.data.mul_(1.001)


def _signed(w: torch.Tensor) -> None:
    w.data.neg_()


def _turned(w: torch.Tensor) -> None:
    w.data.copy_(w.data.flip(0))


def _averaged(w: torch.Tensor) -> None:
    w.data.lerp_(torch.ones_like(w), 0.01)


def _one_entry(w: torch.Tensor) -> None:
    w.data.view(-1)[5] += 1


def _one_column(w: torch.Tensor) -> None:
    w.data[:, 3] += 1


WRITES = [(width, write) for width in (8, 128) for write in (_scaled, _signed, _turned, _averaged, _one_column)]


@pytest.mark.parametrize(("width", "write"), [*WRITES, (8, _one_entry)])
def test_frozen_parameters_that_are_written_through_data_are_refused(
    width: int, write: Callable[[torch.Tensor], None]
) -> None:
    torch.manual_seed(0)
    body = [nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 4 * width), nn.Tanh()]
    model = nn.Sequential(*body, nn.Linear(4 * width, 3)).double()
    model[:-1].requires_grad_(False)
    with torch.no_grad():
        model[0].bias[0] = float("nan")  # equal to itself here
    objective = ls.Objective(model, nn.CrossEntropyLoss(), data())
    point = objective.point()
    with harmless(model):
        objective.evaluate(at=point)
    counted = model[2].weight._version
    write(model[2].weight)
    assert model[2].weight._version == counted
    with pytest.raises(InputError, match=r"'2\.weight', which has changed since"):
        objective.evaluate(at=point)
    objective.evaluate()  # of the model as it is now


def test_what_marks_remember_is_spread_over_rows_and_columns() -> None:
    for shape in ((1024, 256), (256, 1024), (64, 64, 3, 3), (7,), (1,), (), (512, 512)):
        t = torch.arange(float(math.prod(shape))).reshape(shape)
        for other in (t, t.to(memory_format=torch.channels_last) if t.ndim == 4 else t, t.mT if t.ndim == 2 else t):
            view = _spread(other)
            assert view._base is not None  # no copy
            assert min(t.numel(), 128) <= len(view) <= 256
            places = torch.stack(torch.unravel_index(view.long(), shape)) if shape else view
            assert all(len(row.unique()) >= min(size, 64) for row, size in zip(places, shape, strict=bool(shape)))


# -- points of other objectives ----------------------------------------------------------------------------


def test_points_of_other_parameters_are_refused() -> None:
    model = two_layers()
    first, last, all_, wide = (
        ls.Objective(model, nn.CrossEntropyLoss(), data(), params=params, dtype=dtype)
        for params, dtype in (("0.*", None), ("2.*", None), (None, None), ("0.*", torch.float32))
    )
    assert first.space.n == last.space.n
    for other in (last, all_, wide):
        with pytest.raises(InputError, match="a point must be of the parameters that the objective has selected"):
            first.value(other.point())
        with pytest.raises(InputError, match="a point must be of the parameters"):
            ls.Hessian(first, at=other.point())
    again = ls.Objective(model, nn.CrossEntropyLoss(), data()[:1], params="0.*")
    assert again.value(first.point()) == again.value()
    assert first.subsample(4).value(first.point()) == first.subsample(4).value()


@pytest.mark.parametrize("at", [{}, {"other": torch.ones(3)}])
def test_a_point_by_name_must_name_the_parameters(at: dict[str, torch.Tensor]) -> None:
    objective = ls.Objective(two_layers(), nn.CrossEntropyLoss(), data())
    with pytest.raises(InputError, match=r"must hold every selected parameter, got none for 0\.weight"):
        objective.value(at=at)


# -- embeddings that write into their weight --------------------------------------------------------------------


class Shortened(nn.Module):
    """Embeddings whose rows torch shortens in place when they are looked up."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.rows, self.head = kind(7, 4, max_norm=0.5), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.rows(x)
        return self.head(found if found.ndim == 2 else found.mean(1))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embeddings_with_a_largest_norm_change_neither_model_nor_point(kind: Any, frozen: bool) -> None:
    torch.manual_seed(0)
    model = Shortened(kind)
    model.rows.weight.requires_grad_(not frozen)
    weight, x, y = model.rows.weight.detach().clone(), torch.randint(7, (8, 5)), torch.randint(3, (8,))
    objective = ls.Objective(model, nn.CrossEntropyLoss(), (x, y))
    with harmless(model):
        point, at = objective.point(), objective.vector()
        before = at.clone()
        values = [objective.value(point), objective.value(at), objective.value_and_gradient(point)[0]]
        objective.gradient(at)
        assert torch.equal(point.vector, before)
        assert torch.equal(at, before)
    expected = nn.functional.cross_entropy(model(x), y).double()  # shortens its rows
    assert not torch.equal(model.rows.weight, weight)
    for value in values:
        torch.testing.assert_close(value, expected.detach())


def test_a_point_by_name_is_that_of_another_model() -> None:
    p, other = problem("mlp"), problem("mlp")
    with torch.no_grad():
        for q in other.model.parameters():
            q.mul_(1.5)
    objective = ls.Objective(p.model, p.loss, p.batches())
    close(objective.value(at=other.model.state_dict()), truth(other).value, 1e-12)
