"""What holds while the package looks at a model: its mode, and passes that can be differentiated twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint


@contextmanager
def in_mode(model: nn.Module, *, train: bool) -> Iterator[None]:
    """Put every module of ``model`` into one mode, and each back into its own after it."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = train
        yield
    finally:
        for module, training in flags:
            module.training = training


class _Direct:
    """Stands for the reentrant checkpoint, which ``autograd.grad`` refuses."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


def _once(*_: Any, **__: Any) -> Iterator[None]:
    """Stand for what a checkpoint does around its function: nothing."""
    yield


@contextmanager
def plain_passes() -> Iterator[None]:
    """Run compiled parts of models eagerly, and activation checkpoints without checkpointing.

    Compiled graphs have no second derivative. A checkpoint computes its part again in the backward pass,
    when the model holds its own parameters again and not those of the point: the derivatives would be of a
    mixture of the two.
    """
    parts = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _once}
    before = {name: getattr(checkpoint, name) for name in parts}
    # importing the compiler takes seconds, and nothing is compiled before someone has
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        try:
            for name, part in parts.items():
                setattr(checkpoint, name, part)
            yield
        finally:
            for name, part in before.items():
                setattr(checkpoint, name, part)
