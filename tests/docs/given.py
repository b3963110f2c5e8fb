"""What snippets find ready where a page says so: a small classifier, its data, and a way to train it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def given() -> dict[str, Any]:
    """Return every name that a page may ask for."""
    torch.manual_seed(0)
    inputs = torch.randn(96, 8)
    targets = (inputs[:, :3] + 0.3 * torch.randn(96, 3)).argmax(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=40)  # batches of 40, 40 and 16
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(epochs: int = 10) -> None:
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()

    return {"model": model, "criterion": criterion, "loader": loader, "optimizer": optimizer, "train": train}
