"""What holds while the package looks at a model: its mode, and passes that can be differentiated twice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel
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


class _Switch:
    """Something of the whole process that the first of the open blocks changes and the last one puts back.

    Blocks of several threads, or of streams that are read side by side, end in any order.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[Any]]) -> None:
        self._change, self._lock = change, threading.Lock()
        self._open, self._undo = 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._open == 0:
                self._undo.enter_context(self._change())
            self._open += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._undo.close()


@contextmanager
def _plain_passes() -> Iterator[None]:
    parts = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _once}
    before, fast = {name: getattr(checkpoint, name) for name in parts}, mha.get_fastpath_enabled()
    # importing the compiler takes seconds, and nothing is compiled before someone has
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        try:
            for name, part in parts.items():
                setattr(checkpoint, name, part)
            mha.set_fastpath_enabled(False)
            yield
        finally:
            for name, part in before.items():
                setattr(checkpoint, name, part)
            mha.set_fastpath_enabled(fast)


#: Runs compiled parts of models eagerly, activation checkpoints without checkpointing, and transformer layers as they
#: run with a gradient. Compiled graphs have no second derivative. A checkpoint computes its part again in the backward
#: pass, when the model holds its own parameters again and not those of the point: the derivatives would be of a
#: mixture of the two. Without a gradient torch's fused layers give padded tokens other outputs.
plain_passes = _Switch(_plain_passes)

#: Uses the one attention kernel that has a second derivative.
math_attention_only = _Switch(lambda: sdpa_kernel(SDPBackend.MATH))
