"""What every loss gives: a numerator, the weight that its mean divides by, and a cut at the model's outputs.

Σ numerators / Σ weights over batches is the same number for any way of batching the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


@dataclass(frozen=True)
class Terms:
    """One batch's part of the objective.

    ``numerator`` is a scalar that can be differentiated, ``weight`` what its mean divides by (0 for a
    sum, which divides by nothing). ``outputs``, ``targets`` and ``criterion`` are there when the loss is
    a torch criterion of the two.
    """

    numerator: torch.Tensor
    weight: torch.Tensor | float
    outputs: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    criterion: nn.Module | None = None


@dataclass(frozen=True)
class Split:
    """A loss cut in two at the model's outputs.

    ``outputs`` are the floating-point tensors that the model returned, with their graph; ``terms`` is the
    loss as a function of such tensors alone. ``criterion`` and ``targets`` are there when the loss is
    this torch criterion of ``outputs[0]`` and ``targets``.
    """

    outputs: list[torch.Tensor]
    terms: Callable[[Sequence[torch.Tensor]], Terms]
    criterion: nn.Module | None = None
    targets: torch.Tensor | None = None


class Loss(Protocol):
    """What the objective asks of a loss."""

    name: str
    reduction: str

    @property
    def criterion(self) -> nn.Module | None:
        """The torch criterion that was given, if one was."""

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one batch."""

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at the model's outputs."""
