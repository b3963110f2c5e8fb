"""Operations that torch cannot differentiate in the way that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from landscape.errors import is_out_of_memory

# what torch says when a derivative is missing; the first group, if any, is the operation
_MISSING = (
    r"derivative for '?([\w:]+)'? is not implemented",
    r"forward AD with (\w+) that does not support it",
    r"once_differentiable",
    r"derivative of '?([\w:]+)'? is not implemented",
    r"does not (?:currently )?support (?:double backward|forward(?:-mode)? AD)",
    r"(?:jvp|forward-mode AD).*custom.*Function",
    r"Checkpointing is not compatible with",
    r"Double backward .*not",
    r"not supported in forward AD",
)


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
        for pattern in _MISSING:
            found = re.search(pattern, words)
            if found is not None:
                operation = next((group for group in found.groups() if group), None)
                raise Unsupported(operation or words[:160]) from error
        raise
