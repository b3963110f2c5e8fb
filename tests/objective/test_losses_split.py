"""A loss cut at the model's outputs: the two parts make the whole, or the loss is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import InputError
from landscape.objective.losses.terms import Split, Terms
from tests.harmless import harmless
from tests.objective.test_losses import CASES, drawn, made, rows
from tests.objective.test_losses_model import KINDS
from tests.objective.test_losses_model import cut as cut_model
from tests.objective.test_losses_model import drawn as drawn_model
from tests.objective.test_losses_model import made as made_model
from tests.problems import LOSSES, problem
from tests.reference import close

N = 9
Tensor = torch.Tensor


def objective_of(name: str) -> ls.Objective:
    if name in LOSSES:
        p = problem("mlp", name)
        return ls.Objective(p.model, p.loss, p.batches())
    if name in KINDS:
        return ls.Objective(made_model(name), "model", cut_model(drawn_model(name), 4))
    make, loss, batch = CASES[name]
    data = drawn(torch.float64)
    return ls.Objective(made(make, torch.float64), loss(), [batch(data, r) for r in rows(N, 4)])


def each(objective: ls.Objective, do: Callable[[Any], None]) -> None:
    """Do something with every batch."""
    with objective.session():
        for batch in objective.iterate(objective.point()):
            do(batch)


def same(a: Terms, b: Terms) -> None:
    close(a.numerator, b.numerator, 1e-12)
    assert float(a.weight) == float(b.weight)


@pytest.mark.parametrize("name", [*LOSSES, *CASES, *KINDS])
def test_parts_make_the_whole(name: str) -> None:
    objective = objective_of(name)

    def check(batch: Any) -> None:
        leaves = batch.leaves()
        whole, split = batch.terms(leaves), batch.split(leaves)
        again = split.terms(split.outputs)
        same(again, whole)
        expected = batch.gradient(whole, leaves)
        close(
            objective.space.flatten(batch.gradient(again, leaves, create_graph=True)),
            objective.space.flatten(expected),
            1e-12,
        )
        apart = [output.detach().requires_grad_() for output in split.outputs]
        pulls = torch.autograd.grad(split.terms(apart).numerator, apart, materialize_grads=True)
        back = torch.autograd.grad(split.outputs, leaves, pulls, materialize_grads=True)
        close(objective.space.flatten(back), objective.space.flatten(expected), 1e-12)

    with harmless(objective.model):
        each(objective, check)


@pytest.mark.parametrize("name", [*LOSSES, *KINDS, "mapping", "hinge embedding"])
def test_criterion_of_outputs_and_targets(name: str) -> None:
    objective = objective_of(name)
    custom = name.startswith("custom")

    def check(batch: Any) -> None:
        split = batch.split()
        assert (split.criterion is None) == custom
        if split.criterion is None:
            return
        found = split.criterion(split.outputs[0], split.targets)
        terms = batch.terms()
        if terms.weight == 0 and objective.loss.reduction != "sum":
            return
        close(found, terms.numerator if objective.loss.reduction == "sum" else terms.numerator / terms.weight, 1e-12)

    each(objective, check)


def test_causal_outputs_are_the_shifted_logits() -> None:
    objective, data = objective_of("causal"), drawn_model("causal")
    splits: list[Split] = []
    each(objective, lambda batch: splits.append(batch.split()))
    with torch.no_grad():
        logits = objective.model(**data).logits
    close(torch.cat([s.outputs[0] for s in splits]), logits[:, :-1].flatten(0, 1), 1e-12)
    assert torch.equal(torch.cat([s.targets for s in splits]), data["labels"][:, 1:].flatten())
    assert isinstance(splits[0].criterion, nn.CrossEntropyLoss)


def test_half_precision_outputs_are_float32() -> None:
    p = problem("mlp").to(torch.bfloat16)
    each(ls.Objective(p.model, p.loss, p.batches()), lambda b: _is(b.split().outputs[0].dtype, torch.float32))


def _is(a: Any, b: Any) -> None:
    assert a == b


def test_batches_know_where_they_start() -> None:
    p, found = problem("mlp"), []
    each(ls.Objective(p.model, p.loss, p.batches((7, 6, 3))), lambda batch: found.append((batch.index, batch.start)))
    assert found == [(0, 0), (1, 7), (2, 13)]


# -- loss functions -----------------------------------------------------------------------------------


class Several(nn.Module):
    """A model of several outputs, with a buffer and a configuration that losses look at."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.second, self.temperature = nn.Linear(3, 4), nn.Linear(3, 2), 2.0
        self.register_buffer("centre", torch.ones(2))

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"logits": self.linear(x), "rest": (self.second(x), x.argmax(-1)), "name": "several"}


def several(model: Any, batch: Any) -> Tensor:
    out = model(batch[0])
    near = (out["rest"][0] - model.centre).square().mean() * (1 + out["rest"][1].double().mean())
    return functional.cross_entropy(out["logits"] / model.temperature, batch[1]) + near


def data_of(n: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, generator=g, dtype=torch.float64), torch.randint(0, 4, (n,), generator=g)


def test_function_of_several_outputs() -> None:
    model = Several().double()
    objective = ls.Objective(model, several, data_of())

    def check(batch: Any) -> None:
        split = batch.split()
        assert [tuple(output.shape) for output in split.outputs] == [(6, 4), (6, 2)]
        same(split.terms(split.outputs), batch.terms())
        moved = [output + 0.5 for output in split.outputs]
        expected = functional.cross_entropy(moved[0] / 2.0, batch.data[1]) + (moved[1] - 1).square().mean() * (
            1 + batch.data[0].argmax(-1).double().mean()
        )
        close(split.terms(moved).numerator, expected * 6, 1e-12)

    with harmless(model):
        each(objective, check)


def test_function_sees_the_buffers_of_the_point() -> None:
    model = Several().double()
    objective = ls.Objective(model, several, data_of())
    point = objective.point()
    elsewhere = replace(point, buffers={"centre": point.buffers["centre"] + 3})
    with objective.session():
        (batch,) = objective.iterate(elsewhere)
        split = batch.split()
        again = split.terms(split.outputs)
        same(again, batch.terms())
        (here,) = objective.iterate(point)
        assert abs(float((here.terms().numerator - again.numerator).detach())) > 1


def _twice(model: Any, batch: Any) -> Tensor:
    return (model(batch[0])["logits"] - model(batch[0] * 2)["logits"]).square().mean()


def _never(model: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(model.linear(batch[0]), batch[1])


def _decayed(model: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0])["logits"], batch[1]) + 0.1 * model.linear.weight.square().sum()


def _random(model: Any, batch: Any) -> Tensor:
    logits = model(batch[0])["logits"]
    return functional.cross_entropy(logits + torch.randn_like(logits), batch[1])


class Own(Several):
    """A model that returns its loss."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        out = super().forward(x)
        return {**out, "loss": out["logits"].square().mean()}


def _own(model: Any, batch: Any) -> Tensor:
    return model(batch[0])["loss"]


class Hidden(Several):
    """A model that returns an object of a class that nobody knows."""

    def forward(self, x: Tensor) -> Any:
        return type("Hidden", (), super().forward(x))()


@pytest.mark.parametrize(
    ("model", "loss", "match"),
    [
        (Several, _twice, "what one call of the model returns, got a function that calls it 2 times"),
        (Several, _never, "got a function that calls it 0 times"),
        (Several, _decayed, "got a function that reads parameters itself"),
        (Several, _random, "got a function that gives another loss for the same outputs"),
        (Own, _own, "got a model that returns the loss itself"),
        (
            Hidden,
            lambda m, b: m(b[0]).logits.square().mean(),
            "got a model that returns a Hidden without tensors in it",
        ),
    ],
)
def test_refused_only_where_it_is_cut(model: type[nn.Module], loss: Any, match: str) -> None:
    network = model().double()
    objective = ls.Objective(network, loss, data_of())
    assert objective.gradient().isfinite().all()
    with harmless(network), pytest.raises(InputError, match=match):
        each(objective, lambda batch: batch.split())


def test_a_batch_that_counts_nothing_proves_nothing() -> None:
    """The first batch has no weight, so it is the second that shows what the function reads."""

    def loss(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        return _decayed(model, batch), (batch[1] >= 0).sum()

    x, y = data_of()
    objective = ls.Objective(Several().double(), loss, [(x, torch.full_like(y, -100)), (x, y)])
    assert objective.value().isfinite()
    with pytest.raises(InputError, match="reads parameters itself"):
        each(objective, lambda batch: batch.split())
