"""The slow truth: one backward pass an example by torch alone, and the formulas written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import landscape as ls
from tests.problems import Problem


def gradients(problem: Problem) -> np.ndarray:
    """Return the gradient of each example's own loss (m, n)."""
    rows = []
    model = problem.model.eval()
    leaves = [p for p in model.parameters() if p.requires_grad]
    for x, y in zip(problem.inputs, problem.targets, strict=True):
        loss = problem.pooled(model, x[None], y[None])
        parts = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, parts, strict=True)]
        rows.append(torch.cat([g.reshape(-1) for g in flat]).numpy())
    return np.array(rows)


def statistics(g: np.ndarray) -> dict[str, float]:
    """Return the quantities of equally weighted gradients (m, n), by covariances."""
    m = len(g)
    noise = float(np.trace(np.atleast_2d(np.cov(g, rowvar=False))))
    signal = float(g.mean(0) @ g.mean(0)) - noise / m
    coherence = float(g.sum(0) @ g.sum(0) / (g * g).sum())
    return {
        "coherence": coherence,
        "alpha": coherence / m,
        "diversity": 1 / coherence,
        "gradient_norm2": signal,
        "noise_trace": noise,
        "noise_scale": noise / signal if signal > 0 else float("nan"),
        "gsnr": signal / noise,
    }


def with_gradients(rows: Any, batch: int = 64, names: dict[str, int] | None = None) -> ls.Objective:
    """Return an objective whose example gradients are exactly ``rows`` (m, n): its loss is linear."""
    g = torch.as_tensor(rows, dtype=torch.float64)
    model = Linear(names or {"weight": g.shape[1]})
    return ls.Objective(model, linear_loss, [(part,) for part in g.split(batch)])


class Linear(nn.Module):
    """An inner product with the parameters, which are several vectors."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(size, dtype=torch.float64)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.cat(list(self.parameters()))


def linear_loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
    """Return the mean of the model's outputs and the number of examples."""
    return model(batch[0]).mean(), float(len(batch[0]))
