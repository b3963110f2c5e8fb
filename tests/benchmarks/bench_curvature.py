"""Beside other libraries, on one machine and in one run: products, and the work that eigenvalues and traces take.

``make bench`` prints the tables. Nothing is asserted but agreement: a fast wrong answer is no answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from curvlinops import HessianLinearOperator
from pyhessian import hessian as pyhessian
from scipy.sparse.linalg import eigsh as scipy_eigsh
from torch import nn

import landscape as ls
from landscape import eigsh, trace
from tests.benchmarks.timing import seconds, table

EXAMPLES, REPEATS = 512, 5


def _problem() -> tuple[nn.Module, nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.Tanh(),
        nn.Linear(64, 10),
    ).eval()  # fmt: skip
    x, y = torch.randn(EXAMPLES, 1, 8, 8), torch.randint(10, (EXAMPLES,))
    return model, nn.CrossEntropyLoss(), list(zip(x.split(128), y.split(128), strict=True))


def _best(work: Callable[[], Any]) -> float:
    return min(seconds(work) for _ in range(REPEATS))


def test_products() -> None:
    model, criterion, data = _problem()
    objective = ls.Objective(model, criterion, data)
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (
        ls.Hessian(objective),
        HessianLinearOperator(model, criterion, parameters, data, check_deterministic=False),
    )
    v, block = torch.randn(objective.space.n), torch.randn(objective.space.n, 10)
    torch.testing.assert_close(ours @ v, theirs @ v, rtol=1e-3, atol=1e-5)
    gradient = _best(objective.gradient)
    rows = [
        (name, f"{taken * 1e3:.1f}", f"{taken / gradient:.1f}")
        for name, taken in (
            ("gradient, landscape", gradient),
            ("1 product, landscape", _best(lambda: ours @ v)),
            ("1 product, curvlinops", _best(lambda: theirs @ v)),
            ("10 products at once, landscape", _best(lambda: ours @ block)),
            ("10 products at once, curvlinops", _best(lambda: theirs @ block)),
        )
    ]
    table(f"Products, n = {objective.space.n}, 4 batches of 128", ("what", "ms", "gradients"), rows)


def test_largest_eigenvalues() -> None:
    model, criterion, data = _problem()
    objective = ls.Objective(model, criterion, data)
    operator = ls.Hessian(objective)
    began = time.perf_counter()
    ours = eigsh(operator, k=3, which="LM", tol=1e-3)
    our_seconds = time.perf_counter() - began

    counted = ls.Hessian(objective)
    began = time.perf_counter()
    values = scipy_eigsh(counted.to_scipy(), k=3, which="LM", tol=1e-3, return_eigenvectors=False)
    scipy_seconds = time.perf_counter() - began

    began = time.perf_counter()
    power, _ = pyhessian(model, criterion, dataloader=data, cuda=False).eigenvalues(maxIter=200, tol=1e-3, top_n=3)
    power_seconds = time.perf_counter() - began

    assert sorted(abs(ours.values)) == pytest.approx(sorted(abs(values)), rel=1e-2)
    rows = [
        ("landscape eigsh", str(ours.matvecs), f"{our_seconds:.2f}", f"{ours.values[0]:.4f}"),
        ("SciPy eigsh on the same operator", str(counted.matvecs), f"{scipy_seconds:.2f}", f"{max(abs(values)):.4f}"),
        ("PyHessian power iteration", "not counted", f"{power_seconds:.2f}", f"{power[0]:.4f}"),
    ]
    table("Three eigenvalues of largest magnitude, tolerance 1e-3", ("what", "products", "s", "first"), rows)


def test_trace() -> None:
    model, criterion, data = _problem()
    objective = ls.Objective(model, criterion, data)
    began = time.perf_counter()
    ours = trace(ls.Hessian(objective), rtol=0.05)
    our_seconds = time.perf_counter() - began
    began = time.perf_counter()
    samples = pyhessian(model, criterion, dataloader=data, cuda=False).trace(maxIter=200, tol=1e-3)
    their_seconds = time.perf_counter() - began
    theirs = sum(samples) / len(samples)
    rows = [
        ("landscape, rtol 0.05", str(ours.matvecs), f"{our_seconds:.2f}", f"{ours.estimate:.3f} ± {ours.stderr:.3f}"),
        ("PyHessian, tol 1e-3", str(len(samples)), f"{their_seconds:.2f}", f"{theirs:.3f}"),
    ]
    table("Trace", ("what", "products", "s", "estimate"), rows)
