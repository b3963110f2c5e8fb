"""Torch's criteria: the sum that each one's mean is made of, and what that mean divides by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from landscape.errors import InputError


def _labels(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | float:
    """Return the counted labels, weighted by class: what a cross-entropy's mean divides by."""
    if targets.is_floating_point():  # class probabilities: torch divides by the number of distributions
        return outputs.numel() / outputs.shape[1 if outputs.ndim > 1 else 0]
    counted = targets != criterion.ignore_index
    if criterion.weight is None:
        return counted.sum()
    weights = criterion.weight.to(outputs.device)[torch.where(counted, targets, 0)]
    return (weights * counted).sum(dtype=torch.float64)


def _elements(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor, *others: Any) -> float:
    return float(math.prod(torch.broadcast_shapes(outputs.shape, targets.shape)))


def _examples(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return float(outputs.shape[0] if outputs.ndim > 0 else 1)


def _rows(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return outputs.numel() / outputs.shape[-1]


def _divergence(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    count = _examples if criterion.reduction == "batchmean" else _elements
    return count(criterion, outputs, targets)


def _sequences(criterion: Any, outputs: torch.Tensor, *targets: Any) -> float:
    return float(outputs.shape[1] if outputs.ndim == 3 else 1)  # (T, N, C), or (T, C) for one sequence


#: What each criterion's mean divides by. A criterion is listed once it is known to be right.
DENOMINATORS: dict[type[nn.Module], Callable[..., torch.Tensor | float]] = {
    nn.CrossEntropyLoss: _labels,
    nn.NLLLoss: _labels,
    nn.MSELoss: _elements,
    nn.L1Loss: _elements,
    nn.SmoothL1Loss: _elements,
    nn.HuberLoss: _elements,
    nn.BCELoss: _elements,
    nn.BCEWithLogitsLoss: _elements,
    nn.PoissonNLLLoss: _elements,
    nn.GaussianNLLLoss: _elements,
    nn.SoftMarginLoss: _elements,
    nn.HingeEmbeddingLoss: _elements,
    nn.KLDivLoss: _divergence,
    nn.MultiLabelMarginLoss: _rows,
    nn.MultiLabelSoftMarginLoss: _rows,
    nn.MultiMarginLoss: _rows,
    nn.CTCLoss: _sequences,
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
    functional.poisson_nll_loss: nn.PoissonNLLLoss,
    functional.gaussian_nll_loss: nn.GaussianNLLLoss,
    functional.soft_margin_loss: nn.SoftMarginLoss,
    functional.hinge_embedding_loss: nn.HingeEmbeddingLoss,
    functional.multilabel_margin_loss: nn.MultiLabelMarginLoss,
    functional.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
    functional.multi_margin_loss: nn.MultiMarginLoss,
    functional.ctc_loss: nn.CTCLoss,
}


def named_criterion(loss: Any) -> nn.Module | None:
    """Return the criterion that a function of ``torch.nn.functional`` stands for, if it does for one."""
    return next((kind() for function, kind in _FUNCTIONS.items() if loss is function), None)


def check_weights(criterion: nn.Module, outputs: torch.Tensor) -> None:
    """Refuse weights of a criterion that do not fit the outputs: one for each class, or for each of their elements."""
    by_class = isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss | nn.MultiMarginLoss)
    classes = outputs.shape[1 if outputs.ndim > 1 else 0] if outputs.ndim else 1
    for name in ("weight", "pos_weight"):
        weight = criterion._buffers.get(name)
        if weight is None:
            continue
        if by_class and weight.shape != (classes,):
            raise InputError(
                f"the criterion's {name} must have one entry for each class",
                got=f"{weight.numel()} entries, and outputs of {classes} classes",
                why="each label's loss is multiplied by that of its class",
                fix=f"pass {name}= of shape ({classes},), or change the model's outputs, of shape "
                f"{tuple(outputs.shape)}",
            )
        if not (by_class or _broadcasts(weight.shape, outputs.shape)):
            raise InputError(
                f"the criterion's {name} must fit the model's outputs",
                got=f"shape {tuple(weight.shape)}, and outputs of shape {tuple(outputs.shape)}",
                why="each element's loss is multiplied by one of its entries",
                fix=f"pass {name}= of shape ({outputs.shape[-1] if outputs.ndim else 1},)",
            )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Whether a tensor of ``shape`` fits one of the shape ``to`` without making it larger."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def ctc_sum(criterion: Any, outputs: torch.Tensor, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """Return the sum that CTC's mean divides by the examples: of losses over the lengths of their targets."""
    each = functional.ctc_loss(
        outputs, targets, input_lengths, target_lengths, criterion.blank, "none", criterion.zero_infinity
    )
    lengths = torch.as_tensor(target_lengths, device=each.device).reshape(each.shape)
    return (each / lengths.clamp(min=1).to(each.dtype)).sum()
