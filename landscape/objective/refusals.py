"""What a pass over the data can turn out to be, and is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from landscape.errors import InputError, NonFiniteError
from landscape.space import Space

if TYPE_CHECKING:
    from landscape.objective.point import Point


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a model whose parameters or buffers have no shape yet."""
    for name, t in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(t):
            raise InputError(
                "the model must have all its parameters",
                got=f"{name!r}, which a lazy layer has not made yet",
                why="its first batch gives it its shape",
                fix="call the model on a batch before",
            )


def still_there(space: Space, named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return the parameters of ``space`` among those that a model has by now."""
    for name, shape in zip(space.names, space.shapes, strict=True):
        if name not in named or named[name].shape != shape:
            raise InputError(
                "the model must keep the parameters that were selected",
                got=f"{name!r} of shape {tuple(named[name].shape)} instead of {tuple(shape)}"
                if name in named
                else f"a model without {name!r}",
                why="vectors have one entry for each of theirs",
                fix="build the objective again",
            )
    return {name: named[name] for name in space.names}


def same_space(point: Point, space: Space) -> Point:
    """Return a point if it is one of ``space``."""
    if point.space != space:
        raise InputError(
            "a point must be of the parameters that the objective has selected",
            got="one of other parameters, or in another precision or place",
            why="its vector would be taken for something else",
            fix="pass the model's present parameters, or tensors by name",
        )
    return point


def same_size(size: int, before: int | None) -> int:
    """Return the size of a batch of a loss without weights, if it is that of the batches before."""
    if before is not None and size != before:
        raise InputError(
            "the loss function must return its weight when batches differ in size",
            got=f"batches of {before} and {size} examples and a loss alone",
            why="an unweighted mean over batches would be wrong",
            fix="return (loss, weight), weight being what the loss's mean divided by",
        )
    return size


def counted(weight: torch.Tensor) -> torch.Tensor:
    """Return a total weight if a mean can divide by it."""
    if weight == 0:
        raise InputError(
            "the data hold no counted label",
            got="a total weight of 0",
            why="the mean over nothing is not defined",
            fix="check ignore_index and the class weights",
        )
    return weight


def refuse_constant(depends: bool) -> None:
    """Refuse to differentiate a loss that has no graph to any selected parameter in any batch."""
    if not depends:
        raise InputError(
            "the loss does not depend on the selected parameters",
            got="a loss without a graph to any of them",
            why="its derivatives would all be zero",
            fix="select parameters that the loss uses, and do not detach the loss",
        )


def finite(value: torch.Tensor) -> torch.Tensor:
    """Return a value of the loss if it is a number."""
    if not torch.isfinite(value):
        raise NonFiniteError(
            "the loss is not finite at the parameters studied",
            got=f"{float(value)}",
            why="curvature and gradients do not exist there",
            fix="check the parameters (did training diverge?) and the data for NaN",
        )
    return value
