"""A loss, whatever its form, as a numerator and the weight that its mean divides by.

Σ numerators / Σ weights over batches is then the same number for any way of batching the data.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from landscape.errors import InputError


@dataclass(frozen=True)
class Terms:
    """One batch's part of the objective.

    ``numerator`` is a scalar that can be differentiated, ``weight`` what its mean divides by (0 for a
    sum, which divides by nothing). ``outputs`` and ``targets`` are there when the loss is a criterion of the two.
    """

    numerator: torch.Tensor
    weight: torch.Tensor | float
    outputs: torch.Tensor | None = None
    targets: torch.Tensor | None = None


def _labels(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | float:
    """Return the counted labels, weighted by class: what a cross-entropy's mean divides by."""
    if targets.is_floating_point():  # class probabilities: torch divides by the number of distributions
        return outputs.numel() / outputs.shape[1 if outputs.ndim > 1 else 0]
    counted = targets != criterion.ignore_index
    if criterion.weight is None:
        return counted.sum()
    weights = criterion.weight.to(outputs.device)[torch.where(counted, targets, 0)]
    return (weights * counted).sum(dtype=torch.float64)


def _elements(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(math.prod(torch.broadcast_shapes(outputs.shape, targets.shape)))


def _examples(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(outputs.shape[0] if outputs.ndim > 0 else 1)


def _rows(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return outputs.numel() / outputs.shape[-1]


def _divergence(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    count = _examples if criterion.reduction == "batchmean" else _elements
    return count(criterion, outputs, targets)


#: What each criterion's mean divides by. A criterion is listed once it is known to be right.
DENOMINATORS: dict[type[nn.Module], Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor | float]] = {
    nn.CrossEntropyLoss: _labels,
    nn.NLLLoss: _labels,
    nn.MSELoss: _elements,
    nn.L1Loss: _elements,
    nn.SmoothL1Loss: _elements,
    nn.HuberLoss: _elements,
    nn.BCELoss: _elements,
    nn.BCEWithLogitsLoss: _elements,
    nn.PoissonNLLLoss: _elements,
    nn.SoftMarginLoss: _elements,
    nn.KLDivLoss: _divergence,
    nn.MultiLabelMarginLoss: _rows,
    nn.MultiLabelSoftMarginLoss: _rows,
    nn.MultiMarginLoss: _rows,
}

# functions that mean the default criterion of the same name
_FUNCTIONS: dict[Any, type[nn.Module]] = {
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.nll_loss: nn.NLLLoss,
    functional.mse_loss: nn.MSELoss,
    functional.l1_loss: nn.L1Loss,
    functional.smooth_l1_loss: nn.SmoothL1Loss,
    functional.huber_loss: nn.HuberLoss,
    functional.binary_cross_entropy: nn.BCELoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
}


class CriterionLoss:
    """A torch criterion over ``(inputs, targets)`` batches."""

    def __init__(self, criterion: nn.Module) -> None:
        # a subclass with a forward of its own may divide by anything
        kind = next((k for k in DENOMINATORS if type(criterion).forward is k.forward), None)
        if kind is None:
            raise InputError(
                "the weight of this criterion's mean is not known",
                got=type(criterion).__name__,
                why="unequal batches could not be averaged rightly",
                fix="pass a function (model, batch) -> (loss, weight) instead, weight being what the mean divides by",
            )
        self.name = type(criterion).__name__
        self.reduction: str = criterion.reduction  # type: ignore[assignment]
        if self.reduction == "none":
            raise InputError(
                "the criterion must give one number a batch",
                got="reduction='none'",
                why="a vector of losses has no gradient",
                fix="use reduction='mean' or 'sum'",
            )
        self._criterion = criterion
        self._denominator = DENOMINATORS[kind]
        self._sum = copy.copy(criterion)
        self._sum.reduction = "sum"  # type: ignore[assignment]
        self._sum._forward_hooks = OrderedDict()  # a hook on the user's criterion is not for our passes
        self._sum._forward_pre_hooks = OrderedDict()
        self._sum._buffers = dict(criterion._buffers)

    @property
    def criterion(self) -> nn.Module:
        """The criterion as it was given."""
        return self._criterion

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one ``(inputs, targets)`` batch."""
        if not (isinstance(batch, Sequence) and len(batch) == 2):
            raise InputError(
                "with a criterion, a batch must be a pair (inputs, targets)",
                got=f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else ""),
                fix="pass a function (model, batch) -> (loss, weight) as the loss for other batches",
            )
        inputs, targets = batch
        outputs = model(inputs)
        if outputs.dtype in (torch.float16, torch.bfloat16):  # a sum over a batch needs more digits, and range
            outputs = outputs.float()
            targets = targets.float() if targets.is_floating_point() else targets
        for name, buffer in self._criterion._buffers.items():  # class weights, where and as the outputs are
            if buffer is not None:
                self._sum._buffers[name] = buffer.to(device=outputs.device, dtype=outputs.dtype)
        numerator = self._sum(outputs, targets)
        weight = 0.0 if self.reduction == "sum" else self._denominator(self._criterion, outputs, targets)
        return Terms(numerator, weight, outputs, targets)


class FunctionLoss:
    """A function ``(model, batch) -> mean loss`` or ``-> (mean loss, weight)``."""

    reduction = "mean"

    def __init__(self, function: Callable[[nn.Module, Any], Any]) -> None:
        self._function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.weighted = True  # until a call shows otherwise

    criterion = None

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one batch; without a weight, the batch's number of examples stands for it."""
        from landscape.objective.batches import batch_size

        returned = self._function(model, batch)
        loss, weight = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise InputError(
                "the loss function must return one number, or (number, weight)",
                got=shown,
                why="it is differentiated",
                fix="return the mean over the batch's examples, or (mean, weight)",
            )
        self.weighted = weight is not None
        weight = batch_size(batch) if weight is None else _checked_weight(weight)
        if _is_zero(weight):  # the mean over nothing is NaN in torch, and counts nothing here
            return Terms(torch.zeros((), device=loss.device), weight)
        return Terms(loss.reshape(()) * weight, weight)


def _is_zero(weight: torch.Tensor | float) -> bool:
    try:
        return bool(weight == 0)
    except RuntimeError:  # under vmap a tensor has no one value
        return False


def _checked_weight(weight: Any) -> torch.Tensor | float:
    """Return what a loss function gave as its weight, as a constant number."""
    if isinstance(weight, torch.Tensor) and weight.numel() == 1 and not weight.is_complex():
        return weight.detach().reshape(())
    if isinstance(weight, Real):
        return float(weight)
    raise InputError(
        "the weight that the loss function returns must be one number",
        got=f"a tensor of shape {tuple(weight.shape)}" if isinstance(weight, torch.Tensor) else type(weight).__name__,
        why="it says what the loss's mean divided by",
        fix="return (mean, weight), weight being for example the number of examples or of counted tokens",
    )


def as_loss(loss: Any) -> CriterionLoss | FunctionLoss:
    """Return ``loss`` in the one form that the objective uses."""
    for function, criterion in _FUNCTIONS.items():
        if loss is function:
            return CriterionLoss(criterion())
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        return CriterionLoss(loss)
    if callable(loss):
        return FunctionLoss(loss)
    raise InputError(
        "the loss must be a torch criterion or a function (model, batch) -> loss",
        got=loss if isinstance(loss, str) else type(loss).__name__,
        fix="pass for example nn.CrossEntropyLoss()",
    )
