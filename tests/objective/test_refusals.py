"""Bad input gets one sentence: what, got what, what to do. Data that change are found out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import data as torch_data
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SubsetRandomSampler, TensorDataset

import landscape as ls
from landscape.errors import DataChangedError, InputError, NonFiniteError
from landscape.objective import batches as batches_module
from tests.harmless import harmless
from tests.problems import LOSSES, N, mean_square, problem
from tests.reference import close, truth


class Augmented(Dataset[Any]):
    """Examples that are drawn anew each time, by ``draw``."""

    def __init__(
        self, inputs: torch.Tensor, targets: torch.Tensor, draw: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self.inputs, self.targets, self.draw = inputs, targets, draw

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.draw(self.inputs[i]), self.targets[i]


class Stream(torch_data.IterableDataset[Any]):
    def __init__(self, draw: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        self.draw = draw

    def __iter__(self) -> Iterator[Any]:
        p = problem("linear")
        yield from zip(map(self.draw, p.inputs), p.targets, strict=True)


def dataset() -> TensorDataset:
    p = problem("linear")
    return TensorDataset(p.inputs, p.targets)


def ask(data: Any, loss: Any = None, **options: Any) -> torch.Tensor:
    p = problem("linear")
    return ls.Objective(p.model, p.loss if loss is None else loss, data, **options).gradient()


def refused(do: Callable[[], Any], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match) as caught:
        do()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert "; " in text  # what, got what; what to do


def coin(x: torch.Tensor) -> torch.Tensor:
    return x.flip(0) if torch.rand(()) < 0.5 else x


DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "empty list": (list, r"holds no batch, got an empty loader: .*drop_last"),
    "empty loader": (lambda: DataLoader(dataset(), batch_size=99, drop_last=True), r"holds no batch"),
    "empty data set": (lambda: DataLoader(TensorDataset(torch.zeros(0, 4), torch.zeros(0)), 2), r"holds no batch"),
    "empty without a length": (lambda: _Reiterable([]), r"holds no batch"),
    "iterator": (lambda: iter(problem("linear").batches()), r"more than once, got a list_iterator: .*list\(\.\.\.\)"),
    "generator": (lambda: (b for b in problem("linear").batches()), r"more than once, got a generator"),
    "loader's iterator": (lambda: iter(DataLoader(dataset(), 4)), r"more than once, got a _SingleProcess"),
    "data set": (dataset, r"a loader or a list of batches, got TensorDataset; wrap .*DataLoader"),
    "tensor": (lambda: problem("linear").inputs, r"a loader or a list of batches, got Tensor"),
    "nothing": (lambda: None, r"a loader or a list of batches, got NoneType"),
    "number": (lambda: 3, r"a loader or a list of batches, got int"),
    "shuffle and drop_last": (
        lambda: DataLoader(dataset(), 5, shuffle=True, drop_last=True),
        r"the same examples, got shuffle=True with drop_last=True: .*list\(loader\)",
    ),
    "the same in a batch sampler": (
        lambda: DataLoader(dataset(), batch_sampler=BatchSampler(RandomSampler(dataset()), 5, True)),
        r"got shuffle=True with drop_last=True",
    ),
    "the same over a subset": (
        lambda: DataLoader(dataset(), 5, sampler=SubsetRandomSampler(range(12)), drop_last=True),
        r"got shuffle=True with drop_last=True",
    ),
    "draws with replacement": (
        lambda: DataLoader(dataset(), 4, sampler=RandomSampler(dataset(), replacement=True)),
        r"the same examples, got a sampler that draws at random",
    ),
    "draws some": (
        lambda: DataLoader(dataset(), 4, sampler=RandomSampler(dataset(), num_samples=8)),
        r"got a sampler that draws at random",
    ),
    "draws by weight": (
        lambda: DataLoader(dataset(), 4, sampler=torch_data.WeightedRandomSampler([1.0] * N, N)),
        r"got a sampler that draws at random",
    ),
    "noise": (lambda: _augmented(lambda x: x + torch.randn(4)), r"the same example twice, got two different ones"),
    "noise by numpy": (lambda: _augmented(lambda x: x * np.random.rand()), r"the same example twice"),  # noqa: NPY002
    "noise by python": (lambda: _augmented(lambda x: x * random.random()), r"the same example twice"),
    "flips": (lambda: _augmented(coin), r"the same example twice"),
    "crops": (lambda: _augmented(lambda x: x[: int(torch.randint(1, 5, ()))]), r"the same example twice"),
    "three parts": (
        lambda: [(*b, b[0]) for b in problem("linear").batches()],
        r"must be a pair \(inputs, targets\), got a tuple of 3; pass a function",
    ),
    "a dictionary": (lambda: {"x": torch.ones(2, 4)}, r"must be a pair .*got a dict of 1"),
    "a list of two tensors": (lambda: list(problem("linear").batches()[0]), r"must be a pair .*got a Tensor"),
    "no tensor": (lambda: [("a", "b")], r"a batch must hold a tensor with a leading example dimension, got tuple"),
}


class _Reiterable:
    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def _augmented(draw: Callable[[torch.Tensor], torch.Tensor]) -> DataLoader[Any]:
    p = problem("linear")
    return DataLoader(Augmented(p.inputs, p.targets, draw), 4)


@pytest.mark.parametrize("name", DATA)
def test_data(name: str) -> None:
    make, match = DATA[name]
    data = make()
    with harmless():
        refused(lambda: ask(data), InputError, match)


class Unknown(nn.Module):
    reduction = "mean"

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.sum(1) - b).abs().mean()


ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "reduction none": (
        lambda: ask([], nn.CrossEntropyLoss(reduction="none")),
        r"one number a batch, got reduction='none': .*reduction='mean' or 'sum'",
    ),
    "unknown criterion": (
        lambda: ask(problem("linear").batches(), Unknown()),
        r"this criterion's mean is not known, got Unknown: .*\(model, batch\) -> \(loss, weight\)",
    ),
    "no loss": (lambda: ask([], "mse"), r"a torch criterion, a function .*got mse; pass for example"),
    "tensor as loss": (lambda: ask([], torch.ones(2, 2)), r"a torch criterion, a function"),
    "loss of a vector": (
        lambda: ask(problem("linear").batches(), lambda m, b: m(b[0]).sum(1)),
        r"must return one number, or \(number, weight\), got a tensor of shape \(7,\): .*return the mean",
    ),
    "loss of a float": (
        lambda: ask(problem("linear").batches(), lambda m, b: 0.5),
        r"must return one number.*got 0\.5",
    ),
    "loss of nothing": (lambda: ask(problem("linear").batches(), lambda m, b: None), r"must return one number"),
    "outputs beside the loss": (
        lambda: ask(problem("linear").batches(), lambda m, b: (m(b[0]).mean(), m(b[0]))),
        r"the weight .*must be one number, got a tensor of shape \(7, 3\)",
    ),
    "a word beside the loss": (
        lambda: ask(problem("linear").batches(), lambda m, b: (m(b[0]).mean(), "loss")),
        r"the weight .*must be one number, got str",
    ),
    "detached loss": (
        lambda: ask(problem("linear").batches(8), lambda m, b: m(b[0]).mean().detach()),
        r"does not depend on the selected parameters.*do not detach",
    ),
    "unequal batches without a weight": (
        lambda: ls.Objective(
            problem("linear", "square").model, mean_square, problem("linear", "square").batches()
        ).gradient(),
        r"must return its weight when batches differ in size, got batches of 7 and 6 .*return \(loss, weight\)",
    ),
    "the same, of a product": (
        lambda: ls.Hessian(
            ls.Objective(problem("linear", "square").model, mean_square, problem("linear", "square").batches())
        ).to_dense(),
        r"must return its weight when batches differ in size",
    ),
    "mode": (lambda: ask(problem("linear").batches(), mode="test"), r"mode must be 'eval' or 'train', got test"),
    "seed": (lambda: ask(problem("linear").batches(), seed=-1), r"seed must be a non-negative integer, got -1"),
    "seed, float": (lambda: ask(problem("linear").batches(), seed=0.5), r"seed must be a non-negative integer"),
    "selection": (
        lambda: ask(problem("linear").batches(), params="weigth"),
        r"params= selects no parameter, got 'weigth': .*use names like 'weight'.*a glob needs a star",
    ),
    "selection by expression": (
        lambda: ask(problem("linear").batches(), params=__import__("re").compile("^layer")),
        r"params= selects no parameter, got '\^layer'",
    ),
    "selection by function": (lambda: ask([], params=lambda n, p: False), r"params= selects no parameter"),
    "selection by an empty list": (lambda: ask([], params=[]), r"params= selects no parameter, got '?\[\]'?"),
    "all frozen": (
        lambda: ls.Objective(problem("linear").model.requires_grad_(False), nn.MSELoss(), []),
        r"no trainable parameters, got 2 parameters, none with requires_grad: .*set requires_grad",
    ),
    "no parameters": (lambda: ls.Objective(nn.Tanh(), nn.MSELoss(), []), r"no trainable parameters, got no parameters"),
    "metric": (
        lambda: _objective().evaluate(("loss", "acuracy")),
        r"no such metric, got acuracy; did you mean 'accuracy'\? Known are loss, accuracy, error",
    ),
    "metric, far off": (lambda: _objective().evaluate(("zzz",)), r"no such metric, got zzz; use loss"),
    "no metric": (lambda: _objective().evaluate(()), r"metrics must name at least one, got \(\)"),
    "accuracy of a function": (
        lambda: ls.Objective(problem("linear").model, mean_square, problem("linear", "square").batches(8)).evaluate(
            ("accuracy",)
        ),
        r"accuracy needs a criterion over labels, got the loss mean_square; pass a criterion such as",
    ),
    "point of another length": (lambda: _objective().value(torch.zeros(3)), r"must have 15 entries.*got 3"),
    "point without a parameter": (lambda: _objective().value({"weight": torch.zeros(3, 4)}), r"got none for bias"),
    "point of a wrong shape": (
        lambda: _objective().value({"weight": torch.zeros(4, 3), "bias": torch.zeros(3)}),
        r"weight has shape \(3, 4\), got shape \(4, 3\)",
    ),
    "point of a wrong type": (lambda: _objective().value("last.pt"), r"a flat vector or tensors by .*got str"),
    "all labels ignored": (
        lambda: ask([(torch.ones(2, 4, dtype=torch.float64), torch.full((2,), -100))]),
        r"hold no counted label, got a total weight of 0: .*check ignore_index",
    ),
}


def _objective() -> ls.Objective:
    p = problem("linear")
    return ls.Objective(p.model, p.loss, p.batches())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    do, match = ARGUMENTS[name]
    with harmless():
        refused(do, InputError, match)


def test_all_labels_ignored_everywhere() -> None:
    p = problem("linear")
    nothing = ls.Objective(p.model, p.loss, [(p.inputs, torch.full_like(p.targets, -100))])
    for do in (nothing.value, nothing.gradient, lambda: ls.Hessian(nothing).to_dense()):
        refused(do, InputError, "no counted label")
    weights = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    unweighted = ls.Objective(p.model, nn.CrossEntropyLoss(weight=weights), [(p.inputs, torch.zeros_like(p.targets))])
    refused(unweighted.value, InputError, "no counted label")


# -- losses that are not finite ---------------------------------------------------------------------


@pytest.mark.parametrize("what", [float("nan"), float("inf")])
@pytest.mark.parametrize("sizes", [(7, 6, 3), N])
def test_a_loss_that_is_not_finite(what: float, sizes: Any) -> None:
    p = problem("linear", "square")
    p.inputs[9, 2] = what
    objective = ls.Objective(p.model, p.loss, p.batches(sizes))
    assert not torch.isfinite(objective.value())
    H = ls.Hessian(objective)
    for _ in range(2):
        with harmless(p.model):
            refused(
                lambda: H @ torch.ones(15),
                NonFiniteError,
                rf"not finite at the parameters studied, got {what}: .*check the parameters",
            )
    refused(lambda: H.value, NonFiniteError, "not finite")


def test_only_elsewhere_not_finite() -> None:
    p = problem("linear", "square")
    objective = ls.Objective(p.model, p.loss, p.batches())
    assert torch.isinf(objective.value(objective.vector() * 1e200))
    assert torch.isnan(objective.value(objective.vector() * float("nan")))
    assert torch.isfinite(objective.value())
    refused(lambda: ls.Hessian(objective, at=objective.vector() * 1e200).to_dense(), NonFiniteError, "got inf")


# -- data read anew in every pass ---------------------------------------------------------------------


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "CACHE_LIMIT", 0)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(("model", "loss"), [("convolution", "cross-entropy"), *(("linear", l) for l in LOSSES)])
def test_streaming_equals_cached(model: str, loss: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(model, loss)
    size = 8 if p.equal else 7
    loaders = [
        DataLoader(TensorDataset(p.inputs, p.targets), size),
        DataLoader(TensorDataset(p.inputs, p.targets), size, shuffle=True),
    ]
    for loader in loaders:
        cached = ls.Objective(p.model, p.loss, loader, mode=mode)
        values = [cached.value_and_gradient(), cached.value_and_gradient()]
        with monkeypatch.context() as patch:
            patch.setattr(batches_module, "CACHE_LIMIT", 0)
            streamed = ls.Objective(p.model, p.loss, loader, mode=mode)
            with harmless(p.model, loader=loader):
                values += [streamed.value_and_gradient(), streamed.value_and_gradient()]
            assert streamed.batches._held is None
            torch.rand(1)  # the caller's random numbers are not the loader's
            values.append(streamed.value_and_gradient())
            if "margin" not in loss:
                v = torch.ones(cached.space.n)
                assert torch.equal(ls.Hessian(streamed) @ v, ls.Hessian(cached) @ v)
        for value, gradient in values[1:]:
            assert torch.equal(value, values[0][0])
            assert torch.equal(gradient, values[0][1])
        assert streamed.provenance()["data"]["examples"] == cached.provenance()["data"]["examples"] == N


def test_one_kept_batch_streams_too(streaming: None) -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(N)))
    close(H.to_dense(), truth(p).hessian, 1e-12)


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "noise": lambda x: x + torch.randn(x.shape) * 0.01,
    "flips": coin,
    "shifts": lambda x: x.roll(int(torch.randint(0, 4, ()))),
    "scaling by numpy": lambda x: x * np.random.rand(),  # noqa: NPY002
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_change_between_passes(streaming: None, change: str) -> None:
    """A data set that cannot be asked twice for one example, with random numbers of its own."""
    state = {"torch": torch.random.get_rng_state(), "numpy": np.random.default_rng(0)}

    def draw(x: torch.Tensor) -> torch.Tensor:
        if change == "scaling by numpy":
            return x * state["numpy"].random()
        before = torch.random.get_rng_state()
        torch.random.set_rng_state(state["torch"])
        drawn = CHANGES[change](x)
        state["torch"] = torch.random.get_rng_state()
        torch.random.set_rng_state(before)
        return drawn

    p = problem("linear")
    objective = ls.Objective(p.model, p.loss, DataLoader(Stream(draw), 4))
    objective.value()
    refused(objective.value, DataChangedError, r"two passes over the data differ, got .*augmentation and drop_last off")
    refused(lambda: ls.Hessian(objective).to_dense(), DataChangedError, r"pass list\(loader\)")


def test_data_of_another_length_in_the_next_pass(streaming: None) -> None:
    source = _Reiterable(problem("linear").batches())
    objective = ls.Objective(problem("linear").model, nn.CrossEntropyLoss(), source)
    objective.value()
    source.batches = source.batches[:2]
    refused(objective.value, DataChangedError, r"got 13 examples against 16")


def test_what_is_held_does_not_change() -> None:
    """One draw of the data is a fixed objective, whatever the source does later."""
    p = problem("linear")
    source = _Reiterable(p.batches())
    objective = ls.Objective(p.model, p.loss, source)
    value = objective.value()
    source.batches = []
    assert torch.equal(objective.value(), value)
    loader = DataLoader(Stream(lambda x: x + torch.randn(4)), 4)
    drawn = ls.Objective(p.model, p.loss, list(loader))
    assert torch.equal(drawn.value(), drawn.value())


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_loss_that_edits_its_batch_in_place(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "CACHE_LIMIT", limit)
    p = problem("linear")

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        x, y = batch
        x *= 2
        return nn.functional.cross_entropy(model(x), y), len(y)

    data = [(x.clone(), y) for x, y in p.batches()]
    refused(ls.Objective(p.model, loss, data).value, DataChangedError, r"changes its batch in place.*x = x \* 2")


def test_the_fingerprint_survives_an_interrupted_pass(streaming: None) -> None:
    p = problem("linear")
    whole, broken = (ls.Objective(p.model, p.loss, p.batches()) for _ in range(2))
    whole.value()
    for _ in broken.batches:
        break
    broken.value()
    assert broken.batches.fingerprint == whole.batches.fingerprint != ""


def test_data_with_nan_is_the_same_data(streaming: None) -> None:
    p = problem("linear", "square")
    p.inputs[0, 0] = float("nan")
    objective = ls.Objective(p.model, p.loss, DataLoader(TensorDataset(p.inputs, p.targets), 4))
    assert torch.isnan(objective.value())
    assert torch.isnan(objective.value())


def test_a_criterion_with_a_forward_of_its_own_is_refused() -> None:
    class Focal(nn.CrossEntropyLoss):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            entropy = nn.functional.cross_entropy(input, target, reduction="none")
            return ((1 - torch.exp(-entropy)) ** 2 * entropy).mean()

    with pytest.raises(InputError, match=r"the weight of this criterion's mean is not known, got Focal"):
        ls.Objective(nn.Linear(3, 2), Focal(), [(torch.ones(2, 3), torch.zeros(2, dtype=torch.long))])


def test_a_loader_that_refills_one_buffer_is_read_rightly() -> None:
    x, y = torch.randn(12, 3), torch.arange(12) % 2

    class Refilling:
        def __init__(self) -> None:
            self.x, self.y = torch.empty(4, 3), torch.empty(4, dtype=torch.long)

        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for a, b in zip(x.split(4), y.split(4), strict=True):
                self.x.copy_(a)
                self.y.copy_(b)
                yield self.x, self.y

    model = nn.Linear(3, 2)
    objective = ls.Objective(model, nn.CrossEntropyLoss(), Refilling())
    exact = ls.Objective(model, nn.CrossEntropyLoss(), (x, y)).value()
    for _ in range(3):
        assert float(objective.value()) == pytest.approx(float(exact), rel=1e-6)
