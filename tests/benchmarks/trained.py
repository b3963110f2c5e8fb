"""The networks whose spectra are measured: trained for a while, on real images and real text, the same each time.

``CIFAR=cifar10-5k.npz`` names a file with ``x_train`` (n, 3, 32, 32) and ``y_train`` (n,), both uint8. Without it the
images are scikit-learn's digits, enlarged. The text is Python's own help topics.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from tests.benchmarks.networks import GPT, Data, resnet

Tensor = torch.Tensor

VOCABULARY, LENGTH, LETTERS = 128, 128, 60_000


@dataclass(frozen=True)
class Trained:
    """A trained model in eval mode, and the one batch that its curvature is measured on."""

    name: str
    model: nn.Module
    data: Data
    loss: float

    @property
    def n(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def title(self) -> str:
        """Name, size and loss, for the title of a table."""
        return f"{self.name}, n = {self.n:,}, loss {self.loss:.3f}"


@cache
def images() -> tuple[str, Tensor, Tensor]:
    """Return where the images are from, the images (n, 3, 32, 32), of mean 0 and variance 1, and their classes."""
    where = os.environ.get("CIFAR", "")
    if where:
        with np.load(Path(where)) as file:
            x, y = torch.from_numpy(file["x_train"]).float(), torch.from_numpy(file["y_train"]).long()
        name = "CIFAR"
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        small = torch.from_numpy(digits.images).float()[:, None]
        x, y = functional.interpolate(small, size=32, mode="bilinear").repeat(1, 3, 1, 1), torch.tensor(digits.target)
        name = "digits (CIFAR= names no file)"
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    return name, x, y


@cache
def text() -> Tensor:
    """Return the first letters of Python's help topics, as ASCII codes."""
    from pydoc_data.topics import topics

    letters = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")[:LETTERS]
    return torch.tensor(list(letters))


def fit(
    model: nn.Module, x: Tensor, y: Tensor, *, batch: int, epochs: int, rate: float, optimizer: str = "adam"
) -> nn.Module:
    """Train with a rate that falls to zero along a cosine; return the model in eval mode."""
    made: torch.optim.Optimizer
    if optimizer == "adam":
        made = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    else:
        made = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    count = len(x) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, epochs * count)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for rows in order[: count * batch].split(batch):
            made.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            made.step()
            schedule.step()
    return model.eval()


def _measured(name: str, model: nn.Module, data: Data) -> Trained:
    with torch.no_grad():
        loss = sum(float(functional.cross_entropy(model(x), y)) for x, y in data) / len(data)
    for p in model.parameters():
        p.grad = None
    return Trained(name, model, data, loss)


@cache
def trained_resnet(examples: int = 256, epochs: int = 20) -> Trained:
    """Return ResNet-20, trained on the images that its curvature is then measured on."""
    torch.manual_seed(0)
    name, x, y = images()
    x, y = x[:examples], y[:examples]
    model = fit(resnet(), x, y, batch=32, epochs=epochs, rate=3e-3)
    return _measured(f"ResNet-20, {examples} images of {name}", model, [(x, y)])


def _rows(length: int) -> tuple[Tensor, Tensor]:
    """Return overlapping rows of the text, and the letters that follow each letter."""
    letters = text()
    x, y = (letters[i : len(letters) - 1 + i].unfold(0, length, length // 2).contiguous() for i in range(2))
    return x, y


@cache
def trained_gpt(rows: int = 8) -> Trained:
    """Return a GPT of 4 layers, trained on text, and the first rows of that text."""
    torch.manual_seed(0)
    x, y = _rows(LENGTH)
    model = fit(GPT(VOCABULARY, LENGTH), x, y, batch=16, epochs=3, rate=2e-3)
    return _measured(f"GPT, 4 layers, {rows} rows of {LENGTH} letters", model, [(x[:rows], y[:rows])])


@cache
def large_resnet(device: str = "cuda", size: int = 128, examples: int = 64) -> Trained:
    """Return residual blocks with about as many parameters as ResNet-50, after some training on enlarged images."""
    torch.manual_seed(0)
    name, x, y = images()
    x, y = functional.interpolate(x[:examples], size=size, mode="bilinear").to(device), y[:examples].to(device)
    model = resnet((64, 128, 256, 512), (3, 4, 6, 4), 1000).to(device)
    fit(model, x, y, batch=32, epochs=20, rate=1e-3)
    return _measured(f"ResNet-50-sized, {examples} images of {name}", model, [(x, y)])


@cache
def large_gpt(device: str = "cuda", rows: int = 8) -> Trained:
    """Return a GPT of 12 layers, after some training on text."""
    torch.manual_seed(0)
    x, y = (part[: 64 * rows].to(device) for part in _rows(512))
    model = GPT(50257, 1024, layers=12, width=768, tied=True).to(device)
    fit(model, x, y, batch=rows, epochs=2, rate=3e-4)
    return _measured(f"GPT, 12 layers, {rows} rows of 512 letters", model, [(x[:rows], y[:rows])])


@cache
def trained_small() -> Trained:
    """Return a network of about 3,000 parameters on small grey images: its dense Hessian takes seconds."""
    torch.manual_seed(0)
    name, x, y = images()
    x, y = functional.avg_pool2d(x[:512].mean(1), 4), y[:512]
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 36), nn.Tanh(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 10)
    )  # fmt: skip
    fit(model, x, y, batch=32, epochs=40, rate=5e-3)
    return _measured(f"perceptron, 512 images of {name}", model, [(x, y)])


@cache
def dense() -> Tensor:
    """Return the Hessian of ``trained_small()`` as a matrix, in float64."""
    trained = trained_small()
    operator = ls.Hessian(ls.Objective(trained.model, nn.CrossEntropyLoss(), trained.data, dtype=torch.float64))
    matrix = operator @ torch.eye(trained.n, dtype=torch.float64)
    return (matrix + matrix.T) / 2
