"""The objective on a line or a plane through the model's present point."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.objective import Objective
from landscape.objective.metrics import metrics_named
from landscape.progress import Bar
from landscape.results import Surface
from landscape.results.partial import Partial, check_target
from landscape.results.provenance import Cost, collect
from landscape.results.surfaces import check_span
from landscape.surfaces.basis import Directions


def surface(
    objective: Objective,
    directions: Directions,
    *,
    span: Any = (-1.0, 1.0),
    points: int | Sequence[int] = 51,
    metrics: Sequence[str] = ("loss",),
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Surface:
    """Evaluate metrics at θ + x d₁ (+ y d₂) on a grid.

    Parameters
    ----------
    objective : Objective
        The loss; θ is the model's present point, buffers (running statistics) stay as they are.
    directions : Directions
        One for a line, two for a plane.
    span : (low, high) or a pair of those
        Range along each direction, in multiples of it.
    points : int or pair of int
        Grid points along each direction. An odd number puts θ itself on a symmetric grid.
    metrics : sequence of str
        ``"loss"``, ``"accuracy"``, ``"error"``: all from the same forward passes.
    out : path, optional
        Write the result there (``.nc``). A partial file beside it is kept while the work runs; after an
        interruption the same call goes on where it stopped.
    overwrite : bool
        Whether ``out`` may replace a file.

    Returns
    -------
    Surface
        The value at the centre is exactly ``objective.value()``. A point whose loss is not finite is NaN
        and stays NaN. After Ctrl-C the points evaluated so far, coarse to fine, with status
        ``"interrupted"``.

    Notes
    -----
    One forward pass over the data a point. Memory: three vectors beside the model.
    """
    metrics = list(metrics_named(metrics))
    coords = _grid(len(directions), span, points)
    check_target(out, overwrite)
    point = objective.point()
    centre = {name: float(v) for name, v in objective.evaluate(metrics, point).items()}
    objective.check_finite(point)
    shape = tuple(len(c) for c in reversed(coords))
    partial = Partial(out, _key(objective, directions, coords, centre), overwrite=overwrite)
    values = {name: np.full(shape, np.nan) for name in metrics}
    evaluated = np.zeros(shape, dtype=bool)
    if partial.found:
        evaluated[...] = partial.found["evaluated"]
        for name, array in values.items():
            array[...] = partial.found[name]

    def result(cost: Cost, interrupted: bool) -> Surface:
        status, message = _status(values, evaluated, interrupted)
        return Surface.make(
            values,
            coords,
            evaluated,
            centre=centre,
            directions=directions.describe(),
            status=status,
            message=message,
            provenance=collect(cost, span=[[c[0], c[-1]] for c in coords], **objective.provenance()),
        )

    def state() -> dict[str, np.ndarray]:
        return {"evaluated": evaluated, **values}

    interrupted = False
    with Cost() as cost:
        try:
            _fill(objective, point, directions, coords, values, evaluated, lambda: partial.save(state))
        except KeyboardInterrupt:
            interrupted = True
            partial.save(state, now=True)
    finished = result(cost, interrupted)
    if not interrupted:
        partial.finish(finished)
    return finished


def _fill(
    objective: Objective,
    point: Any,
    directions: Directions,
    coords: list[np.ndarray],
    values: dict[str, np.ndarray],
    evaluated: np.ndarray,
    keep: Callable[[], None],
) -> None:
    """Evaluate what is missing, coarse to fine, calling ``keep`` now and then."""
    with Bar("surface", total=evaluated.size) as bar:
        bar.advance(int(evaluated.sum()))
        for index in coarse_to_fine(evaluated.shape):
            if evaluated[index]:
                continue
            vector = point.vector.clone()
            for direction, coord, i in zip(directions.vectors, coords, reversed(index), strict=True):
                vector.add_(direction, alpha=float(coord[i]))
            found = objective.evaluate(list(values), point.moved(vector))
            for name, value in found.items():
                number = float(value)
                values[name][index] = number if np.isfinite(number) else np.nan
            evaluated[index] = True
            bar.advance()
            keep()


def coarse_to_fine(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every index of a grid once, those of coarser sub-grids first."""
    stride = 1
    while stride * 4 < max(shape):
        stride *= 2
    seen = np.zeros(shape, dtype=bool)
    while stride >= 1:
        for index in np.ndindex(*shape):
            # strides count from the middle, so that the centre comes with the coarsest grid
            if not seen[index] and all((i - n // 2) % stride == 0 for i, n in zip(index, shape, strict=True)):
                seen[index] = True
                yield index
        stride //= 2


def _grid(count: int, span: Any, points: int | Sequence[int]) -> list[np.ndarray]:
    if count not in (1, 2):
        raise InputError(
            "a surface has one or two directions", got=count, fix="pass n=1 or n=2 to ls.directions.random"
        )
    spans = [span] * count if np.ndim(span) == 1 else list(span)
    counts = [points] * count if isinstance(points, int | np.integer) else list(points)
    if len(spans) != count or len(counts) != count:
        raise InputError(
            f"span and points must be given once, or for each of {count} directions",
            got=f"{len(spans)} spans and {len(counts)} numbers of points",
            fix="pass one of each",
        )
    coords = []
    for one, number in zip(spans, counts, strict=True):
        low, high = check_span(one)
        if not isinstance(number, int | np.integer) or number < 2:
            raise InputError("points must be at least 2 along each direction", got=number, fix="pass for example 51")
        coord = np.linspace(low, high, number)
        coord[np.abs(coord) < 1e-12 * (high - low)] = 0.0  # the centre is on the grid exactly
        coords.append(coord)
    return coords


def _key(
    objective: Objective, directions: Directions, coords: list[np.ndarray], centre: dict[str, float]
) -> dict[str, Any]:
    """Return everything that decides the numbers, so that only the same work is resumed."""
    return {
        "point": hashlib.blake2b(objective.vector().cpu().numpy().tobytes(), digest_size=8).hexdigest(),
        "directions": directions.describe(),
        "coords": [c.tolist() for c in coords],
        "centre": centre,
        "objective": objective.provenance(),
    }


def _status(values: dict[str, np.ndarray], evaluated: np.ndarray, interrupted: bool) -> tuple[str, str]:
    done, total = int(evaluated.sum()), evaluated.size
    blank = int((np.isnan(next(iter(values.values()))) & evaluated).sum())
    message = f"{done} of {total} points evaluated"
    if blank:
        message += f"; {blank} of them not finite and left blank: a narrower span avoids them"
    if interrupted:
        return "interrupted", f"stopped by Ctrl-C: {message}; the same call with out= goes on from here"
    return "complete", message
