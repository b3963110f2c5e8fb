"""What batches and examples count in an objective's mean, known without computing the loss where a criterion tells."""

from __future__ import annotations

import torch

from landscape.curvature.rows import CATEGORICAL, label_weights
from landscape.objective import Batch, Objective
from landscape.objective.losses import DENOMINATORS
from landscape.objective.terms import Split


def batch_weight(split: Split) -> torch.Tensor | float:
    """Return what the mean over a batch divides by."""
    outputs = [output.detach() for output in split.outputs]
    if split.criterion is None:
        with torch.no_grad():
            return split.terms(outputs).weight
    kind = next(k for k in DENOMINATORS if type(split.criterion).forward is k.forward)
    return DENOMINATORS[kind](split.criterion, outputs[0], split.targets)


def example_weights(split: Split, batch: Batch, objective: Objective) -> torch.Tensor:
    """Return what each example of a batch counts (b,): 1 for a sum; a weighted loss function is called on each."""
    outputs = split.outputs[0].detach()
    if objective.loss.reduction == "sum":
        return outputs.new_ones(batch.size)
    if isinstance(split.criterion, CATEGORICAL):
        assert split.targets is not None
        return label_weights(split.criterion, outputs, split.targets).reshape(batch.size, -1).sum(1)
    if split.criterion is not None or not getattr(objective.loss, "weighted", True):
        return outputs.new_full((batch.size,), float(batch_weight(split)) / batch.size)
    with torch.no_grad():
        each = [batch.part(slice(i, i + 1)).terms().weight for i in range(batch.size)]
    return torch.stack([torch.as_tensor(weight).to(outputs) for weight in each])
