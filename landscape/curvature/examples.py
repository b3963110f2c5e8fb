"""Whether examples have outputs and a loss of their own: operators made of single examples need it."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from landscape.curvature.outputs.hessian import output_gradient
from landscape.curvature.outputs.rows import CATEGORICAL, has_examples
from landscape.curvature.outputs.weights import layout
from landscape.errors import InputError, LandscapeError, is_out_of_memory
from landscape.objective import Batch, Objective, Point
from landscape.objective.examples import divisible
from landscape.objective.pieces import adds_up

CHECKED = 64  # examples of the first batch that are compared with their halves


def check_examples(objective: Objective, point: Point, *, by_label: bool = False) -> None:
    """Refuse examples that act on each other, and outputs that do not lead with them; once for each objective.

    Compared are the outputs and the loss of some examples of the first batch with those of their halves. With
    ``by_label``, categorical criteria pass: their rows are labels. Nothing can be compared in ``mode="train"`` or
    of a loss that draws random numbers, which belong to whole batches. Cost: some forward passes, without a graph.
    """
    name = f"examples{', or labels' if by_label else ''}"
    if name in objective.checked or objective.mode == "train" or objective.shards is not None:
        return

    def per_batch(batch: Batch) -> list[torch.Tensor | float]:
        found = _mixed(batch, objective, by_label)
        if found:
            raise InputError(
                "this needs examples that have outputs and a loss of their own",
                got=found,
                why="they act on each other, or the outputs do not lead with them, and no example has a gradient",
                fix="let every tensor of a batch and the outputs have the examples first, and return the weight "
                "of a loss function whose mean is not over examples",
            )
        return []

    objective.check_deterministic(point)  # or chance would be taken for examples that act on each other
    with objective.batches.undisturbed(), objective.batches.limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that do not fit: it will be refused
        objective.sum(per_batch, point, grad=False)
    objective.checked.add(name)


def _mixed(batch: Batch, objective: Objective, by_label: bool) -> str:
    """Return in words how some examples differ from their halves; nothing where they do not or cannot be cut."""
    if by_label and isinstance(batch.split().criterion, CATEGORICAL):
        return ""
    if isinstance(objective.loss.criterion, nn.CTCLoss) and not divisible(batch.data, batch.size):
        return ""  # labels in one row, or inputs by time: all usual, and the outputs' layout is known
    count = min(CHECKED, batch.size)
    half = count // 2
    if half == 0:
        return ""
    try:
        whole = batch.part(slice(0, count))
        split = whole.split()
        if whole.drew():
            return ""
        if not adds_up(batch, count, objective):
            return "a batch whose loss is not the sum of its halves'"
        halves = [batch.part(slice(*cut)).split().outputs for cut in ((0, half), (half, count))]
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if isinstance(error, LandscapeError) or is_out_of_memory(error):
            raise
        return f"a loss that does not take half of a batch ({' '.join(str(error).split())[:120]})"
    _, dim = layout(split, whole, objective)
    used = [bool(g.any()) for g in output_gradient(split)[1]]
    for together, *parts in (t for t, read in zip(zip(split.outputs, *halves, strict=True), used, strict=True) if read):
        shape = f"outputs of shape {tuple(together.shape)} for {count} examples"
        if not has_examples(together, count, dim):
            return shape
        sizes = zip(parts, (half, count - half), strict=True)
        if any(part.shape[dim] * count != together.shape[dim] * size for part, size in sizes):
            return f"{shape} and {tuple(parts[0].shape)} for {half}"
        if _differ(parts, together, dim, objective):
            return f"{shape} that are others for half of them"
    return ""


def _differ(parts: list[torch.Tensor], together: torch.Tensor, dim: int, objective: Objective) -> bool:
    """Whether outputs are not those of both halves; they may be shorter, of sequences cut to the longest."""
    shapes = {part.shape[:dim] + part.shape[dim + 1 :] for part in (*parts, together)}
    tolerance = 4 * torch.finfo(objective.coarsest).eps ** 0.5
    apart = torch.cat(parts, dim) - together if len(shapes) == 1 else torch.zeros(())
    return float(apart.norm()) > tolerance * float(together.norm())  # never of a NaN
