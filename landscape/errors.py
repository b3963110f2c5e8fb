"""What went wrong, in one sentence a user can act on."""

from __future__ import annotations

import sys
from typing import Any


class LandscapeError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    what : str
        What was wrong, with which argument.
    got : object, optional
        The value received; shown with ``repr`` unless it is a string.
    why : str, optional
        Why it matters.
    fix : str
        What to do.

    Attributes
    ----------
    found, fix : str
        The sentence in two parts: what was wrong, and what to do.
    """

    found, fix = "", ""

    def __init__(self, what: str, *, got: object = None, why: str = "", fix: str) -> None:
        shown = "" if got is None else f", got {got if isinstance(got, str) else repr(got)}"
        reason = f": {why}" if why else ""
        self.found, self.fix = (" ".join(part.split()) for part in (f"{what}{shown}{reason}", fix))
        super().__init__(f"{self.found}; {self.fix}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), str(self), self.found, self.fix)


def _again(kind: type[LandscapeError], message: str, found: str, fix: str) -> LandscapeError:
    """Return an error of ``kind`` with a message that is already put together, as when it crosses processes."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.found, error.fix = found, fix
    return error


class InputError(LandscapeError, ValueError):
    """An argument that cannot be used."""


class NonFiniteError(LandscapeError, ArithmeticError):
    """The loss or a product of it is NaN or infinite."""


class NotConvergedError(LandscapeError, ArithmeticError):
    """An iteration that did not reach its tolerance, where no partial answer can be given."""


class MemoryLimitError(LandscapeError, MemoryError):
    """A computation that does not fit into memory, and could not be made smaller."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory could not be had: CUDA's own error, or the CPU allocator's words."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


class DataChangedError(LandscapeError, RuntimeError):
    """Two passes over the data did not see the same data."""


class FileError(LandscapeError, OSError):
    """A file that is missing, in the way, or not one of ours."""


class MissingPartError(LandscapeError, ImportError):
    """An optional package that is not installed."""
