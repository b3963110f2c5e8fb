"""The published case: minima found with small and with large batches, their sharpness and their outliers.

``make bench-minima`` prints the table. Keskar et al., On large-batch training for deep learning (2017),
arXiv:1609.04836: large batches find sharper minima. Sagun et al., Empirical analysis of the Hessian of
over-parametrized neural networks (2017), arXiv:1706.04454: about as many eigenvalues stand out as there are classes.
Both networks start alike, with the same steps of plain gradient descent, and are looked at when they come to the same
loss.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from tests.benchmarks.timing import table
from tests.benchmarks.trained import images

UNSEEN, CLASSES = 1000, 10
RATE, MOST = 0.02, 1500  # the step, epochs
STOPS = (0.5, 0.1)  # losses over all examples
BATCHES = (16, 250)
VALUES = 30


@dataclass
class Minimum:
    """Where training has come to."""

    model: nn.Module
    epochs: int
    steps: int
    loss: float


def network() -> nn.Module:
    """Return two convolutions and two linear layers for images of 16 x 16 pixels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def descend(x: torch.Tensor, y: torch.Tensor, batch: int) -> list[Minimum]:
    """Descend until the loss over all examples is at most each of ``STOPS``."""
    model, epochs, steps, found = network(), 0, 0, []
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for enough in STOPS:
        loss = float("inf")
        while loss > enough and epochs < MOST:
            for rows in torch.randperm(len(x)).split(batch):
                optimizer.zero_grad()
                functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
                steps += 1
            with torch.no_grad():
                loss = float(functional.cross_entropy(model(x), y))
            epochs += 1
        found.append(Minimum(deepcopy(model).eval(), epochs, steps, loss))
    return found


def right(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of examples that are classified as they should be."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def test_minima() -> None:
    name, x, y = images()
    x = functional.avg_pool2d(x, 2)
    seen, unseen = (x[:-UNSEEN], y[:-UNSEEN]), (x[-UNSEEN:], y[-UNSEEN:])
    minima = {
        f"batch {batch}, loss {stop}": minimum
        for batch in BATCHES
        for stop, minimum in zip(STOPS, descend(*seen, batch), strict=True)
    }
    operators = {
        training: ls.Hessian(ls.Objective(minimum.model, nn.CrossEntropyLoss(), [seen]))
        for training, minimum in minima.items()
    }
    pairs = ls.each(ls.eigsh, operators, by="training", k=VALUES, which="LA", tol=1e-3)
    densities = ls.each(ls.spectral_density, operators, by="training", probes=2, steps=80)
    rows = []
    for training, minimum in minima.items():
        top, density = pairs.members[training], densities.members[training]
        found = top.outliers(expected=CLASSES)
        print(f"\n{training}\n{np.array2string(top.values, precision=3)}\n{found}")
        print(density.outliers(expected=CLASSES))
        trained = (
            str(minimum.epochs),
            str(minimum.steps),
            f"{minimum.loss:.4f}",
            f"{right(minimum.model, *unseen):.1%}",
        )
        spectrum = (f"{top.values[0]:.2f}", f"{density.moment(1) * density.n:.1f}", f"{density.cdf([0.0])[0]:.0%}")
        gap = (f"{len(found.values)}: {found.values[-1]:.3g}, {found.edge:.3g}", f"{found.chance:.2g}")
        rows.append((training, *trained, *spectrum, *gap))
    head = ("", "epochs", "steps", "loss", "unseen", "largest", "trace", "at or below 0", "widest gap", "chance")
    title = (
        f"{len(seen[0]):,} images of {name} of 16 x 16 pixels, n = {density.n:,}, {CLASSES} classes, steps of {RATE}"
    )
    table(f"Minima: {title}", head, rows)
    if out := os.environ.get("FIGURES"):
        densities.plot().savefig(Path(out) / "minima.png", dpi=85)
