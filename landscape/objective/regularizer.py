"""What is added to the mean loss: a function of the selected parameters alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch

from landscape.errors import InputError


class Regularizer:
    """A scalar function of the selected parameters by name, with the ``name`` that results show."""

    def __init__(self, function: Callable[[dict[str, torch.Tensor]], Any], name: str) -> None:
        self._function, self.name = function, name

    def __call__(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return R(theta), a 0-d tensor with its graph."""
        value = self._function(dict(parameters))
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.is_floating_point():
            shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise InputError(
                "the regularizer must return one real number as a tensor",
                got=shown,
                why="it is added to the loss and differentiated",
                fix="return for example sum(p.abs().sum() for p in parameters.values())",
            )
        return value.reshape(())


def as_regularizer(regularizer: Any) -> Regularizer | None:
    """Return ``regularizer``, a number or a function of the parameters, in the one form that the objective uses."""
    if regularizer is None:
        return None
    if isinstance(regularizer, Real) and not isinstance(regularizer, bool):
        decay = float(regularizer)
        if 0 <= decay < math.inf:
            return Regularizer(lambda parameters: _half_square(parameters) * decay, f"weight decay {decay:g}")
    elif callable(regularizer):
        return Regularizer(regularizer, getattr(regularizer, "__name__", type(regularizer).__name__))
    raise InputError(
        "regularizer must be a weight decay, or a function of the parameters by name",
        got=regularizer,
        fix="pass for example regularizer=1e-4, or lambda parameters: ... that returns a 0-d tensor",
    )


def _half_square(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([p.square().sum() for p in parameters.values()]).sum() / 2
