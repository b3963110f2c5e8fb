"""A fixed random choice of examples, gathered into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.objective.batches import Batches
from landscape.objective.examples import divisible
from landscape.objective.sources import batch_size
from landscape.seeds import generator


def chosen(batches: Batches, examples: int, seed: int) -> list[Any]:
    """Return ``examples`` of the examples in ``batches``, in their order, as batches of the largest size given.

    The choice is a function of ``seed``. Every tensor must have the examples as leading dimension; what is
    not a tensor is taken from the first batch. One batch at a time is looked at.
    """
    if isinstance(examples, bool) or not isinstance(examples, int | np.integer):
        raise InputError("examples must be a whole number", got=examples, fix="pass for example 256")
    if examples < 1:
        raise InputError("examples must be at least 1", got=examples, fix="pass for example 256")
    batches.survey()
    rows = torch.from_numpy(generator(seed).permutation(batches.examples)[:examples]).sort().values
    form, start, largest = None, 0, 0
    parts: list[list[Any]] = []
    for batch in batches:
        size = batch_size(batch)
        leaves, spec = tree_flatten(batch)
        form = spec if form is None else form
        if spec != form or not divisible(leaves, size):
            raise InputError(
                "a choice of examples needs batches of one form whose tensors all lead with the examples",
                got="one that does not",
                fix="build the smaller loader yourself",
            )
        inside = rows[(rows >= start) & (rows < start + size)] - start
        parts.append([leaf[inside.to(leaf.device)] if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves])
        start, largest = start + size, max(largest, size)
    columns: list[Any] = []
    for column in zip(*parts, strict=True):
        whole = isinstance(column[0], torch.Tensor)
        columns.append(torch.cat(column).split(largest) if whole else [column[0]] * -(-len(rows) // largest))
    return [tree_unflatten(list(leaves), form) for leaves in zip(*columns, strict=True)]  # type: ignore[arg-type]
