"""The gradients of single examples, as a stream of blocks: never as one matrix of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from landscape.errors import InputError
from landscape.gradients.coupling import check_additive, refuse_coupled
from landscape.gradients.differentiate import Differentiator
from landscape.objective import Objective

MEMORY = 256 << 20  # bytes of gradients at a time
CACHE = 16 << 20  # bytes that a processor handles fastest
FEW = 16  # examples that a call is worth
METHODS = ("auto", "vmap", "loop")


@dataclass(frozen=True)
class ExampleGradients:
    """A block of b examples: ``gradients`` (b, n), ``weights`` (b,) in float64, ``targets`` (b, ...) or ``None``.

    ``index`` (b,) counts the examples of the data from 0, in the order in which they are read. ``method``
    says how the gradients were made, in words.
    """

    gradients: torch.Tensor
    weights: torch.Tensor
    targets: torch.Tensor | None
    index: torch.Tensor
    method: str


def per_example(
    objective: Objective, *, at: Any = None, chunk: int | str = "auto", method: str = "auto"
) -> Iterator[ExampleGradients]:
    """Stream the gradients of single examples.

    The gradient g_i is that of example i's own mean loss (its numerator over its weight), and the
    objective's gradient is Σ w_i g_i / Σ w_i. With a ``"sum"`` loss, g_i is the gradient of the example's
    own term, w_i is 1, and the objective's gradient is Σ g_i. An example of weight 0 (all its labels are
    ignored) has no gradient and is left out. A regularizer is part of each mean, and shared equally by the
    terms of a sum.

    Parameters
    ----------
    objective : Objective
        The loss. Its examples must not act on each other and nothing may be drawn at random:
        ``mode="train"`` with batch normalisation or dropout is refused.
    at : Point, tensor (n,) or dict of tensors, optional
        Where; the model's present parameters by default.
    chunk : int or "auto"
        Examples in a block; by default as many as keep gradients within 256 MiB, at most a batch.
    method : {"auto", "vmap", "loop"}
        ``"vmap"``: a block at once. ``"loop"``: one backward pass an example. ``"auto"``: the first, or
        the second where ``torch.func`` cannot transform the model; the blocks say why.

    Yields
    ------
    ExampleGradients
        ``gradients`` (b, n) in ``objective.space.dtype``, ``weights`` (b,), ``targets`` (b, ...) when the
        loss is a criterion, ``index`` (b,).

    Raises
    ------
    InputError
        When examples of a batch act on each other, or the loss draws random numbers.

    Notes
    -----
    While the stream is open the model is in the objective's mode and the global random generators are in
    use; all of it is put back when the stream ends or is closed. Read it to its end, or in a
    ``with contextlib.closing(...)`` block.

    Cost: the arithmetic of one forward and backward pass over the data, in smaller pieces. Memory: one
    block of gradients, twice for a moment, and the activations of as many examples.
    """
    if method not in METHODS:
        raise InputError("method must be 'auto', 'vmap' or 'loop'", got=method, fix="pass method='auto'")
    if chunk != "auto" and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise InputError("chunk must be a positive number of examples, or 'auto'", got=chunk, fix="pass chunk='auto'")
    refuse_coupled(objective)
    return _stream(objective, at, _auto_chunk(objective) if chunk == "auto" else int(chunk), method)


def _auto_chunk(objective: Objective) -> int:
    size = objective.space.n * objective.space.dtype.itemsize
    room = MEMORY // (2 * size)  # parameter by parameter, and as one block
    return max(1, min(room, max(FEW, CACHE // size)) if objective.device.type == "cpu" else room)


def _stream(objective: Objective, at: Any, chunk: int, method: str) -> Iterator[ExampleGradients]:
    point = objective.point(at)
    differentiate = Differentiator(objective, method)
    checked = False
    start = 0
    with objective.session():
        for batch in objective.iterate(point):
            checked = checked or check_additive(objective, batch, differentiate, chunk)
            for first in range(0, batch.size, chunk):
                rows = slice(first, min(first + chunk, batch.size))
                gradients, weights = differentiate(batch, rows)
                targets = batch.data[1][rows] if objective.loss.criterion is not None else None
                index = torch.arange(start + rows.start, start + rows.stop)
                keep = (weights != 0).cpu()
                if not keep.all():
                    there = keep.to(gradients.device)
                    gradients, weights, index = gradients[there], weights[there], index[keep]
                    targets = None if targets is None else targets[there]
                if len(index):
                    yield ExampleGradients(gradients, weights, targets, index, differentiate.description)
                del gradients  # before the next block is made
            start += batch.size
