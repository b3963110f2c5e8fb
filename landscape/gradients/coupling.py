"""What has no gradients of single examples: losses whose examples act on each other, or on chance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from landscape.errors import InputError
from landscape.gradients.differentiate import Differentiator
from landscape.objective import Batch, Objective
from landscape.objective.examples import rows_of
from landscape.seeds import seed_torch

CHECKED = 4  # examples on which the gradient of a batch is compared with the sum of its examples'


def refuse_coupled(objective: Objective) -> None:
    """Refuse what is known to make examples depend on their batch."""
    train = objective.mode == "train"
    for name, module in objective.model.named_modules():
        if isinstance(module, _BatchNorm) and (train or module.running_mean is None):
            raise InputError(
                "gradients of single examples do not exist with batch statistics",
                got=f"{type(module).__name__} {name!r} " + ("in mode='train'" if train else "without running ones"),
                why="each example's loss depends on the whole batch",
                fix="use an objective in mode='eval'" if train else "use track_running_stats=True, or another layer",
            )
        if train and isinstance(module, _DropoutNd) and module.p > 0:
            raise InputError(
                "gradients of single examples need a loss without dropout",
                got=f"{type(module).__name__} {name!r} in mode='train'",
                why="its mask belongs to a whole batch",
                fix="use an objective in mode='eval'",
            )


def check_additive(objective: Objective, batch: Batch, differentiate: Differentiator, chunk: int) -> bool:
    """Compare a few examples' gradients with that of the batch they make; return whether there was one to compare."""
    try:
        return _additive(objective, batch, differentiate, chunk)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            "gradients of single examples need a loss that takes some examples of a batch alone",
            got=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            why="a batch is cut along the leading dimension of its tensors",
            fix="let every tensor in a batch lead with the examples: sequences padded, not concatenated or time first",
        ) from error


def _additive(objective: Objective, batch: Batch, differentiate: Differentiator, chunk: int) -> bool:
    batch = replace(batch, regularizer=None)  # it acts on no example
    rows = slice(0, min(CHECKED, batch.size))
    leaves = batch.leaves()
    seed_torch(objective.seed, batch.index)
    before = _random_states()
    terms = batch.terms(leaves, rows_of(batch.data, batch.size, rows))
    if not all(torch.equal(a, b) for a, b in zip(before, _random_states(), strict=True)):
        raise InputError(
            "gradients of single examples need a loss that draws no random numbers",
            got="one that does",
            why="what it draws belongs to a whole batch",
            fix="use mode='eval', or a loss without sampling",
        )
    if objective.loss.reduction != "sum" and float(terms.weight) == 0:
        return False
    parts = batch.gradient(terms, leaves)
    objective.check_depends(parts is not None)
    off = objective.space.flatten(parts or [])
    size = 0.0
    for first in range(0, rows.stop, chunk):
        gradients, weights = differentiate(batch, slice(first, min(first + chunk, rows.stop)))
        counted = weights != 0
        scale = torch.ones_like(weights) if objective.loss.reduction == "sum" else weights
        contributions = gradients[counted] * scale[counted, None].to(off.dtype)
        off -= contributions.sum(0)
        size += float(contributions.norm(dim=1).sum())
    tolerance = 4 * max(torch.finfo(dtype).eps for dtype in objective.space.dtypes) ** 0.5
    if float(off.norm()) > tolerance * size:  # never true of a NaN, which is reported as such later
        raise InputError(
            "the loss of a batch is not the weighted mean of its examples' losses",
            got=f"a gradient that differs by {float(off.norm()) / size:.1g} of its parts"
            if size
            else "another gradient",
            why="gradients of single examples then do not make up the objective's",
            fix="remove what couples examples; a loss function whose mean divides by tokens must return (loss, weight)",
        )
    return True


def _random_states() -> list[torch.Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]
