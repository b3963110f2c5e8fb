"""Whether examples have outputs and a loss of their own: operators made of single examples need it."""

from __future__ import annotations

import torch

from landscape.curvature.output_hessian import output_gradient
from landscape.curvature.rows import CATEGORICAL, has_examples
from landscape.curvature.weights import layout
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

    with objective.batches.undisturbed(), objective.batches.limited():
        objective.sum(per_batch, point, grad=False)
    objective.checked.add(name)


def _mixed(batch: Batch, objective: Objective, by_label: bool) -> str:
    """Return in words how some examples differ from their halves; nothing where they do not or cannot be cut."""
    count = min(CHECKED, batch.size)
    half = count // 2
    whole = batch.part(slice(0, count))
    split = whole.split()
    if whole.drew() or half == 0 or (by_label and isinstance(split.criterion, CATEGORICAL)):
        return ""
    examples, dim = layout(split, whole, objective)
    if dim and (examples != count or not divisible(batch.data, batch.size)):  # lengths of the targets may be another
        return ""
    used = [i for i, g in enumerate(output_gradient(split)[1]) if bool(g.any())]
    try:
        if not adds_up(batch, count, objective):
            return "a batch whose loss is not the sum of its halves'"
        halves = [batch.part(slice(*cut)).split().outputs for cut in ((0, half), (half, count))]
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if isinstance(error, LandscapeError) or is_out_of_memory(error):
            raise
        return f"a loss that does not take half of a batch ({' '.join(str(error).split())[:120]})"
    for i in used:
        together, parts = split.outputs[i], [outputs[i] for outputs in halves]
        shape = f"outputs of shape {tuple(together.shape)} for {count} examples"
        if not has_examples(together, count, dim):
            return shape
        if any(
            p.shape[dim] * count != together.shape[dim] * n for p, n in zip(parts, (half, count - half), strict=True)
        ):
            return f"{shape} and {tuple(parts[0].shape)} for {half}"
        apart = [
            p for p in parts if p.shape[:dim] + p.shape[dim + 1 :] == together.shape[:dim] + together.shape[dim + 1 :]
        ]
        if len(apart) == 2 and _differ(torch.cat(apart, dim), together, objective):
            return f"{shape} that are others for half of them"
    return ""


def _differ(a: torch.Tensor, b: torch.Tensor, objective: Objective) -> bool:
    tolerance = 4 * torch.finfo(objective.coarsest).eps ** 0.5
    return float((a - b).norm()) > tolerance * float(b.norm())  # never of a NaN
