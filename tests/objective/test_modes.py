"""Selections, wrappers, modes, precisions, and the caller's own contexts."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from tests.harmless import harmless
from tests.problems import SIZES, N, Problem, problem
from tests.reference import close, truth

# -- selection --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (None, ("used.weight", "used.bias", "unused.weight", "unused.bias", "head.weight", "head.bias")),
        ("used.*", ("used.weight", "used.bias")),
        ("*.bias", ("frozen.bias", "used.bias", "unused.bias", "head.bias")),
        ("*used*", ("used.weight", "used.bias", "unused.weight", "unused.bias")),
        ("frozen.weight", ("frozen.weight",)),
        (re.compile(r"^(used|head)\.w"), ("used.weight", "head.weight")),
        (re.compile("bias"), ("frozen.bias", "used.bias", "unused.bias", "head.bias")),
        (lambda name, p: p.ndim == 2 and p.requires_grad, ("used.weight", "unused.weight", "head.weight")),
        (["head.*", "used.bias"], ("used.bias", "head.weight", "head.bias")),
        (iter(["head.bias"]), ("head.bias",)),
    ],
)
def test_selection(params: Any, names: tuple[str, ...]) -> None:
    p = problem("partial")
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, p.batches(), params=params)
        H = ls.Hessian(objective)
        assert objective.space.names == names
        assert tuple(objective.parameters) == names
        expected = truth(p, select=lambda name, _: name in names)
        close(objective.gradient(), expected.gradient, 1e-12)
        close(H.to_dense(), expected.hessian, 1e-12)


def test_unused_parameters_have_zero_rows() -> None:
    p = problem("partial")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    rows = H.to_dense()[H.space.slices["unused.weight"]]
    assert not bool(rows.any())
    assert not bool(H.objective.gradient()[H.space.slices["unused.bias"]].any())


def test_only_unused_parameters_is_an_error() -> None:
    p = problem("partial")
    objective = ls.Objective(p.model, p.loss, p.batches(), params="unused.*")
    close(objective.value(), truth(p, hessian=False).value, 1e-12)
    for ask in (objective.gradient, lambda: ls.Hessian(objective) @ torch.zeros(6)):
        with pytest.raises(ls.errors.InputError, match="does not depend on the selected parameters"):
            ask()


def test_a_batch_that_does_not_use_the_parameters() -> None:
    """As with experts that no example of a batch is sent to."""
    p = problem("linear")

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        x, y = batch
        return (functional.cross_entropy(model(x), y) if len(x) > 4 else torch.ones(())), len(x)

    objective = ls.Objective(p.model, loss, p.batches((7, 6, 3)))
    used = ls.Objective(p.model, p.loss, p.batches((7, 6, 3))[:2])
    close(objective.value(), (used.value() * 13 + 3) / N, 1e-12)
    close(objective.gradient(), used.gradient() * 13 / N, 1e-12)
    close(ls.Hessian(objective).to_dense(), ls.Hessian(used).to_dense() * 13 / N, 1e-12)


# -- wrappers ---------------------------------------------------------------------------------------


class Optimized(nn.Module):
    """What ``torch.compile`` returns, as far as names go."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner

    def forward(self, *_: Any) -> Any:
        raise AssertionError("the wrapper is taken off")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, Optimized, lambda m: Optimized(nn.DataParallel(Optimized(m))), torch.compile],
    ids=["DataParallel", "as torch.compile", "nested", "torch.compile, not run"],
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    p = problem("mlp")
    plain = ls.Objective(p.model, p.loss, p.batches(), params="0.*")
    wrapped = ls.Objective(wrap(p.model), p.loss, p.batches(), params="0.*")
    assert wrapped.space.names == plain.space.names == ("0.weight", "0.bias")
    assert torch.equal(wrapped.gradient(), plain.gradient())
    v = torch.ones(plain.space.n, dtype=torch.float64)
    assert torch.equal(ls.Hessian(wrapped) @ v, ls.Hessian(plain) @ v)


# -- train and eval mode ------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [True, False])
def test_eval_mode_whatever_the_models_flag(flag: bool) -> None:
    p = problem("convolution")
    expected = truth(p)
    p.model.train(flag)
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, p.batches())
        close(objective.value(), expected.value, 1e-12)
        close(ls.Hessian(objective).to_dense(), expected.hessian, 1e-12)


@pytest.mark.parametrize("flag", [True, False])
def test_train_mode_uses_batch_statistics_of_copies(flag: bool) -> None:
    p = problem("convolution")
    p.model.train(flag)
    whole = truth(p, train=True)
    parts = [truth(Problem(p.model, p.loss, x, y), train=True) for x, y in p.batches()]
    with harmless(p.model):
        one = ls.Objective(p.model, p.loss, p.batches(N), mode="train")
        close(one.gradient(), whole.gradient, 1e-12)
        close(ls.Hessian(one).to_dense(), whole.hessian, 1e-12)
        many = ls.Objective(p.model, p.loss, p.batches(), mode="train")
        weights = [size / N for size in SIZES]
        close(many.value(), sum(w * t.value for w, t in zip(weights, parts, strict=True)), 1e-12)
        close(many.gradient(), sum(w * t.gradient for w, t in zip(weights, parts, strict=True)), 1e-12)
        expected = sum(w * t.hessian for w, t in zip(weights, parts, strict=True))
        close(ls.Hessian(many).to_dense(), expected, 1e-12)
        assert torch.equal(many.value(), many.value())
    assert many.provenance()["mode"] == "train"
    assert abs(one.value() - ls.Objective(p.model, p.loss, p.batches(N)).value()) > 1e-3


@pytest.fixture
def dropped() -> Problem:
    p = problem("mlp")
    p.model.insert(2, nn.Dropout(0.5))
    return p


@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
def test_dropout_masks_are_fixed_by_seed_and_batch(dropped: Problem, sizes: Any) -> None:
    p = dropped
    data = p.batches(sizes)
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, data, mode="train")
        H = ls.Hessian(objective)
        V = torch.randn(objective.space.n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        value, product = objective.value(), H @ V
        torch.rand(3, generator=torch.Generator())
        assert torch.equal(objective.value(), value)
        assert torch.equal(objective.value_and_gradient()[0], value)
        assert torch.equal(H @ V, product)
        assert torch.equal(ls.Hessian(objective) @ V, product)
        again = ls.Objective(p.model, p.loss, data, mode="train")
        assert torch.equal(ls.Hessian(again) @ V, product)
        other = ls.Objective(p.model, p.loss, data, mode="train", seed=1)
        assert not torch.equal(other.value(), value)
        inside = ls.Objective(p.model, p.loss, data)
        close(inside.value(), truth(p, hessian=False).value, 1e-12)
        u, w = V.unbind(1)
        close(u @ (H @ w), w @ (H @ u), 1e-12)
    torch.rand(5)  # the caller's own random numbers play no part
    assert torch.equal(objective.value(), value)
    assert torch.equal(H @ V, product)


def test_dropout_gives_the_loss_of_those_masks(dropped: Problem) -> None:
    """A central difference of the gradient along v sees the same masks as the product."""
    p = dropped
    objective = ls.Objective(p.model, p.loss, p.batches(), mode="train")
    at, v = objective.vector(), torch.ones(objective.space.n, dtype=torch.float64)
    step = 1e-5
    difference = (objective.gradient(at + step * v) - objective.gradient(at - step * v)) / (2 * step)
    close(ls.Hessian(objective) @ v, difference, 1e-7)


def test_masks_differ_between_batches(dropped: Problem) -> None:
    p = dropped
    x, y = p.inputs[:1], p.targets[:1]
    one = ls.Objective(p.model, p.loss, [(x, y)], mode="train").value()
    two = ls.Objective(p.model, p.loss, [(x, y), (x, y)], mode="train").value()
    assert one != two


# -- precision and the caller's contexts ----------------------------------------------------------------


def test_bfloat16_models_get_float32_vectors() -> None:
    p = problem("mlp").to(torch.bfloat16)
    objective = ls.Objective(p.model, p.loss, p.batches())
    H = ls.Hessian(objective)
    v = torch.ones(objective.space.n)
    assert objective.vector().dtype == objective.gradient().dtype == (H @ v).dtype == torch.float32
    assert p.model[0].weight.dtype == torch.bfloat16
    expected = truth(p)
    close(objective.value(), expected.value, 2e-2)
    close(objective.gradient(), expected.gradient, 5e-2)
    close(H @ v, expected.hessian @ v.double(), 0.1)
    assert torch.equal(H @ v, H @ v)
    exact = ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float64)
    close(ls.Hessian(exact) @ v, expected.hessian @ v.double(), 1e-12)


def test_a_sum_does_not_overflow_in_half_precision() -> None:
    p = problem("linear", "square")
    p.targets = p.targets * 100
    value = ls.Objective(*_half(p)).value()
    close(value, truth(p, hessian=False).value, 1e-2)


def _half(p: Problem) -> tuple[Any, ...]:
    half = p.to(torch.float16)
    return half.model, half.loss, half.batches(N)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "flash attention only": lambda: torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION),
}


@pytest.mark.parametrize("model", ["mlp", "convolution", "attention"])
@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_callers_contexts_change_nothing(model: str, sizes: Any, context: str) -> None:
    p = problem(model).to(torch.float32)
    objective = ls.Objective(p.model, p.loss, p.batches(sizes))
    H, v = ls.Hessian(objective), torch.ones(objective.space.n)
    value, gradient, product = objective.value(), objective.gradient(), H @ v
    with CONTEXTS[context](), harmless(p.model):
        assert torch.equal(objective.value(), value)
        assert torch.equal(objective.gradient(), gradient)
        assert torch.equal(H @ v, product)  # an operator from outside, used inside
        fresh = ls.Objective(p.model, p.loss, p.batches(sizes))
        inner = ls.Hessian(fresh)
        assert torch.equal(inner @ v, product)
        assert torch.equal(fresh.gradient(fresh.vector()), gradient)
        ones = torch.ones(objective.space.n)  # an inference tensor, in inference mode
        assert torch.equal(inner @ ones, product)
    assert torch.equal(inner @ v, product)  # and the other way round
    assert torch.equal(inner @ ones, product)


@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
def test_data_made_under_inference_mode(sizes: Any) -> None:
    p = problem("mlp")
    with torch.inference_mode():
        data = [(x.clone(), y.clone()) for x, y in p.batches(sizes)]
    objective = ls.Objective(p.model, p.loss, data)
    close(objective.gradient(), truth(p, hessian=False).gradient, 1e-12)
    close(ls.Hessian(objective).to_dense(), truth(p).hessian, 1e-12)


# -- forms of data and of losses ----------------------------------------------------------------------


def test_dictionary_batches_are_not_changed_by_the_loss() -> None:
    p = problem("mlp")
    data = [{"x": x, "y": y} for x, y in p.batches()]

    def loss(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        targets = batch.pop("y")  # as many a training step does
        return functional.cross_entropy(model(batch["x"]), targets), len(targets)

    objective = ls.Objective(p.model, loss, data)
    for _ in range(2):
        close(objective.value(), truth(p, hessian=False).value, 1e-12)
    close(ls.Hessian(objective).to_dense(), truth(p).hessian, 1e-12)
    assert all(list(batch) == ["x", "y"] for batch in data)
    one = ls.Objective(p.model, loss, {"x": p.inputs, "y": p.targets})
    close(one.gradient(), objective.gradient(), 1e-12)


def test_token_means_weigh_by_counted_tokens() -> None:
    """Sequences of unequal length, padded labels: the mean is over counted tokens, not over batches."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, 5, (9, 6), generator=generator)
    lengths = torch.tensor([6, 6, 6, 1, 1, 2, 1, 1, 1])
    labels = torch.where(torch.arange(6) < lengths[:, None], (tokens * 3 + 1) % 5, -100)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.embedding(x)).transpose(1, 2)

    torch.manual_seed(0)
    p = Problem(Tokens().double(), nn.CrossEntropyLoss(), tokens, labels)
    expected = truth(p)
    for sizes in (3, 1, 9):
        objective = ls.Objective(p.model, p.loss, p.batches(sizes))
        close(objective.value(), expected.value, 1e-12)
        close(ls.Hessian(objective).to_dense(), expected.hessian, 1e-12)

    def counted(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = batch
        return functional.cross_entropy(model(x), y), (y != -100).sum()

    close(ls.Objective(p.model, counted, p.batches(3)).gradient(), expected.gradient, 1e-12)


def test_a_batch_without_a_counted_label_counts_nothing() -> None:
    p = problem("mlp", "cross-entropy, ignore_index")
    nothing = (p.inputs[:2], torch.full((2,), -100))

    def counted(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = batch
        return functional.cross_entropy(model(x), y), (y != -100).sum()

    for loss in (p.loss, counted):
        objective = ls.Objective(p.model, loss, [nothing, *p.batches()])
        close(objective.value(), truth(p, hessian=False).value, 1e-12)
        close(objective.gradient(), truth(p, hessian=False).gradient, 1e-12)
        close(ls.Hessian(objective).to_dense(), truth(p).hessian, 1e-12)


@pytest.mark.filterwarnings("ignore:.*broadcasting:UserWarning")
def test_broadcast_targets_count_as_torch_counts_them() -> None:
    p = problem("linear", "square")
    p.targets = p.targets[:, :1]
    close(ls.Objective(p.model, p.loss, p.batches()).value(), truth(p, hessian=False).value, 1e-12)
    column = Problem(nn.Linear(4, 1).double(), nn.MSELoss(), p.inputs, p.targets[:, 0])
    expected = truth(column, hessian=False)  # (n, 1) against (n,): n² elements, of which torch warns
    close(ls.Objective(column.model, column.loss, column.batches(N)).value(), expected.value, 1e-12)


def test_metrics_from_one_pass() -> None:
    p = problem("mlp", "cross-entropy, ignore_index")
    objective = ls.Objective(p.model, p.loss, p.batches())
    got = objective.evaluate(("loss", "accuracy", "error"))
    counted = p.targets != -100
    right = (p.model(p.inputs).argmax(1) == p.targets)[counted].double().mean()
    close(got["accuracy"], right, 1e-12)
    close(got["error"], 1 - right, 1e-12)
    assert torch.equal(got["loss"], objective.value())


def test_subsample_is_a_choice_of_examples() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    with harmless(p.model):
        some, more = objective.subsample(5, seed=3), objective.subsample(9, seed=3)
    rows = [torch.cat([batch[0] for batch in o.batches.held()]) for o in (some, more)]
    assert [len(r) for r in rows] == [5, 9]
    assert (
        {tuple(r.tolist()) for r in rows[0]}
        <= {tuple(r.tolist()) for r in rows[1]}
        <= {tuple(r.tolist()) for r in p.inputs}
    )
    other = ls.Objective(p.model, p.loss, p.batches(5)).subsample(5, seed=3)
    close(other.value(), some.value(), 1e-12)
    close(objective.subsample(1000).value(), objective.value(), 1e-12)
    assert some.provenance()["data"]["examples"] == 5
    with pytest.raises(ls.errors.InputError, match="examples must be at least 1, got 0"):
        objective.subsample(0)


def test_numpy_points() -> None:
    p = problem("linear")
    objective = ls.Objective(p.model, p.loss, p.batches())
    at = objective.vector().numpy() * 2
    close(objective.value(at), objective.value(objective.vector() * 2), 0)
    by_name = {name: np.asarray(t) for name, t in objective.space.unflatten(objective.vector() * 2).items()}
    close(objective.value(by_name), objective.value(at), 0)


class Counting(nn.Module):
    """A layer whose output depends on a buffer that it changes, as spectral normalisation's does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x * self.count


@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
def test_a_buffer_that_counts_passes_does_not_count_ours(sizes: Any) -> None:
    p = problem("linear")
    expected = truth(Problem(nn.Sequential(p.model, Counting()), p.loss, p.inputs, p.targets), hessian=False)
    model = nn.Sequential(p.model, Counting())
    with harmless(model):
        objective = ls.Objective(model, p.loss, p.batches(sizes), mode="train")
        H = ls.Hessian(objective)
        v = torch.ones(objective.space.n)
        for _ in range(2):
            close(objective.value(), expected.value, 1e-12)
            close(objective.gradient(), expected.gradient, 1e-12)
            assert torch.equal(H @ v, ls.Hessian(objective) @ v)


def test_a_point_of_one_parameter_is_a_copy_too() -> None:
    p = problem("linear")
    objective = ls.Objective(p.model, p.loss, p.batches(), params="bias")
    before = objective.point().vector
    value = before.clone()
    p.model.bias.data.add_(1)
    assert torch.equal(before, value)
