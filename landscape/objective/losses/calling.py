"""How a model is called: which arguments a batch's inputs are, and a stand-in that watches the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError


def apply(model: nn.Module, inputs: Any) -> Any:
    """Call ``model`` with a batch's inputs.

    A mapping gives keyword arguments and a tuple or list positional ones where the model's ``forward``
    takes them so; otherwise the model gets the inputs whole.
    """
    if isinstance(inputs, Mapping) and _binds(model, (), inputs):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and _takes_several(model) and _binds(model, tuple(inputs), {}):
        return model(*inputs)
    return model(inputs)


def _binds(model: nn.Module, positional: tuple[Any, ...], named: Mapping[Any, Any]) -> bool:
    try:
        inspect.signature(model.forward).bind(*positional, **named)
    except (TypeError, ValueError):  # does not fit, or a signature that cannot be read
        return False
    return True


def _takes_several(model: nn.Module) -> bool:
    try:
        kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) > 1


def one_output(outputs: Any, name: str) -> torch.Tensor:
    """Return the one tensor that a criterion called ``name`` takes, or say what the model returned instead."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    raise InputError(
        f"with a criterion, the model must return one tensor, as {name} takes it",
        got=f"a {type(outputs).__name__}",
        fix="pass a function (model, batch) -> (loss, weight) that takes from it what it needs"
        + (", or the loss 'model' for the model's own" if hasattr(outputs, "logits") else ""),
    )


class Standin:
    """What a loss function gets for its model: calls are counted and answered, all else is the model's own."""

    def __init__(self, model: nn.Module, answer: Callable[..., Any]) -> None:
        self._model, self._answer = model, answer
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the answer to a call of the model."""
        self.calls += 1
        return self._answer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    # operators are looked up on the class, past __getattr__
    def __getitem__(self, key: Any) -> Any:
        return self._model[key]  # type: ignore[index]

    def __iter__(self) -> Any:
        return iter(self._model)  # type: ignore[call-overload]

    def __len__(self) -> int:
        return len(self._model)  # type: ignore[arg-type]

    def __contains__(self, key: Any) -> bool:
        return key in self._model  # type: ignore[operator]
