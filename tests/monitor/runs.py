"""A small training run that can be watched or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

import landscape as ls
from landscape.monitor import Moment

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adam fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-2),
}


class Net(nn.Module):
    """Convolution, batch normalisation and dropout: everything a careless probe would disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1))
        return scores


class Run:
    """A seeded training run; ``train(monitor)`` gives the loss of each step."""

    def __init__(self, optimizer: str = "momentum", steps: int = 12) -> None:
        torch.manual_seed(0)
        self.model = Net()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.95)
        self.criterion = nn.CrossEntropyLoss()
        x, y = torch.randn(48, 1, 6, 6), torch.arange(48) % 3
        generator = torch.Generator().manual_seed(1)
        self.loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True, generator=generator
        )
        self.steps = steps
        self.objective = ls.Objective(self.model, self.criterion, self.loader)

    def batches(self) -> Iterator[Any]:
        """Yield batches over epochs until the steps are done."""
        count = 0
        while True:
            for batch in self.loader:
                if count == self.steps:
                    return
                count += 1
                yield batch

    def train(self, monitor: Any = None, stop: Callable[[int], None] | None = None) -> list[float]:
        """Train and return the losses; ``stop(step)`` may raise."""
        losses = []
        self.model.train()
        with monitor if monitor is not None else nullcontext():
            for step, (x, y) in enumerate(self.batches()):
                loss = self.criterion(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
                self.optimizer.step()
                self.schedule.step()
                losses.append(float(loss.detach()))
                if stop is not None:
                    stop(step)
        return losses


class Given:
    """A metric that returns what it is given."""

    name = "given"

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def __call__(self, moment: Moment) -> Any:
        return self.returned


def quiet(run: Run, monitor: Any, stop: Callable[[int], None] | None = None) -> list[str]:
    """Train, and return the warnings; the losses are those of an unwatched run."""
    plain = Run(steps=run.steps)
    state = torch.get_rng_state()
    expected = plain.train()
    torch.set_rng_state(state)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run.train(monitor, stop) == expected
    return [str(w.message) for w in caught]
