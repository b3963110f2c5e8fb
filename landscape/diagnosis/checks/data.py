"""Checks of the data and of how batches are weighed."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.diagnosis.finding import Finding, counted, failed, listed, passed, share, warned, within
from landscape.diagnosis.subject import Subject
from landscape.objective import Batch, Objective
from landscape.objective.examples import divisible, rows_of
from landscape.objective.gradient import ValueAndGradient
from landscape.objective.sources import tensors_of
from landscape.objective.totals import Addend

READ = 2  # batches that are read twice
SHARPEST = 1e-6  # relative difference that is never meant, in float64


def data(subject: Subject) -> Finding:
    """Read the first batches twice: augmentation and streams give others each time."""
    objective = subject.objective
    with objective.session(grad=False):
        first, again = (objective.batches.reread(READ) for _ in range(2))
        objective.batches.survey()
    batches = objective.batches
    whole = f"{counted(batches.examples, 'example')} in {counted(batches.count or 0, 'batch')}"
    pairs = [
        (a, b) for x, y in zip(first, again, strict=False) for a, b in zip(tensors_of(x), tensors_of(y), strict=False)
    ]
    if len(first) == len(again) and all(_equal(a, b) for a, b in pairs):
        return passed(f"{whole}; reading twice gives the same")
    return warned(
        f"{whole}; reading twice gives other examples: numbers are of the one draw that is held in memory",
        "switch augmentation off, or pass list(loader) to name the draw",
    )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def weights(subject: Subject) -> Finding:
    """Cut the same examples into other batches: value and gradient must stay."""
    objective, batch, size = subject.fine, subject.batch, subject.size
    divides = _divides(subject)
    normed = _batch_statistics(objective)
    # one example has no batch statistics; equal halves show no wrong weight
    half, least = size // 2, 2 if normed or size > 4 else 1
    if half < least or not divisible(batch, size):
        few = f"batches of {counted(size, 'example')}"
        return passed(
            f"{divides}; other batches were not compared, because of "
            f"{few if half < least else 'a tensor that does not lead with the examples'}"
        )
    weighted = getattr(objective.loss, "weighted", True)
    cuts = [[half, size - half], [least, size - least]] if weighted else [[half, half]]
    value, gradient, _ = _cut(objective, batch, [sum(cuts[0])])
    off = 0.0
    for sizes in cuts:
        again, other, length = _cut(objective, batch, sizes)
        off = max(off, _relative(abs(again - value), max(abs(again), abs(value))))
        off = max(off, _relative(float(objective.space.norm(gradient - other)), length))
    tolerance = max(SHARPEST, torch.finfo(objective.coarsest).eps ** 0.5)
    if off <= tolerance:
        return passed(f"{divides}; value and gradient are the same in other batches, {within(off)}")
    words = f"{divides}; value or gradient change by {share(off)} when the same examples come in other batches"
    if normed:
        return warned(
            f"{words}: {listed(normed)} use{'s' * (len(normed) == 1)} the statistics of a batch",
            "mean it so, with the same batches each time, or use mode='eval' and running ones",
        )
    if who := subject.drawing:
        return warned(
            f"{words}: {listed(who)} draw{'s' * (len(who) == 1)} random numbers, which belong to whole batches",
            "mean it so, with the same batches each time, or draw none, as dropout in mode='eval'",
        )
    return failed(
        words,
        "return (loss, weight), weight being what the loss's mean divides by; examples that act on each other, as in "
        "contrastive losses, have no such weight: keep the batches as they are and leave GGN, Fisher and gradient "
        "statistics out",
    )


def _cut(objective: Objective, batch: Any, sizes: list[int]) -> tuple[float, torch.Tensor, float]:
    """Return value, gradient and the added lengths of the gradients of batches of ``sizes``, cut from ``batch``."""
    ends = [0, *accumulate(sizes)]
    parts = [rows_of(batch, tensors_of(batch)[0].shape[0], slice(a, b)) for a, b in pairwise(ends)]
    other, gradients = objective.over(parts), ValueAndGradient()

    def per_batch(piece: Batch) -> list[Addend]:
        numerator, weight, parts = gradients(piece)
        assert isinstance(parts, list)
        return [numerator, weight, parts, math.hypot(*(float(torch.linalg.vector_norm(part)) for part in parts))]

    loss, weight, gradient, length = other.sum(per_batch, other.point())
    total = other.total(weight)
    return float(loss / total), gradient / total, float(length / total)


def _relative(error: float, size: float) -> float:
    return error / size if error else 0.0


def _batch_statistics(objective: Objective) -> list[str]:
    """Return the layers that make examples of a batch act on each other by design."""
    return [
        name or type(module).__name__
        for name, module in objective.model.named_modules()
        if isinstance(module, _BatchNorm) and (objective.mode == "train" or module.running_mean is None)
    ]


def _divides(subject: Subject) -> str:
    """Return in words what the mean over all data divides by."""
    loss, weight, examples = subject.objective.loss, subject.survey.weight, subject.objective.batches.examples
    total = f"{weight:,.6g}"
    if loss.reduction == "sum":
        return f"a sum over {counted(examples, 'example')}, divided by nothing"
    if getattr(loss.criterion, "weight", None) is not None and hasattr(loss.criterion, "ignore_index"):
        return f"the mean divides by {total}, the class weights of all labels added up"
    if weight == examples:
        return f"the mean divides by {counted(examples, 'example')}"
    if loss.name == "model" or hasattr(loss.criterion, "ignore_index"):
        return f"the mean divides by {total} counted labels, of {counted(examples, 'example')}"
    if loss.criterion is not None:
        return f"the mean divides by {total} elements, of {counted(examples, 'example')}"
    return f"the mean divides by {total}, the weights that {loss.name} returns, for {counted(examples, 'example')}"
