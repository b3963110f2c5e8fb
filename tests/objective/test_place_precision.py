"""Half precision: models in 16 bits, autocast, and parameters that are not real numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import truth

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
#: what rounding to 8 and 11 binary digits allows, for values, gradients and products of these small models
BOUNDS = {"bfloat16": (2e-2, 6e-2, 0.15), "float16": (2e-3, 1e-2, 2e-2)}


def _off(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b).norm() / b.norm())


@pytest.mark.parametrize("loss", ["cross-entropy", "cross-entropy, sum", "square", "custom, weighted"])
@pytest.mark.parametrize("model", ["mlp", "attention", "convolution"])
@pytest.mark.parametrize("kind", HALF)
def test_16_bit_models_agree_with_64_bits(kind: str, model: str, loss: str) -> None:
    p = problem(model, loss).to(HALF[kind])
    expected = truth(p)  # of the rounded parameters and data
    with harmless(p.model):
        objective = ls.Objective(p.model, p.loss, p.batches())
        objective.check_deterministic()
        value, gradient = objective.value_and_gradient()
        v = torch.ones(objective.space.n)
        product = ls.Hessian(objective) @ v
    assert (value.dtype, gradient.dtype, product.dtype) == (torch.float64, torch.float32, torch.float32)
    assert objective.provenance()["dtype"] == kind
    for found, true, bound in zip(
        (value, gradient, product), (expected.value, expected.gradient, expected.hessian @ v.double()), BOUNDS[kind],
        strict=True,
    ):  # fmt: skip
        assert _off(found, true) < bound


@pytest.mark.parametrize("kind", HALF)
def test_autocast_is_torchs_own(kind: str) -> None:
    p = problem("mlp").to(torch.float32)
    objective = ls.Objective(p.model, p.loss, p.batches(16), autocast=HALF[kind])
    p.model.zero_grad()
    with torch.autocast("cpu", dtype=HALF[kind]):
        loss = p.loss(p.model(p.inputs), p.targets)
    loss.backward()
    expected = torch.cat([q.grad.reshape(-1) for q in p.model.parameters() if q.grad is not None])
    with harmless(p.model):
        value, gradient = objective.value_and_gradient()
        v = torch.ones(objective.space.n)
        product = ls.Hessian(objective) @ v
    torch.testing.assert_close(value.float(), loss.detach())
    torch.testing.assert_close(gradient, expected)
    plain = ls.Objective(p.model, p.loss, p.batches(16))
    assert value != plain.value()
    true = truth(p).hessian @ v.double()
    assert _off(product, true) < BOUNDS[kind][2]
    assert objective.provenance()["autocast"] == kind
    assert "autocast" not in plain.provenance()
    assert repr(objective).endswith(f"autocast=torch.{kind})")
    assert "autocast" not in repr(plain)


def test_the_callers_autocast_plays_no_part() -> None:
    p = problem("mlp").to(torch.float32)
    plain = ls.Objective(p.model, p.loss, p.batches())
    half = ls.Objective(p.model, p.loss, p.batches(), autocast=torch.bfloat16)
    expected = [o.gradient() for o in (plain, half)]
    with torch.autocast("cpu", dtype=torch.float16), harmless(p.model):
        for objective, gradient in zip((plain, half), expected, strict=True):
            assert torch.equal(objective.gradient(), gradient)


def test_autocast_keeps_no_casts() -> None:
    """With torch's cache of casts a second pass could see the weights of the first."""
    p = problem("mlp").to(torch.float32)
    objective = ls.Objective(p.model, p.loss, p.batches(), autocast=torch.bfloat16)
    far = objective.vector() + 1
    a, b = objective.gradient(), objective.gradient(far)
    other = ls.Objective(p.model, p.loss, p.batches(), autocast=torch.bfloat16)
    assert torch.equal(other.gradient(far), b)
    assert torch.equal(other.gradient(), a)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, "bfloat16"])
def test_autocast_to_other_types_is_refused(dtype: object) -> None:
    p = problem("mlp")
    with pytest.raises(ls.errors.InputError, match="autocast must be a 16-bit dtype"):
        ls.Objective(p.model, p.loss, p.batches(), autocast=dtype)  # type: ignore[arg-type]


class Wave(nn.Module):
    """A model with a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.head = nn.Linear(4, 3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((x * self.phase).abs())


@pytest.mark.parametrize("params", [None, "*", "phase", lambda name, p: "p" in name])
def test_complex_parameters_are_refused(params: object) -> None:
    p = problem("mlp")
    with pytest.raises(ls.errors.InputError, match=r"must be real, got phase of torch\.complex128"):
        ls.Objective(Wave(), p.loss, p.batches(), params=params)  # type: ignore[arg-type]


def test_complex_parameters_may_be_left_out() -> None:
    p = problem("mlp")
    model = Wave()
    objective = ls.Objective(model, p.loss, p.batches(16), params="head.*")
    p.loss(model(p.inputs), p.targets).backward()
    expected = torch.cat([q.grad.reshape(-1) for q in model.head.parameters() if q.grad is not None])
    torch.testing.assert_close(objective.gradient(), expected)
