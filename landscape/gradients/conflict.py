"""Whether the gradients of tasks, classes or domains oppose each other, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import combinations

import numpy as np
import torch

from landscape.gradients.groups import GroupSums, check_groups, count_examples, jackknife, not_finite_message
from landscape.gradients.pairs import independent, shared
from landscape.gradients.per_example import per_example
from landscape.gradients.tasks import add_classes, check_tasks, labels
from landscape.objective import Objective
from landscape.progress import Bar
from landscape.results.gradients import GradientConflict
from landscape.results.provenance import Cost, collect


def gradient_conflict(
    tasks: Mapping[str, Objective] | Objective, *, by: str = "target", groups: int = 16, method: str = "auto"
) -> GradientConflict:
    """Compare the mean gradients of tasks, with what noise alone would show.

    Parameters
    ----------
    tasks : dict of str to Objective, or Objective
        At least two objectives over the same parameters at the same point (heads that a task does not use
        have a gradient of zero there), or one classification that is split by its labels.
    by : {"target"}
        How one objective is split: tasks are called ``"class 0"``, ``"class 1"`` ...
    groups : int
        Groups of examples of each task for standard errors, at least 2 (4 for a ``z`` between objectives). With
        fewer than about 16, ``z`` is less powerful.
    method : {"auto", "vmap", "loop"}
        How gradients are made; see :func:`landscape.gradients.per_example`.

    Returns
    -------
    GradientConflict
        ``cosine`` of the measured mean gradients; ``cosine_unbiased`` with noise taken out of the inner product
        and of both norms (it may leave [-1, 1] by its own error; NaN where a norm is within 1.96 standard errors
        of zero); ``z``, the normal score of the unbiased inner product; ``cosine_by_parameter``. The status
        is ``"not finite"`` when a gradient is not, and ``"interrupted"`` when Ctrl-C ended the pass.

    Raises
    ------
    InputError
        For fewer than two tasks, tasks that differ in parameters or point, targets that are not one label an
        example, or when gradients of single examples do not exist.

    Notes
    -----
    Two unrelated noisy gradients have a negative cosine half of the time. ``z`` is the mean inner product of
    group means over its standard error, by an analysis of variance between groups and with Student's t turned
    into a normal score. Under noise alone ``|z| > 1.96`` in at most about 5 % of pairs: 3 to 4 % when the
    noise has many directions, less when it has few.

    Tasks of one dictionary may be losses of the same examples, whose noise is correlated: the example at
    one position is taken to be the same in all tasks, and ``z`` and ``cosine_unbiased`` leave out products within a
    group. ``cosine`` is of the measured gradients, this shared noise included. If the same examples stand
    at other positions, all three contain it.

    Cost: one pass of per-example gradients over each task, after the data are counted. Memory: ``groups``
    vectors of n float64 numbers a task and a block of gradients (256 MiB); groups are fewer where that would be
    more than 1 GiB, at least 2.

    References
    ----------
    Conflict: T. Yu et al., Gradient surgery, arXiv:2001.06782. Stiffness between classes: S. Fort et al.,
    arXiv:1901.09491.
    """
    split = isinstance(tasks, Objective)
    if isinstance(tasks, Objective):
        objectives = {"": tasks}
        counts = {f"class {label}": count for label, count in labels(tasks, by).items()}
    else:
        objectives = dict(tasks)
        check_tasks(objectives)
        counts = {name: count_examples(objective) for name, objective in objectives.items()}
    space = next(iter(objectives.values())).space
    most = check_groups(groups, space, len(counts))
    sums = {name: GroupSums(space, most, count) for name, count in counts.items()}
    total = sum(counts.values())
    methods: set[str] = set()
    interrupted = False
    with Cost() as cost, Bar("gradient conflict", total=total) as bar:
        try:
            for name, objective in objectives.items():
                with closing(per_example(objective, method=method)) as stream:  # type: ignore[type-var]
                    for block in stream:
                        if split:
                            add_classes(sums, block)
                        else:
                            sums[name].add(block.gradients.to(space.device), block.weights, block.index.numpy())
                        methods.add(block.method)
                        bar.advance(len(block.index))
        except KeyboardInterrupt:
            if sum(len(s.used) >= 2 for s in sums.values()) < 2:
                raise
            interrupted = True
    status, message = _status(sums)
    if interrupted:
        done = sum(s.examples for s in sums.values())
        status, message = "interrupted", f"stopped by Ctrl-C after {done} of {total} examples; {message}"
    facts = {name: o.provenance() for name, o in objectives.items()}
    return GradientConflict.make(
        list(sums),
        **_compare(list(sums.values()), shared if not split else independent),
        norms=[float(s.mean().norm()) for s in sums.values()],
        examples=[s.examples for s in sums.values()],
        parameters=list(space.names),
        status=status,
        message=message,
        provenance=collect(
            cost,
            method=", ".join(sorted(methods)),
            groups=most,
            passes=1,
            **(facts[""] if split else {"tasks": facts}),
        ),
    )


def _compare(sums: list[GroupSums], test: Callable[[np.ndarray], tuple[float, float]]) -> dict[str, np.ndarray]:
    """Return the (T, T) matrices and the (T, T, P) one."""
    size = len(sums)
    means = torch.stack([s.mean() for s in sums])
    dots = np.stack([(part @ part.T).cpu().numpy() for part in means.split(sums[0].space.sizes, dim=1)], axis=-1)
    signal = np.array([_signal(s) for s in sums])
    z = np.full((size, size), np.nan)
    inner = np.full((size, size), np.nan)
    for i, j in combinations(range(size), 2):
        value, score = test(_products(sums[i], sums[j], same=test is shared))
        inner[i, j] = inner[j, i] = value
        z[i, j] = z[j, i] = score
    unbiased = inner / np.sqrt(np.outer(signal, signal))
    np.fill_diagonal(unbiased, np.where(np.isnan(signal), np.nan, 1.0))
    return {
        "cosine": _cosines(dots.sum(axis=-1)[..., None])[..., 0],
        "cosine_unbiased": unbiased,
        "z": z,
        "cosine_by_parameter": _cosines(dots),
    }


def _products(a: GroupSums, b: GroupSums, *, same: bool) -> np.ndarray:
    """Return the inner products of group means (g, h); with ``same``, of the groups that both tasks have."""
    rows, columns = a.used, b.used
    if same:
        rows = columns = np.intersect1d(rows, columns)
    products = (a.vectors @ b.vectors.T).cpu().numpy()[np.ix_(rows, columns)]
    found: np.ndarray = products / np.outer(a.weight[rows], b.weight[columns])
    return found


def _signal(sums: GroupSums) -> float:
    """Return the unbiased |G|², or NaN where it cannot be told from zero."""
    if sums.examples < 2:
        return float("nan")
    whole, left = sums.moments()
    value = float(whole.norm2().sum())
    error = float(jackknife(left.norm2().sum(axis=-1)))
    return value if value > 1.96 * error and value > 0 else float("nan")


def _cosines(dots: np.ndarray) -> np.ndarray:
    """Return cosines from inner products (T, T, P); 1 on the diagonal, NaN with a gradient of zero."""
    norms = np.sqrt(np.einsum("iip->ip", dots))
    with np.errstate(all="ignore"):
        cosines = np.clip(dots / (norms[:, None] * norms[None]), -1, 1)
    diagonal = np.arange(len(dots))
    cosines[diagonal, diagonal] = 1
    return cosines


def _status(sums: dict[str, GroupSums]) -> tuple[str, str]:
    bad = {name: s for name, s in sums.items() if s.not_finite}
    if bad:
        name, first = next(iter(bad.items()))
        return "not finite", f"{name}: {not_finite_message(first.not_finite, first.examples)}"
    few = [name for name, s in sums.items() if len(s.used) < 4]
    message = f"{sum(s.examples for s in sums.values())} examples of {len(sums)} tasks"
    if few:
        message += f"; {', '.join(few[:5])}: too few examples for an error bar worth the name"
    return "complete", message
