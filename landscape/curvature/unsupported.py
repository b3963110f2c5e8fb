"""Operations that torch cannot differentiate in the way that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    """Raise :class:`Unsupported` where a function that may be differentiated once only has a part in ``tensors``.

    Torch's own mark in the gradient's graph raises when it is reached, but ``torch.autograd.grad`` never reaches
    it: that part of the second derivative would be left out in silence.
    Cost: about a microsecond for each node of the graph.
    """
    todo = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        function: Any = getattr(node, "_forward_cls", None)  # of functions that are written in Python
        if getattr(getattr(function, "backward", None), "__code__", None) is _ONCE:
            raise Unsupported(f"{function.__name__}, which is marked once_differentiable")
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
