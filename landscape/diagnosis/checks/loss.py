"""Checks of the loss as a function: whether it is one, is finite, and depends on the parameters."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from landscape.diagnosis.finding import Finding, counted, failed, listed, passed, warned
from landscape.diagnosis.repeats import changing
from landscape.diagnosis.subject import Subject
from landscape.errors import InputError
from landscape.objective import Batch

TINY = 10  # roundings of 1 below which a loss is zero


def loss(subject: Subject) -> Finding:
    """Compute value and gradient over all the data: they must exist and be finite."""
    objective = subject.objective
    diverged = [name for name, p in objective.parameters.items() if not bool(torch.isfinite(p).all())]
    if diverged:
        return failed(
            f"{listed(diverged)} {'holds' if len(diverged) == 1 else 'hold'} NaN or infinity",
            "take a checkpoint from before training diverged",
        )
    survey = subject.survey
    if survey.bad or not math.isfinite(survey.value):
        where = f", because of batch {listed([str(i) for i in survey.bad])} of {objective.batches.count}"
        return failed(
            f"the loss is {survey.value:g}{where if survey.bad else ''}",
            "look at these data for NaN and for logarithms of zero",
        )
    vanished = [name for name, g in objective.space.unflatten(survey.gradient).items() if not bool(g.isfinite().all())]
    if vanished:
        return failed(
            f"the loss is {survey.value:.5g}, but its gradient is not finite in {listed(vanished)}",
            "a derivative does not exist there, as that of a root or a norm at zero: add a small number inside it",
        )
    eps = torch.finfo(objective.coarsest).eps
    words = f"{survey.value:.5g}, with a gradient of length {float(objective.space.norm(survey.gradient)):.3g}"
    if abs(survey.value) <= TINY * eps:
        return warned(
            f"{words}: zero to rounding, so the loss may be saturated and its derivatives nothing but rounding",
            "read 'precision', which measures it; dtype=torch.float64 brings more digits",
        )
    return passed(words)


def determinism(subject: Subject) -> Finding:
    """Compute value and gradient of a batch twice, of a part in float64 too; who differs or draws is named."""
    for objective in (subject.objective, subject.fine):  # float64 sees a state that changes by less than rounding
        other = copy.copy(objective)
        other.checked = set()
        try:
            other.check_deterministic()
        except InputError as error:
            changed = changing(subject.part)
            return failed(error.found + (f"; forward passes change {listed(changed)}" if changed else ""), error.fix)
    words = "value and gradient of the first batch are the same when computed again"
    if not subject.drawing:
        return passed(words)
    who, seed = listed(subject.drawing), subject.objective.seed
    words += f", with the random numbers that {who} draw{'s' * (len(subject.drawing) == 1)}: fixed by seed {seed}"
    if subject.objective.mode == "train":
        return passed(words)
    return warned(
        f"{words}, so numbers are of that one draw", "draw no random numbers in eval mode, or look at several seed="
    )


def parameters(subject: Subject) -> Finding:
    """Look for parameters that have no gradient, because the loss does not use them or because they are dead."""
    objective = subject.objective
    tensors = f"{counted(len(objective.space.names), 'tensor')} of {counted(objective.space.n, 'parameter')}"
    still = [name for name, g in objective.space.unflatten(subject.survey.gradient).items() if not bool(g.any())]
    if not still:
        return passed(f"{tensors}, all of which the loss uses")
    unused = sorted(set(still) & set(unused_of(subject)), key=still.index)
    dead = [name for name in still if name not in unused]
    parts = [f"{listed(unused)} {_is(unused)} not used by the loss"] if unused else []
    parts += [f"{listed(dead)} {_has(dead)} a gradient of exactly zero on all data"] if dead else []
    return warned(
        f"of {tensors}, {' and '.join(parts)}",
        "their rows of every operator are zero: leave them out with params=, or look whether the model should use them"
        if unused
        else "look for dead units (ReLU), for saturated ones, and for a layer that starts at zero",
    )


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def unused_of(subject: Subject) -> list[str]:
    """Return the parameters that the loss of the part has no graph to."""
    names: list[str] = []

    def per_batch(batch: Batch) -> list[torch.Tensor | float]:
        leaves = batch.leaves()
        terms = batch.terms(leaves)
        parts = torch.autograd.grad(terms.numerator, leaves, allow_unused=True)
        names.extend(name for name, part in zip(batch.space.names, parts, strict=True) if part is None)
        return [0.0]

    subject.part.sum(per_batch, subject.part.point())
    return names


def modes(subject: Subject) -> Finding:
    """Say what evaluation and training mode mean for this model."""
    objective = subject.part
    modules = list(objective.model.named_modules())
    norms = [(name or type(m).__name__, m) for name, m in modules if isinstance(m, _BatchNorm)]
    drops = [m for _, m in modules if (isinstance(m, _DropoutNd) and m.p) or (isinstance(m, nn.RNNBase) and m.dropout)]
    train = objective.mode == "train"
    here, there = float(objective.value()), _elsewhere(subject)
    parts = []
    if norms:
        means = "batch statistics" if train else "running statistics"
        parts.append(f"batch normalisation ({counted(len(norms), 'layer')}) uses {means}")
    if drops:
        means = f"has masks fixed by seed {objective.seed}" if train else "is off"
        parts.append(f"dropout ({counted(len(drops), 'layer')}) {means}")
    differ = isinstance(there, str) or abs(here - there) > 1e-6 * max(abs(here), abs(there))
    if not parts and not differ:
        return passed(f"{objective.mode} mode; no module depends on it")
    other = "eval" if train else "train"
    shown = there if isinstance(there, str) else f"{there:.4g} in {other} mode"
    parts.append(f"the loss of {counted(subject.size, 'example')} is {here:.4g}, {shown}")
    words = f"{objective.mode} mode: {'; '.join(parts)}"
    fresh = [name for name, m in norms if not train and m.num_batches_tracked is not None and not m.num_batches_tracked]
    if fresh:
        return warned(
            f"{words}; the running statistics of {listed([repr(name) for name in fresh])} are those of a new layer",
            "train first, or use mode='train': else this is the curvature of a network that nobody trained",
        )
    return passed(words)


def _elsewhere(subject: Subject) -> float | str:
    """Return the value of the part in the other mode, or why there is none."""
    other = copy.copy(subject.part)
    other.mode = "eval" if other.mode == "train" else "train"
    try:
        return float(other.value())
    except Exception as error:  # as batch statistics of one example
        return f"and none in {other.mode} mode ({(str(error).strip().splitlines() or [''])[0][:80]})"
