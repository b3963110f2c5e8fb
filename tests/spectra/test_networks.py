"""Eigenvalues of networks, against the dense float64 Hessian."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import landscape as ls


def _network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a 299-parameter network after some training, with its data; in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    assert sum(p.numel() for p in model.parameters()) == 299
    x, y = torch.randn(90, 10).double(), torch.randint(0, 3, (90,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, x, y


def _dense(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Return every eigenvalue of the pooled loss's Hessian, descending, without any code of the package."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([s.numel() for s in shapes])
        state = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, state, (x,)), y)

    hessian = torch.autograd.functional.hessian(loss, flat)
    return torch.linalg.eigvalsh(hessian).flip(0).numpy()


@pytest.mark.parametrize("batch", [7, 90])
def test_eigenvalues_of_a_300_parameter_network_to_1e_6(batch: int) -> None:
    model, x, y = _network()
    truth = _dense(model, x, y)
    objective = ls.Objective(model, nn.CrossEntropyLoss(), list(zip(x.split(batch), y.split(batch), strict=True)))
    top = ls.eigsh(ls.Hessian(objective), k=10)
    low = ls.eigsh(ls.Hessian(objective), k=3, which="SA")
    assert top.ok
    assert low.ok
    assert np.allclose(top.values, truth[:10], rtol=1e-6, atol=0)
    assert np.allclose(low.values, truth[::-1][:3], rtol=1e-6, atol=0)
    assert abs(ls.trace(ls.Hessian(objective), products=64).estimate - truth.sum()) < 0.5 * truth.sum()


def test_float32_eigenvalues_are_as_good_as_float32_allows() -> None:
    model, x, y = _network()
    truth = _dense(model, x, y)
    single = copy.deepcopy(model).float()
    objective = ls.Objective(single, nn.CrossEntropyLoss(), (x.float(), y))
    found = ls.eigsh(ls.Hessian(objective), k=5)
    assert found.ok
    assert np.allclose(found.values, truth[:5], rtol=1e-5, atol=0)
    raised = ls.Objective(single, nn.CrossEntropyLoss(), (x.float(), y), dtype=torch.float64)
    assert np.allclose(ls.eigsh(ls.Hessian(raised), k=5).values, truth[:5], rtol=1e-5)


def test_density_of_a_network_is_near_the_dense_one() -> None:
    model, x, y = _network()
    truth = np.sort(_dense(model, x, y))
    found = ls.spectral_density(ls.Hessian(ls.Objective(model, nn.CrossEntropyLoss(), (x, y))), probes=8, steps=60)
    grid = np.linspace(truth[0], truth[-1], 1000)
    exact = np.searchsorted(truth, grid, side="right") / len(truth)
    assert np.abs(found.cdf(grid) - exact).mean() < 0.01
