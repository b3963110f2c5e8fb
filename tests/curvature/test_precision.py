"""Half, single and double precision: the dtype of vectors, and products within what the format allows."""

from __future__ import annotations

import contextlib

import pytest
import torch

import landscape as ls
from tests.curvature.contract import block
from tests.curvature.operators import OPERATORS, agree
from tests.problems import SIZES, problem
from tests.reference import Dense

#: dtype -> the relative error of a product, some ten roundings
ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}


MODELS = ["linear", "mlp", "convolution", "attention", "adapted"]
KNOWN = [name for name, case in OPERATORS.items() if case.expected]
CASES = [
    (name, dtype, MODELS[(i + j + k) % len(MODELS)])
    for i, name in enumerate(KNOWN)
    for j, dtype in enumerate(ALLOWED)
    for k in (0, 2)
]


@pytest.mark.parametrize(("name", "dtype", "model"), CASES)
def test_products_are_as_good_as_the_format(name: str, dtype: torch.dtype, model: str) -> None:
    case, p = OPERATORS[name], problem(model).to(dtype)
    objective = ls.Objective(p.model, p.loss, p.batches())
    op = case.make(objective)
    V = block(op.shape[1], dtype=torch.float32)
    expected = case.expected(Dense(p, sizes=SIZES), V.double())
    if name == "Hessian, difference" and dtype != torch.float32:
        with contextlib.suppress(ls.errors.InputError):  # refused where rounding swallows the step, else good
            agree(op, op @ V, expected, ALLOWED[dtype])
        return
    product = op @ V
    assert product.dtype == op.dtype == torch.float32
    assert {q.dtype for q in p.model.parameters()} == {dtype}
    agree(op, product, expected, ALLOWED[dtype])
    wide = case.make(ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float64))
    assert (wide @ V).dtype == torch.float64
    agree(wide, wide @ V, expected, 1e-11)


@pytest.mark.parametrize("backend", ["autograd", "forward"])
def test_what_half_precision_cannot_hold_is_said(backend: str) -> None:
    """Torch's second derivative of a layer norm overflows where the variance is small."""
    p = problem("vit").to(torch.float16)
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()), backend=backend)
    with pytest.raises(
        ls.errors.NonFiniteError, match=r"not finite, got NaN .* pass dtype=torch\.float32 to"
    ) as caught:
        H @ block(H.shape[0])
    assert "\n" not in str(caught.value)
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float32), backend=backend)
    agree(H, H @ block(H.shape[0]), Dense(p).hessian_times(block(H.shape[0])), 1e-5)


def test_a_curvature_that_does_not_exist_is_said() -> None:
    """The gradient of |w|^1.5 is finite at 0, its derivative is not."""
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    objective = ls.Objective(model, lambda m, b: (m.weight.abs() ** 1.5).sum() + m(b[0]).mean(), [(torch.ones(3, 2),)])
    assert bool(objective.gradient().isfinite().all())
    with pytest.raises(ls.errors.NonFiniteError, match="as that of a root or a norm at zero; add a small number"):
        ls.Hessian(objective) @ torch.ones(2)
