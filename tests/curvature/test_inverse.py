"""Inverse products against dense solves, with the residual they promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import landscape as ls
from landscape.curvature import InverseFisher, LinearOperator, aslinearoperator
from landscape.space import Space
from tests.curvature.contract import block, keeps_its_promises
from tests.problems import problem
from tests.reference import close, truth

N = 30


def spectrum(low: float, high: float, n: int = N, seed: int = 0) -> torch.Tensor:
    """A dense matrix with eigenvalues evenly spaced on a log scale."""
    Q = torch.linalg.qr(block(n, n, seed=seed)).Q
    A = Q @ torch.diag(torch.logspace(0, 1, n, base=high / low, dtype=torch.float64) * low) @ Q.T
    return (A + A.T) / 2


def residuals(A: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (A.double() @ x.double() - b.double()).norm(dim=0) / b.double().norm(dim=0)


SCALES = [
    (dtype, scale, size)
    for dtype in (torch.float64, torch.float32)
    for scale in (1.0, 1e-30, 1e30)
    for size in (1.0, 1e-30, 1e30)
    if dtype is torch.float64 or 1e-31 < size / scale < 1e31  # the solution is within the range of the dtype
]


@pytest.mark.parametrize(("dtype", "scale", "size"), SCALES)
def test_the_residual_is_as_stated_at_any_scale(dtype: torch.dtype, scale: float, size: float) -> None:
    A = (spectrum(1, 100) * scale).to(dtype)
    b = block(N, 4) * size
    b[:, 1] = 0
    b = b.to(dtype)
    op = aslinearoperator(A, psd=True)
    inverse = op.inverse()
    x = inverse @ b
    assert x.dtype == dtype
    assert not bool(x[:, 1].any())
    tol = 1e-6 if dtype is torch.float64 else 1e-4
    kept = [0, 2, 3]
    found = residuals(A / scale, x[:, kept].double() * (scale / size), b[:, kept].double() / size)
    assert bool((found <= 1.01 * tol).all())
    assert torch.allclose(torch.tensor(inverse.residuals, dtype=torch.float64)[kept], found, rtol=0.1, atol=1e-9)
    assert inverse.residuals[1] == 0
    if dtype is torch.float64:
        close(x * (scale / size), torch.linalg.solve(A / scale, b / size), 1e-4)


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-12])
def test_the_tolerance_is_met_and_more_costs_more(tol: float) -> None:
    A, b = spectrum(1, 1e4), block(N, 3)
    op = aslinearoperator(A, psd=True)
    x = op.inverse(tol=tol) @ b
    assert bool((residuals(A, x, b) <= 1.01 * tol).all())
    loose = aslinearoperator(A, psd=True)
    loose.inverse(tol=0.1) @ b
    assert loose.matvecs < op.matvecs


def test_promises_of_an_operator() -> None:
    A = spectrum(0.1, 10, 8)
    space = Space.of({"w": torch.empty(2, 3, dtype=torch.float64), "b": torch.empty(2, dtype=torch.float64)})
    op = aslinearoperator(A, space, psd=True).inverse(tol=1e-14)
    assert op.symmetric
    assert op.psd
    keeps_its_promises(op, torch.linalg.inv(A), 1e-10)
    indefinite = aslinearoperator(A - torch.eye(8, dtype=torch.float64), space).inverse(damping=1.0, tol=1e-14)
    assert not indefinite.psd  # not known to be
    keeps_its_promises(indefinite, torch.linalg.inv(A), 1e-10)
    assert indefinite.provenance()["operator"] == "(Tensor[8x8] + I)^-1"
    assert op.provenance()["inverse"] == {"method": "conjugate gradients", "tol": 1e-14, "damping": 0.0}


def test_columns_that_are_done_cost_nothing_more() -> None:
    A = torch.diag(torch.arange(1.0, N + 1, dtype=torch.float64))
    op = aslinearoperator(A, psd=True)
    b = torch.zeros(N, 3, dtype=torch.float64)
    b[0, 0] = b[1, 1] = 1  # eigenvectors: one step each, and one product to verify
    op.inverse() @ b
    assert op.matvecs == 4


@pytest.mark.parametrize("cond", [1e3, 1e8])
def test_drift_between_residuals_is_noticed(cond: float) -> None:
    A = spectrum(1 / cond, 1.0)
    b = A @ block(N, 2)
    x = aslinearoperator(A, psd=True).inverse(tol=1e-10, max_products=3000) @ b
    assert bool((residuals(A, x, b) <= 1.01e-10).all())


def test_a_hessian_step() -> None:
    p = problem("tied")
    objective = ls.Objective(p.model, p.loss, p.batches())
    H = ls.Hessian(objective)
    dense = truth(p).hessian
    shift = 0.1 - float(torch.linalg.eigvalsh(dense)[0])
    g = objective.gradient()
    step = H.inverse(damping=shift) @ objective.space.unflatten(g)
    expected = torch.linalg.solve(dense + shift * torch.eye(len(g), dtype=torch.float64), g)
    close(objective.space.flatten(step), expected, 1e-4)
    with pytest.raises(ls.errors.InputError, match=r"not positive definite, got a direction of curvature -") as caught:
        H.inverse() @ g
    assert "\n" not in str(caught.value)


# -- failures -----------------------------------------------------------------------------------------


def indefinite() -> torch.Tensor:
    A = spectrum(1, 10)
    return A - 2 * torch.eye(N, dtype=torch.float64)


def test_negative_curvature() -> None:
    A = indefinite()
    lowest = float(torch.linalg.eigvalsh(A)[0])
    op = aslinearoperator(A)
    with pytest.raises(ls.errors.InputError, match=r"not positive definite.*raise damping by more than .*GGN"):
        op.inverse(tol=1e-12) @ block(N, 2)
    b = block(N, 2)
    x = op.inverse(damping=0.1 - lowest) @ b
    assert bool((residuals(A + (0.1 - lowest) * torch.eye(N, dtype=torch.float64), x, b) <= 1e-6).all())
    with pytest.raises(ls.errors.InputError, match="not positive definite"):
        aslinearoperator(-torch.eye(3)).inverse() @ torch.ones(3)


def test_a_singular_operator() -> None:
    G = block(5, N)
    A = G.T @ G
    op = aslinearoperator(A, psd=True)
    within = A @ block(N, 2)
    assert bool((residuals(A, op.inverse() @ within, within) <= 1e-6).all())
    for dtype in (torch.float64, torch.float32):
        single = aslinearoperator(A.to(dtype), psd=True)
        with pytest.raises(ls.errors.NotConvergedError, match=r"1 of 1 inverse products .*singular .*; raise damping"):
            single.inverse() @ block(N, 1)[:, 0]
    with pytest.raises(ls.errors.NotConvergedError, match="singular"):
        aslinearoperator(torch.zeros(3, 3), psd=True).inverse() @ torch.ones(3)


def test_too_few_products() -> None:
    A, b = spectrum(1e-4, 1.0), block(N, 2)
    op = aslinearoperator(A, psd=True)
    with pytest.raises(
        ls.errors.NotConvergedError, match=r"2 of 2 .* 1e-06, got .* after 10 products; raise"
    ) as caught:
        op.inverse(max_products=10) @ b
    assert op.matvecs == 20
    assert "\n" not in str(caught.value)
    inverse = op.inverse(max_products=10, on_failure="warn")
    with pytest.warns(RuntimeWarning, match="did not reach the relative residual 1e-06"):
        x = inverse @ b
    torch.testing.assert_close(residuals(A, x, b).tolist(), inverse.residuals, rtol=1e-6, atol=0)


def test_single_precision_has_its_limit() -> None:
    A = spectrum(1e-2, 1.0).float()
    with pytest.raises(ls.errors.NotConvergedError, match=r"float32 makes the products no more exact.*use float64"):
        aslinearoperator(A, psd=True).inverse(tol=1e-9) @ torch.ones(N)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda A: aslinearoperator(block(3, 4)).inverse(), r"need a symmetric operator, got Matrix; solve the normal"),
        (lambda A: A.inverse(-1.0), r"damping must be a finite number, at least 0, got -1\.0"),
        (lambda A: A.inverse(float("nan")), r"damping must be a finite number"),
        (lambda A: A.inverse(tol=0.0), r"tol must be positive"),
        (lambda A: A.inverse(max_products=1), r"max_products must be at least 2"),
        (lambda A: A.inverse(on_failure="ignore"), r"on_failure must be 'raise' or 'warn', got ignore"),
    ],
)
def test_refusals(wrong: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ls.errors.InputError, match=words):
        wrong(aslinearoperator(spectrum(1, 2)))


def test_numbers_that_are_not_finite() -> None:
    op = aslinearoperator(spectrum(1, 2), psd=True)
    with pytest.raises(ls.errors.NonFiniteError, match="right-hand side is not finite"):
        op.inverse() @ torch.full((N,), torch.nan)
    A = spectrum(1, 2)
    A[3, 3] = torch.nan
    with pytest.raises(ls.errors.NonFiniteError, match="product of the operator is not finite"):
        aslinearoperator(A, symmetric=True).inverse() @ torch.ones(N)


# -- the inverse empirical Fisher --------------------------------------------------------------------------


def fisher(gradients: torch.Tensor, damping: float) -> torch.Tensor:
    wide = gradients.double()
    return damping * torch.eye(wide.shape[1], dtype=torch.float64) + wide.T @ wide / len(wide)


@pytest.mark.parametrize(("m", "n"), [(12, 80), (1, 5), (40, 7), (6, 6)])
def test_equals_a_dense_solve(m: int, n: int) -> None:
    gradients = block(m, n, seed=3)
    op = InverseFisher(gradients, damping=0.05)
    expected = torch.linalg.inv(fisher(gradients, 0.05))
    keeps_its_promises(op, expected, 1e-11)
    close(op.diagonal(), expected.diagonal(), 1e-11)
    g = block(n, 1)[:, 0]
    assert op.newton_decrement(g) == pytest.approx(float((g @ expected @ g).sqrt()), rel=1e-10)
    facts = {"operator": "inverse empirical Fisher", "gradients": m, "window": m, "damping": 0.05}
    assert op.provenance() == facts


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sliding_window_equals_a_rebuild(dtype: torch.dtype) -> None:
    gradients = block(25, 40, dtype=dtype, seed=4)
    op = InverseFisher((), damping=0.1, space=InverseFisher(gradients[:1], 0.1).space, window=8)
    assert len(op) == 0
    v = block(40, 2, dtype=dtype)
    close(op @ v, 10 * v, 1e-6)
    for count, gradient in enumerate(gradients, 1):
        op.push(gradient)
        last = gradients[max(0, count - 8) : count]
        assert len(op) == len(last)
        close(op @ v, InverseFisher(last, 0.1) @ v, 1e-12 if dtype is torch.float64 else 1e-6)
        close(op @ v, torch.linalg.solve(fisher(last, 0.1), v.double()), 1e-12 if dtype is torch.float64 else 1e-5)


def test_gradients_may_come_one_by_one() -> None:
    gradients = block(25, 40, seed=4)
    op = InverseFisher((g for g in gradients), damping=0.1, window=8)
    assert (len(op), op.window) == (8, 8)
    v = block(40, 2)
    close(op @ v, InverseFisher(gradients[-8:], 0.1) @ v, 1e-12)


def test_duplicates_zeros_and_scales() -> None:
    g = block(1, 20, seed=5)
    same = g.expand(6, 20)
    close(InverseFisher(same, 1e-3) @ torch.eye(20), torch.linalg.inv(fisher(g, 1e-3)), 1e-11)
    nothing = InverseFisher(torch.zeros(3, 5, dtype=torch.float64), 0.5)
    close(nothing.to_dense(), 2 * torch.eye(5, dtype=torch.float64), 1e-15)
    for scale in (1e-30, 1e30):
        op = InverseFisher(block(4, 20) * scale, scale**2)
        close(op.to_dense() * scale**2, torch.linalg.inv(fisher(block(4, 20), 1.0)), 1e-11)


def test_single_precision() -> None:
    gradients = block(10, 300, dtype=torch.float32, seed=6)
    op = InverseFisher(gradients, 0.01)
    v = block(300, 2, dtype=torch.float32)
    assert (op @ v).dtype == torch.float32
    close(op @ v, torch.linalg.solve(fisher(gradients, 0.01), v.double()), 1e-6)


def test_gradients_of_examples_by_name() -> None:
    p = problem("mlp")
    pairs = p.batches(1)
    objectives = [ls.Objective(p.model, p.loss, [pair]) for pair in pairs]
    space = objectives[0].space
    op = InverseFisher([space.unflatten(o.gradient()) for o in objectives], 0.1, space=space)
    assert isinstance(op, LinearOperator)
    gradients = torch.stack([o.gradient() for o in objectives])
    g = gradients.mean(0)
    expected = torch.linalg.solve(fisher(gradients, 0.1), g)
    close(space.flatten(op @ space.unflatten(g)), expected, 1e-11)
    assert op.newton_decrement(space.unflatten(g)) == pytest.approx(float((g @ expected).sqrt()), rel=1e-10)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: InverseFisher(torch.ones(2, 3), 0.0), r"damping must be a positive number, got 0\.0: .*singular"),
        (lambda: InverseFisher((), 0.1, window=3), r"space of the gradients is not known.*objective\.space"),
        (lambda: InverseFisher([{"w": torch.ones(2)}], 0.1), r"space of the gradients is not known"),
        (lambda: InverseFisher(torch.ones(2, 3), 0.1, window=0), r"at least one gradient, got 0"),
        (lambda: InverseFisher(torch.ones(2, 3), 0.1).push(torch.ones(4)), r"must have 3 entries"),
        (lambda: InverseFisher(torch.ones(2, 3), 0.1).push(torch.full((3,), torch.inf)), r"a gradient is not finite"),
    ],
)
def test_window_refusals(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(ls.errors.LandscapeError, match=words):
        wrong()
