"""The examples of a batch: which of its tensors lead with them, and some of them as a batch of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map


def leads(part: Any, size: int) -> bool:
    """Whether ``part`` is a tensor with one entry an example; all else belongs to every example."""
    return isinstance(part, torch.Tensor) and part.ndim > 0 and part.shape[0] == size


def divisible(data: Any, size: int) -> bool:
    """Whether every tensor of a batch of ``size`` examples leads with them."""
    return all(leads(leaf, size) for leaf in tree_leaves(data) if isinstance(leaf, torch.Tensor))


def rows_of(data: Any, size: int, rows: slice) -> Any:
    """Return ``rows`` of a batch of ``size`` examples, in the batch's own nesting."""
    return tree_map(lambda part: part[rows] if leads(part, size) else part, data)
