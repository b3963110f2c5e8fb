"""What can be measured in a forward pass: each metric is a numerator and a weight per batch."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch

from landscape.errors import InputError
from landscape.objective.terms import Terms

Metric = Callable[[Terms, Any], tuple[torch.Tensor, torch.Tensor | float]]


def _loss(terms: Terms, loss: Any) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return the objective's own value."""
    return terms.numerator, terms.weight


def _accuracy(terms: Terms, loss: Any) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return the share of counted labels that the largest output names."""
    outputs, targets = terms.outputs, terms.targets
    if outputs is None or targets is None:
        raise InputError(
            "accuracy needs a criterion over (inputs, targets)",
            got=f"the loss function {loss.name}",
            fix="pass a criterion such as nn.CrossEntropyLoss(), or leave accuracy out of metrics=",
        )
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        predicted = outputs.argmax(1)
        truth = targets.argmax(1) if targets.shape == outputs.shape else targets
    else:
        predicted, truth = (outputs > 0).long(), (targets > 0.5).long()
    ignored = getattr(loss.criterion, "ignore_index", None)
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
