"""A loss, whatever its form, as a numerator and the weight that its mean divides by.

Σ numerators / Σ weights over batches is then the same number for any way of batching the data.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.objective.calling import Standin, apply, one_output
from landscape.objective.criteria import DENOMINATORS, ctc_sum, named_criterion


@dataclass(frozen=True)
class Terms:
    """One batch's part of the objective.

    ``numerator`` is a scalar that can be differentiated, ``weight`` what its mean divides by (0 for a
    sum, which divides by nothing). ``outputs``, ``targets`` and ``criterion`` are there when the loss is
    a torch criterion of the two.
    """

    numerator: torch.Tensor
    weight: torch.Tensor | float
    outputs: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    criterion: nn.Module | None = None


@dataclass(frozen=True)
class Split:
    """A loss cut in two at the model's outputs.

    ``outputs`` are the floating-point tensors that the model returned, with their graph; ``terms`` is the
    loss as a function of such tensors alone. ``criterion`` and ``targets`` are there when the loss is
    this torch criterion of ``outputs[0]`` and ``targets``.
    """

    outputs: list[torch.Tensor]
    terms: Callable[[Sequence[torch.Tensor]], Terms]
    criterion: nn.Module | None = None
    targets: torch.Tensor | None = None


class Loss(Protocol):
    """What the objective asks of a loss."""

    name: str
    reduction: str

    @property
    def criterion(self) -> nn.Module | None:
        """The torch criterion that was given, if one was."""

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one batch."""

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at the model's outputs."""


class CriterionLoss:
    """A torch criterion over ``(inputs, *targets)`` batches."""

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
        self._takes = list(inspect.signature(kind.forward).parameters)[2:]
        self._denominator = DENOMINATORS[kind]
        self._sum = copy.copy(criterion)
        self._sum.reduction = "sum"  # type: ignore[assignment]
        self._sum._forward_hooks = OrderedDict()  # a hook on the user's criterion is not for our passes
        self._sum._forward_pre_hooks = OrderedDict()
        self._sum._buffers = dict(criterion._buffers)
        self._scaled = kind is nn.CTCLoss and self.reduction == "mean"

    @property
    def criterion(self) -> nn.Module:
        """The criterion as it was given."""
        return self._criterion

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one ``(inputs, *targets)`` batch."""
        return self._terms(*self._forward(model, batch))

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at the model's output."""
        outputs, targets = self._forward(model, batch)
        single = len(targets) == 1
        return Split(
            [outputs],
            lambda values: self._terms(values[0], targets),
            self._criterion if single else None,
            targets[0] if single else None,
        )

    def _forward(self, model: nn.Module, batch: Any) -> tuple[torch.Tensor, list[Any]]:
        """Return the model's output and the targets, in the precision that the criterion works in."""
        if not (isinstance(batch, Sequence) and len(batch) == 1 + len(self._takes)):
            one = isinstance(batch, torch.Tensor)
            form = f"({', '.join(['inputs', *self._takes])})" if len(self._takes) > 1 else "a pair (inputs, targets)"
            raise InputError(
                f"with a criterion, a batch must be {form}",
                got=f"a {type(batch).__name__}" + ("" if one or not hasattr(batch, "__len__") else f" of {len(batch)}"),
                why="a list given as the data is a list of batches" if one else "",
                fix="pass one batch as a tuple, (x, y) instead of [x, y]"
                if one
                else "pass a function (model, batch) -> (loss, weight) as the loss for other batches",
            )
        inputs, *targets = batch
        outputs = one_output(apply(model, inputs), self.name)
        if outputs.dtype in (torch.float16, torch.bfloat16):  # a sum over a batch needs more digits, and range
            outputs = outputs.float()
            targets = [t.float() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in targets]
        return outputs, targets

    def _terms(self, outputs: torch.Tensor, targets: Sequence[Any]) -> Terms:
        for name, buffer in self._criterion._buffers.items():  # class weights, where and as the outputs are
            if buffer is not None:
                self._sum._buffers[name] = buffer.to(device=outputs.device, dtype=outputs.dtype)
        numerator = ctc_sum(self._criterion, outputs, *targets) if self._scaled else self._sum(outputs, *targets)
        weight = 0.0 if self.reduction == "sum" else self._denominator(self._criterion, outputs, *targets)
        return Terms(numerator, weight, outputs, targets[0], self._criterion)


class FunctionLoss:
    """A function ``(model, batch) -> mean loss`` or ``-> (mean loss, weight)``."""

    reduction = "mean"
    criterion = None

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.weighted = True  # until a call shows otherwise

    def __call__(self, model: Any, batch: Any) -> Terms:
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
        _check_cut(whole, terms, outputs, model)
        return Split(outputs, terms)


def _check_cut(
    whole: Terms, terms: Callable[[Sequence[torch.Tensor]], Terms], outputs: list[torch.Tensor], model: nn.Module
) -> None:
    """Refuse a loss that is not a function of the model's outputs alone."""
    if torch._C._are_functorch_transforms_active():  # values cannot be looked at, and were when the first split ran
        return
    with torch.enable_grad():
        again = terms([output.detach().requires_grad_() for output in outputs]).numerator
        own = [p for p in model.parameters() if p.requires_grad]
        parts = torch.autograd.grad(again, own, allow_unused=True) if again.requires_grad and own else ()
    if any(part is not None for part in parts):
        raise _uncut("a function that reads parameters itself")
    if not torch.allclose(again, whole.numerator, rtol=1e-6, atol=0.0, equal_nan=True):
        raise _uncut("a function that gives another loss for the same outputs")


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


def as_loss(loss: Any) -> Loss:
    """Return ``loss`` in the one form that the objective uses."""
    named = named_criterion(loss)
    if named is not None:
        return CriterionLoss(named)
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        return CriterionLoss(loss)
    if callable(loss):
        return FunctionLoss(loss)
    raise InputError(
        "the loss must be a torch criterion or a function (model, batch) -> loss",
        got=loss if isinstance(loss, str) else type(loss).__name__,
        fix="pass for example nn.CrossEntropyLoss()",
    )
