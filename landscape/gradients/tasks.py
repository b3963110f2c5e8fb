"""What counts as tasks: the labels of one classification, or several objectives over the same parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch

from landscape.errors import InputError
from landscape.gradients.groups import GroupSums
from landscape.gradients.per_example import ExampleGradients
from landscape.objective import Objective

# -- one objective, split by its labels -----------------------------------------------------------------


def labels(objective: Objective, by: str) -> dict[int, int]:
    """Return the labels that occur and how often; one look at the data, without the model."""
    if by != "target":
        raise InputError(
            "an objective is split by its targets", got=f"by={by!r}", fix="pass by='target', or a dict of objectives"
        )
    if not objective.is_classification:
        raise InputError(
            "only a classification can be split by its labels",
            got=f"the loss {objective.loss.name}",
            fix="pass a dict of one objective a task",
        )
    found: Counter[int] = Counter()
    with objective.session(grad=False):
        for batch in objective.iterate(objective.point()):
            targets = batch.data[1]
            if targets.is_floating_point() or targets.ndim != 1:
                raise InputError(
                    "an objective is split by one integer label an example",
                    got=f"targets of shape {tuple(targets.shape)} and dtype {targets.dtype}",
                    fix="pass a dict of one objective a task",
                )
            found.update(targets.tolist())
    criterion = objective.loss.criterion
    weight = getattr(criterion, "weight", None)
    ignored = getattr(criterion, "ignore_index", None)
    counted = sorted(label for label in found if label != ignored and (weight is None or weight[label] != 0))
    if len(counted) < 2:
        raise InputError("a conflict needs at least two classes", got=len(counted), fix="use data with more classes")
    return {label: found[label] for label in counted}


def add_classes(sums: Mapping[str, GroupSums], block: ExampleGradients) -> None:
    """Add the gradients of a block to the sums of their classes, counting positions within each class."""
    targets = block.targets
    if targets is None:
        return
    for label in targets.unique().tolist():
        here = targets == label
        task = sums[f"class {label}"]
        first = task.examples
        task.add(block.gradients[here], block.weights[here], np.arange(first, first + int(here.sum())))


# -- several objectives -----------------------------------------------------------------------------------


def check_tasks(objectives: Mapping[str, Objective]) -> None:
    """Refuse tasks whose gradients cannot be compared."""
    if len(objectives) < 2:
        raise InputError(
            "a conflict needs at least two tasks", got=len(objectives), fix="pass a dict of two objectives or more"
        )
    (name, first), *others = objectives.items()
    for other, objective in others:
        mine, its = (dict(zip(o.space.names, o.space.shapes, strict=True)) for o in (first, objective))
        if mine != its:
            differ = sorted(n for n in mine.keys() | its.keys() if mine.get(n) != its.get(n))
            raise InputError(
                "tasks must share the same parameters",
                got=f"{name!r} and {other!r}, which differ in {', '.join(differ[:3])}",
                why="gradients are compared entry by entry",
                fix="pass the same params= to every objective of one model",
            )
        a, b = first.vector().cpu(), objective.vector().cpu()
        if not torch.equal(a.nan_to_num(), b.nan_to_num()):
            raise InputError(
                "tasks must be at the same point",
                got=f"{name!r} and {other!r} with different parameter values",
                why="gradients at two points are not in conflict",
                fix="build every objective on the same model",
            )
