"""The loss as a function of model and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.objective.losses.calling import Standin
from landscape.objective.losses.terms import Split, Terms
from landscape.objective.sources import batch_size


class FunctionLoss:
    """A function ``(model, batch) -> mean loss`` or ``-> (mean loss, weight)``."""

    reduction = "mean"
    criterion = None

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.weighted = True  # until a call shows otherwise
        self._cut = False  # whether a batch has shown it to be a function of the model's outputs

    def __call__(self, model: Any, batch: Any) -> Terms:
        """Return the terms of one batch; without a weight, the batch's number of examples stands for it."""
        returned = self._called(model, batch)
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
        wide = torch.promote_types(loss.dtype, torch.float32)  # in 16 bits a weight of 1e5 is infinite
        return Terms(loss.reshape(()).to(wide) * weight, weight)

    def _called(self, model: Any, batch: Any) -> Any:
        try:
            return self._function(model, batch)
        except (TypeError, AttributeError) as error:
            other = f"must be Tensor, not {type(model).__name__}" in str(error)
            if not (other or isinstance(self._function, nn.Module)):
                raise  # a mistake inside it
            raise InputError(
                "a loss that is no torch criterion is called with the model and a batch",
                got=f"{self.name}, which fails then: {str(error).splitlines()[0][:150]}",
                why="only so can it call the model as it needs",
                fix="pass lambda model, batch: (loss(model(batch[0]), batch[1]), len(batch[0])), if it is a mean over "
                "examples",
            ) from error

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at what the function's one call of the model returned."""
        found: list[Any] = []

        def run(*args: Any, **kwargs: Any) -> Any:
            found.append(model(*args, **kwargs))
            return found[-1]

        whole = self(Standin(model, run), batch)
        if len(found) != 1:
            raise _uncut(f"a function that calls it {len(found)} times")
        leaves, spec = tree_flatten(found[0])
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
        if not places:
            raise _uncut(f"a model that returns a {type(found[0]).__name__} without tensors in it")

        def terms(values: Sequence[torch.Tensor]) -> Terms:
            given = list(leaves)
            for i, value in zip(places, values, strict=True):
                given[i] = value
            return self(Standin(model, lambda *args, **kwargs: tree_unflatten(given, spec)), batch)

        outputs = [leaves[i] for i in places]
        if not self._cut and not torch._C._are_functorch_transforms_active():  # which show no values
            self._cut = _cuts(whole, terms, outputs, model)
        return Split(outputs, terms)


def _cuts(
    whole: Terms, terms: Callable[[Sequence[torch.Tensor]], Terms], outputs: list[torch.Tensor], model: nn.Module
) -> bool:
    """Refuse a loss that is not a function of the model's outputs alone; return whether the batch could tell."""
    with torch.enable_grad():
        given = [output.detach().requires_grad_() for output in outputs]
        try:
            again = terms(given).numerator
        except RuntimeError as error:
            if "not have been used in the graph" not in str(error):
                raise
            raise _uncut("a function that differentiates the model by its inputs") from error
        own = [p for p in model.parameters() if p.requires_grad]
        by = [*given, *own]
        parts = torch.autograd.grad(again, by, allow_unused=True) if again.requires_grad else [None] * len(by)
    if any(part is not None for part in parts[len(given) :]):
        raise _uncut("a function that reads parameters itself")
    if any(part is not None and part.ndim == 0 for part in parts[: len(given)]):
        raise _uncut("a model that returns the loss itself, of which no more than a number is left to differentiate by")
    tolerance = max(torch.finfo(output.dtype).eps for output in outputs) ** 0.5
    if not torch.allclose(again, whole.numerator, rtol=tolerance, atol=0, equal_nan=True):
        raise _uncut("a function that gives another loss for the same outputs")
    return again.requires_grad


def _uncut(got: str) -> InputError:
    return InputError(
        "this needs a loss that is a function of what one call of the model returns",
        got=got,
        why="the loss is differentiated by the model's outputs",
        fix="call the model once and compute the loss from what it returns, or use the Hessian",
    )


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
