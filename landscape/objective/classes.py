"""The same loss over the examples of one class at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from landscape.errors import InputError
from landscape.objective.batches import Batches
from landscape.objective.examples import divisible
from landscape.objective.losses import CriterionLoss
from landscape.objective.pieces import adds_up
from landscape.objective.sources import batch_size

if TYPE_CHECKING:
    from landscape.objective.objective import Objective
    from landscape.objective.point import Batch


class OfClass:
    """The examples of one class in the ``(inputs, targets)`` batches of others; no copy of them is held."""

    def __init__(self, batches: Batches, label: int) -> None:
        self.batches, self.label = batches, label
        # where the samplers' generators are looked for
        for name in ("generator", "sampler", "batch_sampler"):
            setattr(self, name, getattr(batches.source, name, None))

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            rows = batch[1] == self.label
            if bool(rows.any()):
                yield tree_map(lambda leaf, rows=rows: leaf[rows] if isinstance(leaf, torch.Tensor) else leaf, batch)


def by_class(objective: Objective) -> dict[int, Objective]:
    """Return the objectives over the examples of each counted class; see :meth:`Objective.by_class`."""
    if objective.mode == "train":
        raise InputError("classes can be told apart in eval mode only", got="mode='train'",
                         why="with batch statistics or dropout a class's loss depends on the other examples",
                         fix="pass mode='eval'")  # fmt: skip
    if objective.regularizer is not None and objective.loss.reduction == "sum":
        raise InputError("a summed loss with a regularizer cannot be split by class", got=objective.regularizer.name,
                         why="each class would carry all of it", fix="leave regularizer= out")  # fmt: skip
    found: dict[int, Objective] = {}
    for label in _labels(objective):
        found[label] = copy.copy(objective)
        found[label].batches = Batches(OfClass(objective.batches, label), objective.device, None, "none")
    return found


def _labels(objective: Objective) -> list[int]:
    """Return the labels that count, ascending; one pass over the data."""
    labels: set[int] = set()
    with objective.session(grad=False):
        for batch in objective.iterate(objective.point()):
            _check(batch, objective)
            labels.update(batch.data[1].unique().tolist())
    criterion: Any = objective.loss.criterion
    weight = getattr(criterion, "weight", None)
    if hasattr(criterion, "ignore_index"):
        labels.discard(criterion.ignore_index)
        labels = {label for label in labels if weight is None or float(weight[label]) != 0}
    return sorted(labels)


def _check(batch: Batch, objective: Objective) -> None:
    """Refuse a batch whose examples have no class each."""
    data = batch.data
    pair = isinstance(objective.loss, CriterionLoss) and isinstance(data, Sequence) and len(data) == 2
    targets = data[1] if pair else None
    if not isinstance(targets, torch.Tensor) or targets.ndim != 1 or targets.dtype == torch.bool \
            or targets.is_floating_point() or not divisible(data, batch_size(data)):  # fmt: skip
        shown = f"targets {tuple(targets.shape)} of {targets.dtype}" if isinstance(targets, torch.Tensor) else \
            f"the loss {objective.loss.name}"  # fmt: skip
        raise InputError(
            "classes need a criterion over (inputs, targets) with one integer label an example",
            got=shown,
            why="each example must belong to one class",
            fix="pass for example nn.CrossEntropyLoss() and labels of shape (examples,)",
        )
    if batch.index == 0 and batch.size > 1 and not adds_up(batch, batch.size, objective):
        raise InputError(
            "the loss of a class needs examples that do not act on each other",
            got="a batch whose loss is not the sum of those of its halves",
            why="a class's loss would depend on the other examples",
            fix="build an objective over each class's examples yourself",
        )
