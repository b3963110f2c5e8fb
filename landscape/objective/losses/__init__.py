"""A loss, whatever its form, in the one form that the objective uses."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from landscape.errors import InputError
from landscape.objective.losses.criteria import DENOMINATORS, named_criterion
from landscape.objective.losses.criterion import CriterionLoss
from landscape.objective.losses.function import FunctionLoss
from landscape.objective.losses.model import ModelLoss
from landscape.objective.losses.terms import Loss, Split, Terms

__all__ = ["DENOMINATORS", "CriterionLoss", "FunctionLoss", "Loss", "ModelLoss", "Split", "Terms", "as_loss"]


def as_loss(loss: Any) -> Loss:
    """Return ``loss`` in the one form that the objective uses."""
    named = named_criterion(loss)
    if named is not None:
        return CriterionLoss(named)
    if isinstance(loss, partial) and (meant := named_criterion(loss.func)) is not None:
        raise InputError(
            "a function of torch.nn.functional with arguments of its own must be given as the criterion",
            got=f"partial({loss.func.__name__}, ...)",
            fix=f"pass nn.{type(meant).__name__}({', '.join(f'{k}={v!r}' for k, v in loss.keywords.items())})",
        )
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        return CriterionLoss(loss)
    if isinstance(loss, str) and loss == "model":
        return ModelLoss()
    if callable(loss):
        return FunctionLoss(loss)
    raise InputError(
        "the loss must be a torch criterion, a function (model, batch) -> loss, or 'model'",
        got=loss if isinstance(loss, str) else type(loss).__name__,
        fix="pass for example nn.CrossEntropyLoss()",
    )
