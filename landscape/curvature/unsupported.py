"""Operations that torch cannot differentiate in the way that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from landscape.errors import is_out_of_memory

_ONCE = once_differentiable(lambda *_: None).__code__  # what every marked backward runs

# what torch says when a derivative is missing -> our words for what it is of, else the first group or all that it says
_MISSING = {
    r"derivative for '?([\w:]+)'? is not implemented": "",
    r"forward AD with ([\w:]+) that does not support it": "",
    r"once_differentiable": "a function that is marked once_differentiable",
    r"derivative of '?([\w:]+)'? is not implemented": "",
    r"does not (?:currently )?support (?:double backward|forward(?:-mode)? AD)": "",
    r"(?:jvp|forward-mode AD).*custom.*Function": "a custom autograd.Function without jvp",
    r"Checkpointing is not compatible with": "",
    r"Double backward .*not": "",
    r"not supported in forward AD": "",
    r"Nested forward mode AD is not supported": "a model that uses dual numbers itself, as torch.func.jvp does",
}


class Unsupported(Exception):
    """A derivative that torch does not have; the words say of what."""


@contextmanager
def recognised() -> Iterator[None]:
    """Raise :class:`Unsupported` where torch says that a derivative is missing; let all else through."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        words = " ".join(str(error).split())
        for pattern, ours in _MISSING.items():
            found = re.search(pattern, words)
            if found is not None:
                operation = next((group for group in found.groups() if group), None)
                raise Unsupported(ours or operation or words[:160]) from error
        raise


def refuse_once(tensors: Iterable[torch.Tensor]) -> None:
    """Raise :class:`Unsupported` where functions in the graph of ``tensors`` cannot be differentiated twice.

    Those are custom functions marked ``once_differentiable``, found now, and those whose backward leaves no graph,
    found when the gradient is made. ``torch.autograd.grad`` says nothing of either: that part of the second
    derivative would be left out in silence. Cost: about a microsecond for each node of the graph.
    """
    todo = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        function: Any = getattr(node, "_forward_cls", None)  # of functions that are written in Python
        if function is not None:
            if getattr(function.backward, "__code__", None) is _ONCE:
                raise Unsupported(f"{function.__name__}, which is marked once_differentiable")
            node.register_hook(partial(_refuse_cut, function.__name__))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)


def _refuse_cut(name: str, gradients: Sequence[torch.Tensor | None], incoming: Sequence[torch.Tensor | None]) -> None:
    """Raise where a backward, which is linear in what comes in, gives what does not depend on it."""
    if not any(g is not None and g.requires_grad for g in incoming):  # no graph is being made
        return
    constant = any(g is not None and not g.requires_grad and bool(g.any()) for g in incoming)
    if not constant and any(g is not None and not g.requires_grad and bool(g.any()) for g in gradients):
        raise Unsupported(f"{name}, whose backward leaves no graph")
