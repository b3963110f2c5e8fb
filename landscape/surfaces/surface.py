"""The objective on a line or a plane through the model's present point."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import FileError, InputError
from landscape.objective import Objective
from landscape.objective.metrics import metrics_named
from landscape.progress import Bar
from landscape.results import Surface, load
from landscape.results.provenance import Cost, collect
from landscape.results.surfaces import check_span
from landscape.surfaces.basis import Directions

SAVE_EVERY = 15.0  # seconds between two saves of a partial surface


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
    target = _target(out, overwrite)
    point = objective.point()
    centre = {name: float(v) for name, v in objective.evaluate(metrics, point).items()}
    objective.check_finite(point)
    shape = tuple(len(c) for c in reversed(coords))
    key = _key(objective, directions, coords, centre)
    values = {name: np.full(shape, np.nan) for name in metrics}
    evaluated = np.zeros(shape, dtype=bool)
    partial = target.with_name(f".{target.stem}.partial.nc") if target is not None else None
    _resume(partial, key, values, evaluated)

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
            provenance=collect(cost, key=key, span=[[c[0], c[-1]] for c in coords], **objective.provenance()),
        )

    def keep(cost: Cost) -> None:
        if partial is not None:
            result(cost, interrupted=True).save(partial)

    interrupted = False
    with Cost() as cost:
        try:
            _fill(objective, point, directions, coords, values, evaluated, lambda: keep(cost))
        except KeyboardInterrupt:
            interrupted = True
            keep(cost)
    finished = result(cost, interrupted)
    if target is not None and not interrupted:
        finished.save(target)
        assert partial is not None
        partial.unlink(missing_ok=True)
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
    saved = time.monotonic()
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
            if time.monotonic() - saved > SAVE_EVERY:
                keep()
                saved = time.monotonic()


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


def _target(out: str | Path | None, overwrite: bool) -> Path | None:
    if out is None:
        return None
    target = Path(out)
    if target.suffix != ".nc":
        raise FileError("a surface is saved as a netCDF file", got=str(out), fix=f"pass {target.with_suffix('.nc')}")
    if not target.parent.is_dir():
        raise FileError("the folder to write into does not exist", got=str(target.parent), fix="create it first")
    if target.exists() and not overwrite:
        raise FileError("the file is already there", got=str(out), fix="pass overwrite=True, or another name")
    return target


def _key(objective: Objective, directions: Directions, coords: list[np.ndarray], centre: dict[str, float]) -> str:
    """Return a fingerprint of everything that decides the numbers, so that only the same work is resumed."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(objective.vector().cpu().numpy().tobytes())
    digest.update(repr((directions.describe(), [c.tolist() for c in coords], centre)).encode())
    digest.update(repr(objective.provenance()).encode())
    return digest.hexdigest()


def _resume(partial: Path | None, key: str, values: dict[str, np.ndarray], evaluated: np.ndarray) -> None:
    """Take over the points of a partial file made by the same call."""
    if partial is None or not partial.exists():
        return
    earlier = load(partial)
    if earlier.provenance.get("key") == key:
        evaluated[...] = earlier.dataset["evaluated"].to_numpy()
        for name, array in values.items():
            array[...] = earlier.dataset[name].to_numpy()


def _status(values: dict[str, np.ndarray], evaluated: np.ndarray, interrupted: bool) -> tuple[str, str]:
    done, total = int(evaluated.sum()), evaluated.size
    blank = int((np.isnan(next(iter(values.values()))) & evaluated).sum())
    message = f"{done} of {total} points evaluated"
    if blank:
        message += f"; {blank} of them not finite and left blank: a narrower span avoids them"
    if interrupted:
        return "interrupted", f"stopped by Ctrl-C: {message}; the same call with out= goes on from here"
    return "complete", message
