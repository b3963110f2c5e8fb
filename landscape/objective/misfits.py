"""Data whose types do not fit the model or the loss, in a sentence instead of torch's words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from landscape.errors import InputError, LandscapeError, is_out_of_memory
from landscape.objective.sources import tensors_of

_LABELS = (torch.int64, torch.uint8)  # what torch takes for class labels
_INTEGER = "(?:Long|Int|Short|Char|Byte|Bool)"
_NEEDS_LABELS = re.compile(r"Long or Byte|type Long but|LongTensor|dtype int64")
_GOT_INTEGERS = re.compile(
    rf"(?:[Ff]ound(?: dtype)?|got|and|output type) {_INTEGER}\b|Integral inputs|type \((?:long|int|short|bool|\w+ char)"
)
_OF_TYPES = re.compile(r"dtype|scalar type|(?:bias|weight) type|Type promoting|output type|Integral inputs|point type")


@contextmanager
def explained(data: Any, dtypes: Collection[torch.dtype]) -> Iterator[None]:
    """Say which data are at fault where torch refuses to mix types in a pass over them.

    ``dtypes`` are those of the model. Types are looked at only after a failure: a model may well cast its inputs.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, LandscapeError) or is_out_of_memory(error):
            raise
        found = _misfit(" ".join(str(error).split()), {t.dtype for t in tensors_of(data)}, dtypes)
        if found is None:
            raise
        raise found from error


def _misfit(words: str, given: set[torch.dtype], dtypes: Collection[torch.dtype]) -> InputError | None:
    if not _OF_TYPES.search(words) or "indices" in words:
        return None
    floating = {d for d in given if d.is_floating_point}
    whole = {d for d in given - floating if not d.is_complex}
    torchs = f"torch says {words[:150]!r}"
    if _NEEDS_LABELS.search(words) and (others := whole.difference(_LABELS)):
        return InputError("class labels must be of the type int64", got=_named(others), why=torchs,
                          fix="pass labels.long()")  # fmt: skip
    if whole and _GOT_INTEGERS.search(words):
        return InputError("the model or the loss needs floating-point numbers where the data are whole ones",
                          got=_named(whole), why=torchs, fix="convert them, as targets.float()")  # fmt: skip
    own = {d for d in dtypes if d.is_floating_point}
    if others := floating.difference(own):
        return InputError(
            "the data must have the precision of the model",
            got=f"{_named(others)} data and {_named(own)} parameters",
            why=torchs,
            fix=f"pass dtype={max(own, key=lambda d: d.itemsize, default=torch.float32)} to compute all in it, "
            "or convert the data",
        )
    return None


def _named(dtypes: Collection[torch.dtype]) -> str:
    return " and ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
