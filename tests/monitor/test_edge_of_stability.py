"""Published behaviour, reproduced: full-batch training rises to its optimizer's own edge and hovers there.

Cohen et al. 2021 (arXiv:2103.00065) and 2022 (arXiv:2207.14484), at the scale of scikit-learn's digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import landscape as ls
from landscape.monitor import Sharpness

CASES: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], int]] = {
    "gradient descent": (lambda p: torch.optim.SGD(p, lr=0.3), 1800),
    "heavy ball": (lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9), 1800),
    "Nesterov": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 1800),
    "Adam": (lambda p: torch.optim.Adam(p, lr=3e-4, betas=(0.9, 0.99), eps=1e-7), 1800),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, lr=3e-5, alpha=0.99), 3000),
}


def _loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    """Half the sum of squares, averaged over examples: the papers' scaling, not torch's."""
    x, y = batch
    return 0.5 * ((model(x) - y) ** 2).sum(dim=1).mean(), len(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_training_hovers_at_the_edge_of_its_own_optimizer(name: str) -> None:
    digits = load_digits()
    x = torch.tensor(digits.data[:1000], dtype=torch.float32) / 16
    x = x - x.mean(dim=0)
    y = nn.functional.one_hot(torch.tensor(digits.target[:1000])).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    make, steps = CASES[name]
    optimizer = make(model.parameters())
    objective = ls.Objective(model, _loss, (x, y))
    with ls.Monitor(objective, optimizer, metrics=[Sharpness(tol=1e-3)], every=100) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(model, (x, y))[0].backward()
            optimizer.step()
    data = monitor.result().dataset
    edge = data["edge"].to_numpy()
    start, end = edge[1:4], edge[-4:]
    # from well below (or, for heavy ball, wherever it starts) to within 15 % of the edge, and staying there
    assert np.all((end > 0.85) & (end < 1.2)), (
        f"{name}: ρ ends at {np.round(end, 3)}, having begun at {np.round(start, 3)}"
    )
