"""What holds of every operator of an objective, for any model, loss, mode and way of batching."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import landscape as ls
from tests.curvature.contract import block, keeps_its_promises
from tests.curvature.operators import OPERATORS, agree
from tests.problems import LOSSES, MODELS, OWN, SIZES, N, Problem, problem
from tests.reference import Dense, known

BATCHES: dict[str, Any] = {"one batch": N, "batches": SIZES}
SMALL = ("linear", "convolution", "tied", "partial", "adapted", "normalised")


BATCH_NORM = ("convolution", "resnet")
KNOWN = [name for name, case in OPERATORS.items() if case.expected is not None]
#: What the loss plays a part in; other operators differ from one of these by how they treat the model.
BY_LOSS = ("Hessian, autograd", "Hessian, forward", "Hessian, difference", "GGN, forward", "Fisher, forward",
           "Fisher, empirical", "GradientCovariance")  # fmt: skip


def _grid() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield every operator with each model, some with each of their losses; mode and batches are drawn at random."""
    for name in KNOWN:
        case, draw, models = OPERATORS[name], random.Random(name), list(MODELS)
        draw.shuffle(models)
        count = max(len(models), len(case.losses) if name in BY_LOSS else 0)
        pairs = [(models[i % len(models)], case.losses[i % len(case.losses)]) for i in range(count)]
        for model, loss in [(task, OWN) for task in case.tasks] + pairs:
            once = loss == OWN or (case.by_example and model in BATCH_NORM)
            yield name, model, loss, "eval" if once else draw.choice(["eval", "train"]), draw.choice(list(BATCHES))


@pytest.mark.parametrize(("name", "model", "loss", "mode", "batches"), list(_grid()))
def test_products_are_those_of_the_reference(name: str, model: str, loss: str, mode: str, batches: str) -> None:
    p, case, sizes = problem(model, loss), OPERATORS[name], BATCHES[batches]
    op = case.make(ls.Objective(p.model, p.loss, p.batches(sizes), mode=mode))
    V = block(op.shape[1])
    dense = Dense(p, train=True, sizes=sizes) if mode == "train" else known(model, loss)
    agree(op, op @ V, case.expected(dense, V), 1e-11)


@pytest.mark.parametrize("name", OPERATORS)
def test_promises(name: str) -> None:
    case = OPERATORS[name]
    p = problem("dropped" if case.by_example else "convolution")
    objective = ls.Objective(p.model, p.loss, p.batches(), mode="train")
    op = case.make(objective)
    everything = torch.eye(op.shape[1], dtype=torch.float64)
    expected = case.expected and case.expected(Dense(p, train=True, sizes=SIZES), everything)
    op @ everything[:, :1]
    keeps_its_promises(op, expected, max(1e-11, getattr(op, "bound", 0.0)))
    assert objective in op.objectives


@pytest.mark.parametrize("loss", ["cross-entropy, all at once", "square, sum"])
@pytest.mark.parametrize("name", OPERATORS)
def test_batching_and_order_do_not_matter(name: str, loss: str) -> None:
    case = OPERATORS[name]
    p = problem("tied", loss)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    found = []
    for size, shuffled in ((N, None), (7, None if case.by_order else order), (1, None)):
        op = case.make(ls.Objective(p.model, p.loss, p.batches(size, shuffled)))
        found.append(op @ block(op.shape[1]))
        agree(op, found[-1], found[0], 1e-12)


@pytest.mark.parametrize(
    ("name", "model"), [(name, SMALL[(i + j) % len(SMALL)]) for i, name in enumerate(KNOWN) for j in range(3)]
)
def test_single_precision(name: str, model: str) -> None:
    case, p = OPERATORS[name], problem(model).to(torch.float32)
    op = case.make(ls.Objective(p.model, p.loss, p.batches()))
    V = block(op.shape[1], dtype=torch.float32)
    product = op @ V
    assert product.dtype == op.dtype == torch.float32
    agree(op, product, case.expected(Dense(p, sizes=SIZES), V.double()), 1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_same_bytes_every_time(name: str) -> None:
    p = problem("dropped").to(torch.float32)
    found = []
    for _ in range(2):
        op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(), mode="train"))
        V = block(op.shape[1], dtype=torch.float32)
        found += [op @ V, op @ V]
        torch.rand(3)  # the caller's random numbers play no part
    assert all(torch.equal(product, found[0]) for product in found)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "Hessian, difference"])
def test_a_loss_that_it_is_not_defined_for_is_refused_in_words(name: str) -> None:
    for loss in set(LOSSES) - set(OPERATORS[name].losses):
        p = problem("linear", loss)
        op = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches()))
        with pytest.raises(ls.errors.InputError) as caught:
            op @ block(op.shape[1])
        assert "\n" not in str(caught.value)


def test_differences_need_no_second_derivative() -> None:
    """Torch cannot differentiate this margin twice; written out, it can."""
    p = problem("mlp", "margin")

    def written_out(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = model(x)
        margins = (1 - z.gather(1, y[:, None]) + z).clamp(min=0) ** 2 * p.loss.weight[y][:, None]
        return margins.scatter(1, y[:, None], 0.0).mean(1).mean()

    smooth = Problem(p.model, p.loss, p.inputs, p.targets, written_out)
    for backend in ("difference", "auto"):
        op = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()), backend=backend)
        V = block(op.shape[1])
        agree(op, op @ V, Dense(smooth).hessian_times(V), 1e-11)
        assert op.backend == "difference"


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_problems_are_away_from_kinks(mode: str) -> None:
    """Where a ReLU or a choice of experts is about to turn, neither differences nor float32 have one truth."""
    margins: list[float] = []
    for model in ("resnet", "mixture", "switch"):
        p = problem(model)
        p.model.train(mode == "train")
        for module in p.model.modules():
            if isinstance(module, torch.nn.ReLU):
                module.register_forward_pre_hook(lambda _, args: margins.append(float(args[0].detach().abs().min())))
        for x, _ in p.batches(SIZES) + p.batches(N):
            p.model(x)
            if model != "resnet":
                chances = p.model.router(x).softmax(1).sort(1, descending=True).values.detach()
                margins.append(float((chances[:, p.model.best - 1] - chances[:, p.model.best]).min()))
    assert min(margins) > 5e-5
