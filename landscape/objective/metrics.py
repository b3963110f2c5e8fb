"""What can be measured in a forward pass: each metric is a numerator and a weight per batch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.objective.losses.terms import Terms

Metric = Callable[[Terms, Any], tuple[torch.Tensor, torch.Tensor | float]]


def _loss(terms: Terms, loss: Any) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return the objective's own value."""
    return terms.numerator, terms.weight


def _of_classes(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dim = 1 if outputs.ndim > 1 else 0
    return outputs.argmax(dim), targets.argmax(dim) if targets.is_floating_point() else targets


def _of_bits(threshold: float, between: float) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]:
    return lambda outputs, targets: torch.broadcast_tensors(outputs > threshold, targets > between)


#: What outputs and targets of a criterion name, label by label; of a criterion that is not here there is no accuracy.
_NAMED: dict[type[nn.Module], Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]] = {
    nn.CrossEntropyLoss: _of_classes,
    nn.NLLLoss: _of_classes,
    nn.MultiMarginLoss: _of_classes,
    nn.BCELoss: _of_bits(0.5, 0.5),
    nn.BCEWithLogitsLoss: _of_bits(0.0, 0.5),
    nn.MultiLabelSoftMarginLoss: _of_bits(0.0, 0.5),
    nn.SoftMarginLoss: _of_bits(0.0, 0.0),  # labels are -1 and 1
}


def _accuracy(terms: Terms, loss: Any) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return the share of counted labels that the outputs name rightly.

    Of a cross-entropy, labels are those that are not ``ignore_index``, and the largest output names one; of
    binary losses each element is a label of its own, also where an example has several.
    """
    criterion, outputs, targets = terms.criterion, terms.outputs, terms.targets
    named = next((f for kind, f in _NAMED.items() if getattr(type(criterion), "forward", None) is kind.forward), None)
    if named is None or outputs is None or targets is None:
        raise InputError(
            "accuracy needs a criterion over labels",
            got=f"the loss {loss.name}",
            fix="pass a criterion such as nn.CrossEntropyLoss(), or leave accuracy and error out of metrics=",
        )
    predicted, truth = named(outputs, targets)
    ignored = None if targets.is_floating_point() else getattr(criterion, "ignore_index", None)
    counted = torch.ones_like(truth, dtype=torch.bool) if ignored is None else truth != ignored
    return ((predicted == truth) & counted).sum(), counted.sum()


def _error(terms: Terms, loss: Any) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return 1 - accuracy."""
    right, counted = _accuracy(terms, loss)
    return counted - right, counted


#: name -> function; one line adds a metric to surfaces, paths and the command line
METRICS: dict[str, Metric] = {"loss": _loss, "accuracy": _accuracy, "error": _error}


def metric(name: str) -> Metric:
    """Return the metric called ``name``."""
    if name not in METRICS:
        near = difflib.get_close_matches(str(name), METRICS, n=1)
        raise InputError(
            "there is no such metric",
            got=name,
            fix=f"did you mean {near[0]!r}? Known are {', '.join(METRICS)}" if near else f"use {', '.join(METRICS)}",
        )
    return METRICS[name]


def metrics_named(names: str | Sequence[str]) -> dict[str, Metric]:
    """Return the metrics called ``names``, one name or several."""
    chosen = {name: metric(name) for name in ([names] if isinstance(names, str) else names)}
    if not chosen:
        raise InputError("metrics must name at least one", got=names, fix="pass for example metrics=('loss',)")
    return chosen
