"""The Fisher information of the model's outputs: what the loss, read as -log p(y | outputs), says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from landscape.curvature.outputs.hessian import Curve, closed, output_gradient, softmax_curve
from landscape.curvature.outputs.rows import (
    CATEGORICAL,
    Rows,
    balanced,
    by_class,
    class_dimension,
    label_weights,
    normalised_dimension,
)
from landscape.curvature.outputs.weights import example_rows, example_weights
from landscape.errors import InputError
from landscape.objective import Batch, Objective
from landscape.objective.losses.terms import Split
from landscape.seeds import uniform_at


def _refused(split: Split) -> InputError:
    name = "a loss function" if split.criterion is None else type(split.criterion).__name__
    weighted = getattr(split.criterion, "pos_weight", None) is not None
    return InputError(
        "this Fisher information needs a loss that is the negative logarithm of a likelihood",
        got=f"{name}{' with pos_weight' if weighted else ''}",
        why="its expectation is over the labels that the model itself would give",
        fix="use cross-entropy, nn.NLLLoss, nn.MSELoss or nn.BCEWithLogitsLoss, or kind='empirical'",
    )


# -- the labels' distribution, by criterion -----------------------------------------------------------


class _Categorical:
    """Labels drawn from the softmax of the outputs; each row counts as much as its label does in the mean."""

    def __init__(self, split: Split) -> None:
        self.outputs = split.outputs[0].detach()
        self.dim = class_dimension(self.outputs)
        if not isinstance(split.criterion, nn.CrossEntropyLoss):
            normalised_dimension(self.outputs)
        assert split.targets is not None
        self.weights = label_weights(split.criterion, self.outputs, split.targets)

    def exact(self) -> Curve:
        return softmax_curve(self.outputs, self.weights, self.dim)

    def sampled(self, batch: Batch, seed: int, sample: int) -> Curve:
        rows = by_class(self.dim)
        count = self.outputs.numel() // self.outputs.shape[self.dim]
        drawn = _uniform(batch, seed, sample, count).to(self.outputs)

        def labels(z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
            p = z.softmax(-1)
            found = (p.cumsum(-1) < u.unsqueeze(-1)).sum(-1).clamp(max=z.shape[-1] - 1)
            return balanced(p, found)  # p - 1 at the label

        gradients = rows.map(labels, self.outputs, drawn)
        return outer(rows, [gradients], self.weights)


class _Gaussian:
    """Targets with variance 1/2 around the outputs: the square error is their negative log-likelihood."""

    def __init__(self, split: Split) -> None:
        self.outputs = split.outputs[0].detach()
        if split.targets is None or split.targets.shape != self.outputs.shape:
            raise _refused(split)

    def exact(self) -> Curve:
        return lambda tangents: [2 * tangents[0]]

    def sampled(self, batch: Batch, seed: int, sample: int) -> Curve:
        drawn = torch.special.ndtri(_uniform(batch, seed, sample, self.outputs.numel())).to(self.outputs)
        return _independent(batch, (2.0**0.5 * drawn).reshape(self.outputs.shape))


class _Bernoulli:
    """Bits drawn from the sigmoid of the outputs."""

    def __init__(self, split: Split) -> None:
        self.outputs = split.outputs[0].detach()
        criterion: Any = split.criterion
        if criterion.pos_weight is not None:
            raise _refused(split)
        self.weight = None if criterion.weight is None else criterion.weight.to(self.outputs)

    def exact(self) -> Curve:
        diagonal = self.outputs.sigmoid() * (-self.outputs).sigmoid()
        if self.weight is not None:
            diagonal = diagonal * self.weight
        return lambda tangents: [diagonal * tangents[0]]

    def sampled(self, batch: Batch, seed: int, sample: int) -> Curve:
        p = self.outputs.sigmoid()
        drawn = _uniform(batch, seed, sample, p.numel()).to(p).reshape(p.shape)
        gradient = torch.where(drawn < p, -(-self.outputs).sigmoid(), p)
        if self.weight is not None:
            gradient = gradient * self.weight.sqrt()
        return _independent(batch, gradient)


def _uniform(batch: Batch, seed: int, sample: int, count: int) -> torch.Tensor:
    """Return uniform numbers (count,) for a batch: of its examples, or of its first where they have no equal shares."""
    examples = batch.size if count % batch.size == 0 else 1
    return uniform_at(seed, sample, batch.start, examples, count // examples).reshape(-1)


def _independent(batch: Batch, gradient: torch.Tensor) -> Curve:
    """Return the outer products of gradients whose entries are drawn by themselves: any rows will do."""
    examples = batch.size if gradient.numel() % batch.size == 0 else 1
    rows = Rows(lambda t: t.reshape(examples, -1), lambda rows, t: rows.reshape(t.shape))
    return outer(rows, [gradient], gradient.new_ones(examples))


#: Criterion -> the distribution of labels that it is the negative log-likelihood of.
LIKELIHOODS: dict[type[nn.Module], Any] = {
    nn.CrossEntropyLoss: _Categorical,
    nn.NLLLoss: _Categorical,
    nn.MSELoss: _Gaussian,
    nn.BCEWithLogitsLoss: _Bernoulli,
}


def outer(rows: Rows, gradients: Sequence[torch.Tensor], weights: torch.Tensor) -> Curve:
    """Return u -> Σ over rows of weight g <g, u>; all ``gradients`` of one row belong together."""

    def curve(tangents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        inner = sum(torch.linalg.vecdot(rows.to(g), rows.to(t)) for g, t in zip(gradients, tangents, strict=True))
        scale = (inner * weights).unsqueeze(-1)
        return [rows.back(rows.to(g) * scale, g) for g in gradients]

    return curve


def exact(split: Split) -> Curve:
    """Return the Fisher information of the outputs, its expectation over labels in closed form."""
    found = closed(split, LIKELIHOODS)
    if found is None:
        raise _refused(split)
    curve: Curve = found(split).exact()
    return curve


def sampled(split: Split, batch: Batch, seed: int, samples: int) -> Curve:
    """Return the mean of the outer products of output gradients, for ``samples`` labels a row drawn from the model."""
    found = closed(split, LIKELIHOODS)
    if found is None:
        raise _refused(split)
    likelihood = found(split)
    curves = [likelihood.sampled(batch, seed, sample) for sample in range(samples)]

    def curve(tangents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [sum(parts) / samples for parts in zip(*(c(tangents) for c in curves), strict=True)]

    return curve


def empirical(split: Split, batch: Batch, objective: Objective) -> Curve:
    """Return the outer products of the output gradients at the data's own labels.

    A row is a label for a categorical criterion, and an example otherwise; of a loss function each example
    is divided by its own weight. Weights of labels enter once, as in their expectation, and not squared.
    """
    _, gradients = output_gradient(split)
    criterion: Any = split.criterion
    outputs = split.outputs[0].detach()
    if isinstance(criterion, CATEGORICAL):
        assert split.targets is not None
        rows = by_class(class_dimension(outputs))
        if isinstance(criterion, nn.CrossEntropyLoss):  # its gradients add up to 0 in each row
            gradients = [rows.map(lambda g, z: balanced(g, z.max(-1).indices), g, outputs) for g in gradients]
        return outer(rows, gradients, inverse(label_weights(criterion, outputs, split.targets)))
    rows = example_rows(gradients, split, batch, objective)
    if criterion is None:
        return outer(rows, gradients, inverse(example_weights(split, batch, objective).to(gradients[0])))
    weight = getattr(criterion, "weight", None)
    counts = gradients[0].new_ones(batch.size)
    if weight is not None and isinstance(criterion, nn.MultiMarginLoss):  # the weights of classes: one a label
        assert split.targets is not None
        counts = weight.to(counts)[split.targets.reshape(-1)]
    elif weight is not None:
        gradients = [g * inverse(weight.to(g)).sqrt() for g in gradients]
    return outer(rows, gradients, inverse(counts))


def inverse(weights: torch.Tensor) -> torch.Tensor:
    """Return 1 / weights, 0 for rows that do not count: their gradient is 0."""
    return torch.where(weights == 0, torch.zeros_like(weights), 1 / torch.where(weights == 0, 1, weights))
