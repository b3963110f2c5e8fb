"""A fixed random choice of examples, gathered into batches."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape.errors import InputError
from landscape.objective.batches import batch_size
from landscape.seeds import generator


def chosen(batches: list[Any], examples: int, seed: int) -> list[Any]:
    """Return ``examples`` of the examples in ``batches``, in their order, as batches of the largest size given.

    The choice is a function of ``seed``. Every tensor must have the examples as leading dimension; what is
    not a tensor is taken from the first batch.
    """
    if examples < 1:
        raise InputError("examples must be at least 1", got=examples, fix="pass for example 256")
    sizes = [batch_size(batch) for batch in batches]
    flat = [tree_flatten(batch) for batch in batches]
    alike = all(spec == flat[0][1] for _, spec in flat) and all(
        not isinstance(leaf, torch.Tensor) or (leaf.ndim > 0 and len(leaf) == size)
        for (leaves, _), size in zip(flat, sizes, strict=True)
        for leaf in leaves
    )
    if not alike:
        raise InputError(
            "a choice of examples needs batches of one form whose tensors all lead with the examples",
            got="one that does not",
            fix="build the smaller loader yourself",
        )
    rows = torch.from_numpy(generator(seed).permutation(sum(sizes))[:examples]).sort().values
    columns: list[Any] = []
    for leaves in zip(*(leaves for leaves, _ in flat), strict=True):
        if isinstance(leaves[0], torch.Tensor):
            columns.append(_gathered(leaves, sizes, rows).split(max(sizes)))
        else:
            columns.append([leaves[0]] * -(-len(rows) // max(sizes)))
    return [tree_unflatten(list(parts), flat[0][1]) for parts in zip(*columns, strict=True)]


def _gathered(parts: tuple[torch.Tensor, ...], sizes: list[int], rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` of the concatenated ``parts`` without concatenating them."""
    found, start = [], 0
    for part, size in zip(parts, sizes, strict=True):
        inside = rows[(rows >= start) & (rows < start + size)] - start
        found.append(part[inside.to(part.device)])
        start += size
    return torch.cat(found)
