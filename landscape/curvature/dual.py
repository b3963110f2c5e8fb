"""Dual numbers: forward-mode derivatives of what a block of code computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad


@contextmanager
def dual_level() -> Iterator[None]:
    """Open a level of dual numbers, without the warning that torch's first one gives about itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is")
        with forward_ad.dual_level():
            yield


def duals(leaves: Sequence[torch.Tensor], parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return ``leaves`` with the tangents ``parts``; inside a :func:`dual_level`."""
    return [forward_ad.make_dual(leaf, part.to(leaf.dtype)) for leaf, part in zip(leaves, parts, strict=True)]


def tangents(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tangents of ``tensors``, zeros where one has none; inside a :func:`dual_level`."""
    found = [(t, forward_ad.unpack_dual(t).tangent) for t in tensors]
    return [torch.zeros_like(t) if tangent is None else tangent for t, tangent in found]
