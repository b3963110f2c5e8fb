"""A criterion's outputs as rows: one distribution each, or all outputs of one example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError

ENTRIES = 1 << 22  # at a time: what is made of logits on the way stays small beside them

#: Criteria of one distribution over classes each; all others are sums over their outputs' entries.
CATEGORICAL = (nn.CrossEntropyLoss, nn.NLLLoss)


@dataclass(frozen=True)
class Rows:
    """How a tensor of outputs is seen as rows, (rows, entries), and put back."""

    to: Callable[[torch.Tensor], torch.Tensor]
    back: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # rows and the tensor whose shape they get

    def map(self, function: Callable[..., torch.Tensor], outputs: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Apply ``function`` to the rows of ``outputs`` and of ``others`` that are not rows already, some at a time."""
        rows = self.to(outputs)
        given = [self.to(o) if o.shape == outputs.shape else o for o in others]
        count = max(1, ENTRIES // max(1, rows.shape[-1]))
        if len(rows) <= count:
            return self.back(function(rows, *given), outputs)
        result = torch.empty_like(rows)
        for first in range(0, len(rows), count):
            part = slice(first, first + count)
            result[part] = function(rows[part], *(o[part] for o in given))
        return self.back(result, outputs)


def by_class(dim: int) -> Rows:
    """Return the rows that hold one entry a class, ``dim`` being the classes' dimension."""
    return Rows(
        lambda t: t.movedim(dim, -1).reshape(-1, t.shape[dim]),
        lambda rows, t: rows.reshape(t.movedim(dim, -1).shape).movedim(-1, dim),
    )


def by_example(examples: int, dim: int = 0) -> Rows:
    """Return the rows that hold all outputs of one example, ``dim`` being the examples' dimension.

    Tensors that do not have that dimension belong to no example: they are read as 0.
    """

    def to(t: torch.Tensor) -> torch.Tensor:
        return t.movedim(dim, 0).reshape(examples, -1) if has_examples(t, examples, dim) else t.new_zeros(examples, 1)

    def back(rows: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if not has_examples(t, examples, dim):
            return torch.zeros_like(t)
        return rows.reshape(t.movedim(dim, 0).shape).movedim(0, dim)

    return Rows(to, back)


def has_examples(t: torch.Tensor, examples: int, dim: int = 0) -> bool:
    """Whether dimension ``dim`` of ``t`` can be that of ``examples``, with the same number of entries each."""
    return t.ndim > dim and t.shape[dim] % examples == 0


def balanced(rows: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` (r, c), in place, which add up to 0, each by its entry at ``place`` (r,).

    So that entry has as many digits as the others, where it is a difference of numbers that are all but equal.
    """
    at = place.unsqueeze(-1)
    others = rows.scatter_(-1, at, 0)
    return others.scatter_(-1, at, -others.sum(-1, keepdim=True))


def class_dimension(outputs: torch.Tensor) -> int:
    """Return where torch's cross-entropy has the classes."""
    return 1 if outputs.ndim > 1 else 0


def label_weights(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return what each row of a categorical criterion counts in its mean: its label's class weight, 0 if ignored."""
    if targets.is_floating_point():
        return outputs.new_ones(outputs.numel() // outputs.shape[class_dimension(outputs)])
    labels = targets.reshape(-1)
    counted = labels != criterion.ignore_index
    if criterion.weight is None:
        return counted.to(outputs.dtype)
    return criterion.weight.to(outputs)[torch.where(counted, labels, 0)] * counted


def target_mass(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return Σ_c q_c w_c for each row, q being its smoothed target distribution and w the class weights."""
    dim = class_dimension(outputs)
    classes, smoothing = outputs.shape[dim], getattr(criterion, "label_smoothing", 0.0)
    weights = outputs.new_ones(classes) if criterion.weight is None else criterion.weight.to(outputs)
    if targets.is_floating_point():
        q = by_class(dim).to(targets).to(outputs.dtype)
        return ((1 - smoothing) * q + smoothing / classes) @ weights
    counted = (targets.reshape(-1) != criterion.ignore_index).to(outputs.dtype)
    return (1 - smoothing) * label_weights(criterion, outputs, targets) + smoothing * weights.mean() * counted


def normalised_dimension(outputs: torch.Tensor) -> int:
    """Return along which dimension ``outputs`` are logarithms of probabilities that add up to 1."""
    candidates = dict.fromkeys((class_dimension(outputs), outputs.ndim - 1))
    tolerance = 100 * torch.finfo(outputs.dtype).eps ** 0.5
    for dim in candidates:
        if bool((outputs.logsumexp(dim).abs() <= tolerance).all()):
            return dim
    raise InputError(
        "a loss of log-probabilities needs outputs whose exponentials add up to 1",
        got="outputs that are not normalised",
        why="the curvature of the probabilities that they stand for is not defined",
        fix="end the model in nn.LogSoftmax, or use nn.CrossEntropyLoss on its logits",
    )
