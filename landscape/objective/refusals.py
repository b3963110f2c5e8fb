"""What a pass over the data can turn out to be, and is refused."""

from __future__ import annotations

import torch

from landscape.errors import InputError, NonFiniteError


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
