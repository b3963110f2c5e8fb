"""The slow truth: plain torch in float64, all data in one batch, every derivative written out densely."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.problems import Problem


@dataclass
class Truth:
    """Value, gradient (n,) and Hessian (n, n) in the order of ``model.named_parameters()``."""

    value: torch.Tensor
    gradient: torch.Tensor
    hessian: torch.Tensor
    names: list[str]


def truth(
    problem: Problem,
    *,
    hessian: bool = True,
    select: Callable[[str, nn.Parameter], bool] | None = None,
    train: bool = False,
) -> Truth:
    """Differentiate the pooled loss of a deep copy of the model, entry by entry."""
    double = copy.deepcopy(problem).to(torch.float64)
    model = double.model.train(train)
    keep = select or (lambda name, p: p.requires_grad)
    chosen = {name: p.requires_grad_(True) for name, p in model.named_parameters() if keep(name, p)}
    leaves = list(chosen.values())
    with sdpa_kernel(SDPBackend.MATH):
        value = double.pooled(model, double.inputs, double.targets)
        parts = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
        flat = torch.cat([part.reshape(-1) for part in parts])
        rows = []
        for entry in flat if hessian else []:
            if entry.requires_grad:
                row = torch.autograd.grad(entry, leaves, retain_graph=True, materialize_grads=True)
                rows.append(torch.cat([part.reshape(-1) for part in row]))
            else:
                rows.append(torch.zeros_like(flat))
    dense = torch.stack(rows).detach() if rows else torch.zeros(0, 0)
    return Truth(value.detach(), flat.detach(), dense, list(chosen))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> None:
    """Assert that the largest difference is at most ``tolerance`` times the largest entry of ``b``."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape
    error = float((a - b).abs().max())
    scale = float(b.abs().max())
    assert error <= tolerance * max(scale, 1e-3), f"differs by {error:.3g}, largest entry {scale:.3g}"
