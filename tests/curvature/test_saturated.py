"""Labels that the model is all but certain of: curvature in float32 is that in float64, however small."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls

MARGINS = [8.0, 18.0, 30.0]  # losses of about 1e-3, 1e-8 and 1e-13


def _model(margin: float) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.4)
        model[2].bias[3] += margin
    return model, torch.randn(12, 4, generator=g), torch.full((12,), 3)


def _agree(make, model: nn.Module, loss: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    wide = make(ls.Objective(model, loss, data, dtype=torch.float64))
    narrow = make(ls.Objective(model, loss, data))
    block = torch.randn(wide.shape[0], 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, found = wide @ block, (narrow @ block.float()).double()
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())


OPERATORS = {
    "GGN": ls.GGN,
    "GGN, batched": lambda o: ls.GGN(o, columns="batch"),
    "exact": ls.Fisher,
    "mc": lambda o: ls.Fisher(o, kind="mc", samples=2),
    "empirical": lambda o: ls.Fisher(o, kind="empirical"),
}


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("name", OPERATORS)
def test_classes(name: str, margin: float) -> None:
    model, x, y = _model(margin)
    _agree(OPERATORS[name], model, nn.CrossEntropyLoss(), (x, y))


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("name", ["GGN", "exact", "mc"])
def test_bits(name: str, margin: float) -> None:
    model, x, _ = _model(margin)
    with torch.no_grad():
        model[2].bias += margin
    _agree(OPERATORS[name], model, nn.BCEWithLogitsLoss(), (x, torch.ones(12, 5)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_empirical_of_wrong_labels(smoothing: float) -> None:
    """Where the certain class is not the label, its gradient's largest entries are elsewhere."""
    model, x, y = _model(18.0)
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing, weight=torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0]))
    objective = ls.Objective(model, criterion, (x, y - 2), dtype=torch.float64)
    found = ls.Fisher(objective, kind="empirical").to_dense()
    wide = model.double()
    total = torch.zeros_like(found)
    for i in range(12):
        mean = criterion.double()(wide(x[i : i + 1].double()), y[i : i + 1] - 2)
        g = torch.cat([t.reshape(-1) for t in torch.autograd.grad(mean, list(wide.parameters()))])
        total += torch.outer(g, g) / 12
    assert float((found - total).norm()) <= 1e-12 * float(total.norm())
