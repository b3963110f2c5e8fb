"""Regressions, whose operators are written down: X is the data (N, F), one column of outputs each for C classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls
from tests.curvature.contract import block
from tests.problems import SIZES, C, N, Problem, problem
from tests.reference import close

HESSIANS = {
    "autograd": lambda o: ls.Hessian(o, backend="autograd"),
    "forward": lambda o: ls.Hessian(o, backend="forward"),
}
GGNS = {"GGN": lambda o: ls.GGN(o), "GGN by autograd": lambda o: ls.GGN(o, backend="autograd")}
EXACT = {"Fisher": lambda o: ls.Fisher(o, kind="exact")}
EYE = torch.eye(C, dtype=torch.float64)


def weights_of(p: Problem) -> ls.Objective:
    """Return the objective as a function of the linear layer's weight alone, rows first."""
    return ls.Objective(p.model, p.loss, p.batches(SIZES), params="*weight")


@pytest.mark.parametrize("make", (HESSIANS | GGNS | EXACT).values(), ids=HESSIANS | GGNS | EXACT)
def test_linear_regression(make: object) -> None:
    p = problem("linear", "square")
    close(make(weights_of(p)).to_dense(), torch.kron(EYE, p.inputs.T @ p.inputs) * 2 / (N * C), 1e-13)


@pytest.mark.parametrize("make", (HESSIANS | GGNS | EXACT).values(), ids=HESSIANS | GGNS | EXACT)
def test_logistic_regression(make: object) -> None:
    p = problem("linear", "binary, logits")
    p.loss = nn.BCEWithLogitsLoss()
    q = p.model(p.inputs).sigmoid().detach()
    blocks = [(p.inputs * (q * (1 - q))[:, c : c + 1]).T @ p.inputs for c in range(C)]
    close(make(weights_of(p)).to_dense(), torch.block_diag(*blocks) / (N * C), 1e-13)


@pytest.mark.parametrize("make", (HESSIANS | GGNS | EXACT).values(), ids=HESSIANS | GGNS | EXACT)
def test_softmax_regression(make: object) -> None:
    p = problem("logistic")
    X, q = p.inputs.flatten(1), p.model(p.inputs).softmax(1).detach()
    expected = sum(torch.kron(q[i].diag() - q[i].outer(q[i]), X[i].outer(X[i])) for i in range(N)) / N
    close(make(weights_of(p)).to_dense(), expected, 1e-13)


def test_empirical_fisher_of_softmax_regression() -> None:
    p = problem("logistic", "cross-entropy, class weights")
    X, q = p.inputs.flatten(1), p.model(p.inputs).softmax(1).detach()
    g = [torch.kron(q[i] - EYE[p.targets[i]], X[i]) for i in range(N)]
    w = p.loss.weight[p.targets]
    expected = sum(w[i] * g[i].outer(g[i]) for i in range(N)) / w.sum()
    close(ls.Fisher(weights_of(p), kind="empirical").to_dense(), expected, 1e-13)


def test_gradient_covariance_of_a_linear_function() -> None:
    """The gradient of w·x is x: their covariance is that of the data."""
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False).double()
    objective = ls.Objective(model, lambda m, b: (m(b[0]).mean(), len(b[0])), [(part,) for part in x.split(5)])
    close(ls.GradientCovariance(objective).to_dense(), torch.cov(x.T, correction=0), 1e-13)


def test_jacobian_and_tangent_kernel_of_a_linear_model() -> None:
    p = problem("logistic")
    X = p.inputs.flatten(1)
    objective = ls.Objective(p.model, p.loss, p.batches(N))
    J = torch.stack([torch.kron(EYE[c], x) for x in X for c in range(C)])
    close(ls.Jacobian(objective).to_dense(), J, 1e-14)
    close(ls.Jacobian(objective).T.to_dense(), J.T, 1e-14)
    close(ls.NTK(objective).to_dense(), torch.kron(X @ X.T, EYE), 1e-13)


@pytest.mark.parametrize(
    ("model", "loss"),
    [("logistic", "cross-entropy, class weights"), ("linear", "square"), ("linear", "binary, logits, weighted")],
)
def test_sampled_fisher_is_right_on_average(model: str, loss: str) -> None:
    """Over many seeds the mean of its products is within four standard errors of the exact one, entry by entry."""
    p = problem(model, loss)
    objective = ls.Objective(p.model, p.loss, p.batches())
    V = block(objective.space.n)
    exact = ls.Fisher(objective, kind="exact") @ V
    draws = torch.stack([ls.Fisher(objective, kind="mc", seed=seed) @ V for seed in range(100)])
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - exact).abs() <= 4 * error + 1e-12).all())
    assert float(error.max()) < 0.15 * float(exact.abs().max())
    many = ls.Fisher(objective, kind="mc", samples=100) @ V
    assert float((many - exact).norm()) < 0.5 * float((draws[0] - exact).norm())
