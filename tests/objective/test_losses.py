"""Losses over more than one target or input: each is the pooled loss of torch, however the data are batched."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import InputError
from tests.problems import problem
from tests.reference import close

N, T, C = 9, 6, 4
Tensor = torch.Tensor
Inputs = namedtuple("Inputs", ["x", "mask"])


class Time(nn.Module):
    """Log-probabilities (T, N, C) of inputs (N, T, 3), or of (T, N, 3)."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        self.first, self.head = first, nn.Linear(3, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x if self.first else x.transpose(0, 1)).log_softmax(-1)


class Masked(nn.Module):
    """A model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, C)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.second(hidden if mask is None else hidden * mask) * scale


class Whole(nn.Module):
    """A model that takes its two inputs as one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.masked = Masked()

    def forward(self, inputs: Any) -> Tensor:
        x, mask = (inputs["x"], inputs["mask"]) if isinstance(inputs, dict) else inputs
        return self.masked(x, mask)


class Starred(Whole):
    """A model of any number of inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.masked(*inputs)


def made(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().to(dtype)


def drawn(dtype: torch.dtype) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 4, (N,), generator=g)
    lengths[2] = 0
    return {
        "x": torch.randn(N, 3, generator=g, dtype=torch.float64).to(dtype),
        "mask": torch.randint(0, 2, (N, 5), generator=g).to(dtype),
        "time": torch.randn(N, T, 3, generator=g, dtype=torch.float64).to(dtype),
        "labels": torch.where(torch.arange(N) % 4 == 1, -100, torch.randint(0, C, (N,), generator=g)),
        "real": torch.randn(N, C, generator=g, dtype=torch.float64).to(dtype),
        "variance": torch.rand(N, C, generator=g, dtype=torch.float64).to(dtype) + 0.1,
        "signs": torch.randint(0, 2, (N, C), generator=g).to(dtype) * 2 - 1,
        "sequences": torch.randint(1, C, (N, 3), generator=g),
        "lengths": lengths,
    }


def rows(n: int, size: int) -> list[slice]:
    return [slice(a, min(a + size, n)) for a in range(0, n, size)]


def concatenated(d: dict[str, Tensor], r: slice) -> Tensor:
    return torch.cat([sequence[:n] for sequence, n in zip(d["sequences"][r], d["lengths"][r], strict=True)])


def steps(d: dict[str, Tensor], r: slice, n: int = T) -> Tensor:
    return torch.full((len(d["lengths"][r]),), n)


def ctc(d: dict[str, Tensor], r: slice) -> Any:
    return d["time"][r], d["sequences"][r], steps(d, r), d["lengths"][r]


def classes(inputs: Callable[[Tensor, Tensor], Any]) -> Callable[[dict[str, Tensor], slice], Any]:
    return lambda d, r: (inputs(d["x"][r], d["mask"][r]), d["labels"][r])


def dictionary(d: dict[str, Tensor], r: slice) -> Any:
    return {"inputs": UserDict(x=d["x"][r], mask=d["mask"][r]), "labels": d["labels"][r]}


def of_dictionary(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    loss = functional.cross_entropy(model(**batch["inputs"]), batch["labels"], reduction="sum")
    counted = (batch["labels"] != -100).sum()
    return loss / counted, counted


CE = nn.CrossEntropyLoss
#: name -> (model, loss, a batch of some rows); what one input tensor and one target do is in test_contract.py
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], Callable[[dict[str, Tensor], slice], Any]]] = {
    "ctc": (Time, nn.CTCLoss, ctc),
    "ctc, blank": (
        Time,
        lambda: nn.CTCLoss(blank=C - 1),
        lambda d, r: (ctc(d, r)[0], ctc(d, r)[1] - 1, *ctc(d, r)[2:]),
    ),
    "ctc, sum": (Time, lambda: nn.CTCLoss(reduction="sum"), ctc),
    "ctc, concatenated": (
        Time,
        nn.CTCLoss,
        lambda d, r: (d["time"][r], concatenated(d, r), steps(d, r), d["lengths"][r]),
    ),
    "ctc, time first": (
        lambda: Time(first=True),
        nn.CTCLoss,
        lambda d, r: (d["time"][r].transpose(0, 1), *ctc(d, r)[1:]),
    ),
    "ctc, numbers": (
        Time,
        nn.CTCLoss,
        lambda d, r: (*ctc(d, r)[:2], (T,) * len(steps(d, r)), d["lengths"][r].tolist()),
    ),
    "ctc, infinities": (
        Time,
        lambda: nn.CTCLoss(zero_infinity=True),
        lambda d, r: (*ctc(d, r)[:2], steps(d, r, 2), d["lengths"][r]),
    ),
    "function ctc_loss": (Time, lambda: functional.ctc_loss, ctc),
    "gaussian": (Masked, nn.GaussianNLLLoss, lambda d, r: (d["x"][r], d["real"][r], d["variance"][r])),
    "gaussian, one variance": (
        Masked,
        lambda: nn.GaussianNLLLoss(full=True),
        lambda d, r: (d["x"][r], d["real"][r], d["variance"][r, :1]),
    ),
    "gaussian, sum": (
        Masked,
        lambda: nn.GaussianNLLLoss(reduction="sum"),
        lambda d, r: (d["x"][r], d["real"][r], d["variance"][r]),
    ),
    "hinge embedding": (Masked, nn.HingeEmbeddingLoss, lambda d, r: (d["x"][r], d["signs"][r])),
    "list of inputs": (Masked, CE, classes(lambda x, m: [x, m])),
    "tuple of inputs": (Masked, CE, classes(lambda x, m: (x, m))),
    "one input in a tuple": (Masked, CE, classes(lambda x, m: (x,))),
    "namedtuple": (Masked, CE, classes(Inputs)),
    "mapping": (Masked, CE, classes(lambda x, m: {"mask": m, "x": x})),
    "nested UserDict": (Masked, CE, classes(lambda x, m: UserDict(mask=m, x=x))),
    "whole pair": (Whole, CE, classes(lambda x, m: (x, m))),
    "whole namedtuple": (Whole, CE, classes(Inputs)),
    "whole mapping": (Whole, CE, classes(lambda x, m: {"mask": m, "x": x})),
    "starred": (Starred, CE, classes(lambda x, m: (x, m))),
    "dictionary": (Masked, lambda: of_dictionary, dictionary),
}


def pooled(name: str, model: nn.Module, d: dict[str, Tensor]) -> Tensor:
    """The loss of all data in one batch, by torch alone."""
    _, make, batch = CASES[name]
    loss, whole = make(), batch(d, slice(0, N))
    if loss is of_dictionary:
        return of_dictionary(model, whole)[0]
    inputs, *targets = whole
    masked = getattr(model, "masked", model)
    return loss(
        masked(d["x"], None if len(inputs) == 1 else d["mask"]) if loss.__class__ is CE else model(inputs), *targets
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_pooled_loss_for_any_batches(name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, loss, batch = CASES[name]
    model, d = made(make, dtype), drawn(dtype)
    wide = made(make, dtype).double()
    value = pooled(name, wide, {k: t.double() if t.is_floating_point() else t for k, t in d.items()})
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(wide.parameters()))])
    vector = torch.randn(len(gradient), generator=torch.Generator().manual_seed(1), dtype=dtype)
    products = []
    for size in (1, 7, N):
        batches = [batch(d, r) for r in rows(N, size)]
        objective = ls.Objective(model, loss(), batches)
        close(objective.value(), value, tolerance)
        close(objective.gradient(), gradient, tolerance)
        if "ctc" not in name:  # which torch does not differentiate twice
            products.append(ls.Hessian(objective) @ vector)
    for product in products[:-1]:
        close(product, products[-1], tolerance)


def test_infinite_ctc_losses_count_and_add_nothing() -> None:
    d = drawn(torch.float64)
    model = made(Time, torch.float64)
    long = int((d["lengths"] > 2).sum())
    assert 0 < long < N
    steps_ = steps(d, slice(0, N), 2)
    whole = (*ctc(d, slice(0, N))[:2], steps_, d["lengths"])
    assert ls.Objective(model, nn.CTCLoss(), whole).value().isinf()
    assert ls.Objective(model, nn.CTCLoss(zero_infinity=True), whole).value().isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gaussian_of_a_half_precision_model_is_summed_in_float32(dtype: torch.dtype) -> None:
    d = drawn(torch.float32)
    model = made(Masked, dtype)
    whole = (d["x"].to(dtype), d["real"].to(dtype), d["variance"].to(dtype))
    objective = ls.Objective(model, nn.GaussianNLLLoss(), whole)
    with torch.no_grad():
        expected = nn.GaussianNLLLoss()(model(whole[0]).float(), whole[1].float(), whole[2].float())
    close(objective.value(), expected, 1e-6)


# -- refusals ---------------------------------------------------------------------------------------


class Returning(nn.Module):
    """A linear model that returns its output in some container."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.make = nn.Linear(3, C), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.linear(x))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda y: {"logits": y}, "must return one tensor, as CrossEntropyLoss takes it, got a dict; pass a function"),
        (lambda y: (y, y), "must return one tensor, .*got a tuple; pass a function"),
        (lambda y: None, "must return one tensor, .*got a NoneType"),
        (lambda y: type("Output", (), {"logits": y})(), "got a Output; .*or the loss 'model' for the model's own"),
    ],
)
def test_a_model_that_returns_no_tensor(make: Callable[[Tensor], Any], match: str) -> None:
    d = drawn(torch.float32)
    with pytest.raises(InputError, match=match):
        ls.Objective(Returning(make), CE(), (d["x"], d["labels"])).value()


@pytest.mark.parametrize(
    ("loss", "data", "match"),
    [
        (
            CE(),
            lambda d: [d["x"], d["labels"]],
            r"got a Tensor: a list .*is a list of batches; pass .*\(x, y\) instead",
        ),
        (CE(), lambda d: (d["x"], d["mask"], d["labels"]), r"a pair \(inputs, targets\), got a tuple of 3"),
        (
            nn.CTCLoss(),
            lambda d: (d["time"], d["sequences"]),
            r"\(inputs, targets, input_lengths, target_lengths\), got",
        ),
        (nn.GaussianNLLLoss(), lambda d: (d["x"], d["real"]), r"must be \(inputs, target, var\), got a tuple of 2"),
    ],
)
def test_batches_of_another_form(loss: nn.Module, data: Callable[[Any], Any], match: str) -> None:
    d = drawn(torch.float32)
    with pytest.raises(InputError, match=match):
        ls.Objective(made(Masked, torch.float32), loss, data(d)).value()


@pytest.mark.parametrize("loss", [nn.TripletMarginLoss(), nn.CosineEmbeddingLoss(), nn.MarginRankingLoss()])
def test_criteria_of_several_outputs(loss: nn.Module) -> None:
    with pytest.raises(InputError, match="the weight of this criterion's mean is not known"):
        ls.Objective(made(Masked, torch.float32), loss, [])


# -- accuracy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "expected"),
    [
        (CE(), [[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 1.0]], [0, 0, -100, 1], 2 / 3),
        (
            CE(),
            [[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 1.0]],
            [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]],
            1 / 2,
        ),
        (nn.NLLLoss(), [[-2.0, -1.0], [-3.0, -1.0]], [0, 1], 1 / 2),
        (nn.MultiMarginLoss(), [[2.0, 1.0], [3.0, 1.0]], [0, 1], 1 / 2),
        (nn.BCELoss(), [[0.4], [0.6], [0.7], [0.1]], [[0.0], [1.0], [0.0], [0.0]], 3 / 4),
        (nn.BCEWithLogitsLoss(), [[-0.4, 1.0, 2.0], [0.6, -1.0, 0.1]], [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], 3 / 6),
        (nn.MultiLabelSoftMarginLoss(), [[-0.4, 1.0], [0.6, -1.0]], [[0.0, 1.0], [1.0, 1.0]], 3 / 4),
        (nn.SoftMarginLoss(), [[-0.4], [0.2], [0.6], [2.0]], [[-1.0], [1.0], [-1.0], [1.0]], 3 / 4),
    ],
)
def test_accuracy(loss: nn.Module, outputs: list[Any], targets: list[Any], expected: float) -> None:
    x, y = torch.tensor(outputs), torch.tensor(targets)
    model = nn.Linear(x.shape[1], x.shape[1])
    with torch.no_grad():
        model.weight.copy_(torch.eye(x.shape[1]))
        model.bias.zero_()
    for size in (1, 3, len(x)):
        batches = [(x[r], y[r]) for r in rows(len(x), size)]
        found = ls.Objective(model, loss, batches).evaluate(("accuracy", "error"))
        assert float(found["accuracy"]) == pytest.approx(expected)
        assert float(found["error"]) == pytest.approx(1 - expected)


@pytest.mark.parametrize(
    "loss", ["square", "absolute", "huber", "poisson", "divergence", "label margin", "custom, weighted"]
)
def test_no_accuracy_without_labels(loss: str) -> None:
    p = problem("linear", loss)
    with pytest.raises(InputError, match="accuracy needs a criterion over labels"):
        ls.Objective(p.model, p.loss, p.batches()).evaluate(("accuracy",))


def test_one_metric_by_name() -> None:
    p = problem("linear")
    assert list(ls.Objective(p.model, p.loss, p.batches()).evaluate("accuracy")) == ["accuracy"]
