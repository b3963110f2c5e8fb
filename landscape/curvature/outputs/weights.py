"""What batches and examples count in an objective's mean, known without computing the loss where a criterion tells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from landscape.curvature.outputs.rows import CATEGORICAL, Rows, by_example, has_examples, label_weights
from landscape.errors import InputError
from landscape.objective import Batch, Objective
from landscape.objective.losses import DENOMINATORS
from landscape.objective.losses.terms import Split


def batch_weight(split: Split) -> torch.Tensor | float:
    """Return what the mean over a batch divides by."""
    outputs = [output.detach() for output in split.outputs]
    if split.criterion is None:
        with torch.no_grad():
            return split.terms(outputs).weight
    kind = next(k for k in DENOMINATORS if type(split.criterion).forward is k.forward)
    return DENOMINATORS[kind](split.criterion, outputs[0], split.targets)


def layout(split: Split, batch: Batch, objective: Objective) -> tuple[int, int]:
    """Return of how many examples the outputs are, and which dimension holds them."""
    shape = split.outputs[0].shape
    if isinstance(objective.loss.criterion, nn.CTCLoss) and len(shape) == 3:  # (time, examples, classes)
        return shape[1], 1
    return batch.size, 0


def example_rows(gradients: Sequence[torch.Tensor], split: Split, batch: Batch, objective: Objective) -> Rows:
    """Return the rows that hold an example each; refuse ``gradients`` by outputs that have none."""
    examples, dim = layout(split, batch, objective)
    for g in gradients:
        if not has_examples(g, examples, dim) and bool(g.any()):
            raise InputError(
                "gradients of single examples need outputs that lead with the batch's examples",
                got=f"outputs of shape {tuple(g.shape)} for {examples} examples",
                why="what belongs to which of them cannot be told",
                fix="let every tensor of a batch, and what the model returns, have the examples first",
            )
    return by_example(examples, dim)


def example_weights(split: Split, batch: Batch, objective: Objective) -> torch.Tensor:
    """Return what each example of a batch counts (b,): 1 for a sum; a weighted loss function is called on each."""
    outputs = split.outputs[0].detach()
    examples, _ = layout(split, batch, objective)
    if objective.loss.reduction == "sum" or isinstance(objective.loss.criterion, nn.CTCLoss):
        return outputs.new_ones(examples)
    if isinstance(split.criterion, CATEGORICAL):
        assert split.targets is not None
        return label_weights(split.criterion, outputs, split.targets).reshape(batch.size, -1).sum(1)
    if split.criterion is not None or not getattr(objective.loss, "weighted", True):
        return outputs.new_full((batch.size,), float(batch_weight(split)) / batch.size)
    with torch.no_grad():
        each = [batch.part(slice(i, i + 1)).terms().weight for i in range(batch.size)]
    return torch.stack([torch.as_tensor(weight).to(outputs) for weight in each])
