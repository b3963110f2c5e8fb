"""The loss as a torch criterion of the model's output."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.objective.losses.calling import apply, one_output
from landscape.objective.losses.criteria import DENOMINATORS, check_weights, ctc_sum
from landscape.objective.losses.terms import Split, Terms


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
        return self.terms(*self._forward(model, batch))

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at the model's output."""
        outputs, targets = self._forward(model, batch)
        single = len(targets) == 1
        return Split(
            [outputs],
            lambda values: self.terms(values[0], targets),
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
        check_weights(self._criterion, outputs)
        if outputs.dtype in (torch.float16, torch.bfloat16):  # a sum over a batch needs more digits, and range
            outputs = outputs.float()
            targets = [t.float() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in targets]
        # labels of 8 bits would be taken for a mask where they index, and hold no ignore_index of -100
        return outputs, [t.long() if isinstance(t, torch.Tensor) and t.dtype == torch.uint8 else t for t in targets]

    def terms(self, outputs: torch.Tensor, targets: Sequence[Any]) -> Terms:
        """Return the loss terms as a function of the model's output."""
        for name, buffer in self._criterion._buffers.items():  # class weights, where and as the outputs are
            if buffer is not None:
                self._sum._buffers[name] = buffer.to(device=outputs.device, dtype=outputs.dtype)
        numerator = ctc_sum(self._criterion, outputs, *targets) if self._scaled else self._sum(outputs, *targets)
        weight = 0.0 if self.reduction == "sum" else self._denominator(self._criterion, outputs, *targets)
        return Terms(numerator, weight, outputs, targets[0], self._criterion)
