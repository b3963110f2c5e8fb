"""Which part of the data this process reads, when several processes share them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from landscape.errors import InputError

if TYPE_CHECKING:
    from landscape.objective.objective import Objective


@dataclass(frozen=True)
class Share:
    """What lies before this process's batches in the data of all, and how much those are.

    The data are those of the first process, then those of the second, and so on.
    """

    batches_before: int
    examples_before: int
    batches: int
    examples: int
    fingerprint: str


WHOLE = Share(0, 0, 0, 0, "")  # of one process: its counts are those of its batches


def shared(objective: Objective) -> Share:
    """Return this process's share, inside :meth:`Batches.undisturbed`; reads the data if that has not been done.

    Refuses processes whose models differ: the sum of their losses would be of no model.
    """
    ranks, batches = objective.ranks, objective.batches
    with ranks.together():
        batches.survey()
    vector = objective.vector()
    own = (batches.count or 0, batches.examples, batches.fingerprint, float(vector.sum(dtype=torch.float64)))
    found = ranks.gather(own)
    sums = {repr(checksum) for *_, checksum in found}
    if objective.shards is None and len(sums) > 1:
        raise InputError(
            "the model must be the same in every process of the group",
            got=f"parameters that sum to {', '.join(sorted(sums)[:3])}",
            why="each process computes its part of one model's loss",
            fix="load the same weights in all of them, or broadcast those of the first",
        )
    before = found[: ranks.index]
    digest = hashlib.blake2b("".join(part[2] for part in found).encode(), digest_size=8)
    return Share(
        sum(part[0] for part in before),
        sum(part[1] for part in before),
        sum(part[0] for part in found),
        sum(part[1] for part in found),
        digest.hexdigest(),
    )


def refuse_shared(objective: Objective, what: str, fix: str) -> None:
    """Refuse ``what`` where processes share the data or the model."""
    if objective.ranks.group is not None:
        shared_by = "data" if objective.shards is None else "sharded model"
        raise InputError(
            f"{what} needs all of the data and the model in one process",
            got=f"an objective whose {shared_by} belongs to a group of {objective.ranks.count}",
            fix=fix,
        )
