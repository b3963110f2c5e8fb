"""Cosines between the gradients of tasks."""

from __future__ import annotations

import numpy as np

from landscape.errors import InputError
from landscape.plots.sheets import Matrix, Sheet
from landscape.plots.style import check_size
from landscape.plots.titles import heading, shorten
from landscape.results.gradients import GradientConflict

BEYOND_NOISE = -1.96
_QUANTITIES = ("cosine", "cosine_unbiased", "z")
_MOST_NUMBERS, _MOST_SMALL_NUMBERS = 12, 3


def conflict(
    result: GradientConflict,
    quantity: str | None = None,
    *,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Sheet:
    """Draw ``"cosine"`` (the default), ``"cosine_unbiased"`` or ``"z"`` for every pair of tasks."""
    name = quantity or "cosine"
    if name not in _QUANTITIES:
        raise InputError(
            "a gradient conflict has no such quantity", got=quantity, fix=f"use one of {', '.join(_QUANTITIES)}"
        )
    values = result.dataset[name].to_numpy()
    tasks = [str(task) for task in result.dataset["task"].to_numpy()]
    reach = 1.0 if name != "z" else float(np.nanmax(np.abs(_off_diagonal(values)), initial=2.0))
    label = str(result.dataset[name].attrs.get("long_name", name))
    panel = cosine_matrix(
        values, tasks, label, reach=reach, marked=result.dataset["z"].to_numpy() < BEYOND_NOISE,
        note=f"framed: conflict that noise does not explain (z < {BEYOND_NOISE})".replace("-", "−"),
    )  # fmt: skip
    side = min(max(4.6, 2.6 + 0.62 * len(tasks)), 14.0)
    what = f"Gradient conflict between {len(tasks)} tasks"
    return Sheet(*heading(result, what, title), [[panel]], check_size(size, (side + 1.2, side)))


def cosine_matrix(
    values: np.ndarray,
    tasks: list[str],
    label: str,
    *,
    reach: float = 1.0,
    marked: np.ndarray | None = None,
    title: str = "",
    note: str = "",
    compact: bool = False,
) -> Matrix:
    """Return a matrix over pairs of tasks, the diagonal and unknown cells greyed; ``compact`` for a small panel."""
    diagonal = np.eye(len(tasks), dtype=bool)
    marked = np.zeros_like(diagonal) if marked is None else marked & ~diagonal
    tasks, axis = _without_common_word(tasks)
    short = [shorten(task, 10 if compact else 22) for task in tasks]
    return Matrix(
        values, short, short, -reach, reach, label, diagonal | ~np.isfinite(values), marked,
        len(tasks) <= (_MOST_SMALL_NUMBERS if compact else _MOST_NUMBERS), title, note, axis, compact,
    )  # fmt: skip


def _without_common_word(tasks: list[str]) -> tuple[list[str], str]:
    """Return what is left of ``tasks`` after the words that all begin with, and those words."""
    words = {task.rpartition(" ")[0] for task in tasks}
    word = words.pop()
    if words or not word or len(tasks) < 2:
        return tasks, ""
    return [task.rpartition(" ")[2] for task in tasks], word


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]
