"""Data, weights and labels whose types or shapes torch refuses: one sentence says which, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import InputError
from tests.harmless import harmless
from tests.reference import close

SINGLE, DOUBLE = torch.float32, torch.float64
LABELS, ROWS = torch.arange(6) % 3, torch.arange(18).reshape(6, 3) % 2


def network(dtype: torch.dtype = SINGLE) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()).to(dtype)


def inputs(dtype: torch.dtype = SINGLE) -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def entropy(model: nn.Module, batch: Any) -> Any:
    return functional.cross_entropy(model(batch[0]), batch[1]), len(batch[0])


def questions(objective: ls.Objective) -> list[Callable[[], Any]]:
    v = torch.ones(objective.space.n, dtype=objective.space.dtype)
    products = [lambda: ls.Hessian(objective) @ v, lambda: ls.GGN(objective) @ v]
    return [objective.gradient, *products, lambda: ls.gradient_statistics(objective)]


def refused(objective: ls.Objective, match: str) -> None:
    for ask in questions(objective):
        with harmless(objective.model), pytest.raises(InputError, match=match) as caught:
            ask()
        assert "\n" not in str(caught.value)


# -- precision ----------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "linear": lambda: (nn.Linear(4, 3), inputs()),
    "convolution": lambda: (nn.Sequential(nn.Conv1d(1, 3, 4), nn.Flatten()), inputs()[:, None]),
    "norm": lambda: (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), inputs()),
    "slope": lambda: (nn.Sequential(nn.PReLU(), nn.Linear(4, 3)), inputs()),
    "recurrent": lambda: (Last(), inputs()[:, None]),
}


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[0][:, -1]


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), entropy], ids=["criterion", "function"])
@pytest.mark.parametrize(("own", "given"), [(SINGLE, DOUBLE), (DOUBLE, SINGLE), (torch.bfloat16, SINGLE)])
@pytest.mark.parametrize("name", MODELS)
def test_data_of_another_precision_than_the_model(name: str, own: Any, given: Any, loss: Any) -> None:
    model, x = MODELS[name]()
    words = [str(d).removeprefix("torch.") for d in (given, own)]
    objective = ls.Objective(model.to(own), loss, (x.to(given), LABELS))
    match = rf"precision of the model, got {words[0]} data and {words[1]} parameters: .*pass dtype=torch.{words[1]} to"
    refused(objective, match)
    meant = ls.Objective(model, loss, (x.to(given), LABELS), dtype=own)  # what the sentence says to do
    assert torch.equal(meant.gradient(), ls.Objective(model, loss, (x.to(own), LABELS)).gradient())


@pytest.mark.parametrize(("own", "given"), [(SINGLE, DOUBLE), (DOUBLE, SINGLE)])
@pytest.mark.parametrize("kind", [nn.HuberLoss, nn.BCELoss])
def test_targets_of_another_precision_where_torch_does_not_mix(kind: Any, own: Any, given: Any) -> None:
    objective = ls.Objective(network(own), kind(), (inputs(own), ROWS.to(given)))
    refused(objective, "the data must have the precision of the model")


def test_where_torch_mixes_precisions_so_do_we() -> None:
    for loss in (nn.MSELoss(), nn.L1Loss(), nn.BCEWithLogitsLoss()):
        mixed, plain = (ls.Objective(network(), loss, (inputs(), ROWS.to(dtype))) for dtype in (DOUBLE, SINGLE))
        close(mixed.value(), plain.value(), 1e-6)
    model = network()
    casting = ls.Objective(model, lambda m, b: (m(b[0].float()).square().mean(), 1), (inputs(DOUBLE),))
    close(casting.value(), model(inputs()).square().mean().detach(), 1e-6)


# -- labels and whole numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.NLLLoss(), entropy], ids=["entropy", "nll", "function"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.bool])
def test_labels_of_another_type_than_int64(dtype: torch.dtype, loss: Any) -> None:
    name = str(dtype).removeprefix("torch.")
    objective = ls.Objective(network(), loss, (inputs(), (LABELS % 2).to(dtype)))
    refused(objective, rf"class labels must be of the type int64, got {name}: .*; pass labels\.long\(\)")
    if loss is not entropy:
        with pytest.raises(InputError, match="class labels must be of the type int64"):
            ls.gradient_conflict(objective)


@pytest.mark.parametrize("loss", [nn.BCELoss(), nn.BCEWithLogitsLoss(), nn.HuberLoss(), nn.CrossEntropyLoss()])
def test_whole_numbers_where_the_loss_needs_others(loss: nn.Module) -> None:
    objective = ls.Objective(network(), loss, (inputs(), ROWS))
    refused(objective, r"floating-point numbers where the data are whole ones, got int64: .*targets\.float\(\)")


def test_whole_numbers_for_a_model_that_multiplies() -> None:
    objective = ls.Objective(network(), nn.CrossEntropyLoss(), (torch.ones(6, 4, dtype=torch.int64), LABELS))
    refused(objective, "floating-point numbers where the data are whole ones, got int64")


def test_other_errors_come_as_they_are() -> None:
    def broken(model: nn.Module, batch: Any) -> Any:
        raise RuntimeError("a dtype that nobody knows")

    with pytest.raises(RuntimeError, match="a dtype that nobody knows"):
        ls.Objective(network(), broken, (inputs(), LABELS)).value()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ls.Objective(network(), nn.CrossEntropyLoss(), (inputs()[:, :3], LABELS.int())).value()


# -- class weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [2, 4])
@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss])
def test_class_weights_of_another_number_than_the_classes(kind: Any, entries: int) -> None:
    objective = ls.Objective(network(), kind(weight=torch.ones(entries)), (inputs(), LABELS))
    match = rf"one entry for each class, got {entries} entries, and outputs of 3 classes: .*weight= of shape \(3,\)"
    refused(objective, match)


def test_class_weights_of_outputs_with_places() -> None:
    model, x, y = nn.Conv2d(2, 4, 1), torch.randn(3, 2, 5, 5), torch.randint(4, (3, 5, 5))
    refused(ls.Objective(model, nn.CrossEntropyLoss(weight=torch.ones(5)), (x, y)), "got 5 entries, .* of 4 classes")
    criterion = nn.CrossEntropyLoss(weight=torch.arange(1.0, 5))
    close(ls.Objective(model, criterion, (x, y)).value(), criterion(model(x), y).detach(), 1e-6)


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_by_element(name: str) -> None:
    loss, data = nn.BCEWithLogitsLoss(**{name: torch.ones(2)}), (inputs(), ROWS.float())
    refused(ls.Objective(network(), loss, data), rf"{name} must fit the model's outputs, got shape \(2,\), and")
    for shape in ((), (1,), (3,), (6, 1), (6, 3)):
        criterion, model = nn.BCEWithLogitsLoss(**{name: torch.rand(shape)}), network()
        close(ls.Objective(model, criterion, data).value(), criterion(model(data[0]), data[1]).detach(), 1e-6)
