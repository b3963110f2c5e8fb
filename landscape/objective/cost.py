"""What products will cost: a short trial on the first batch, scaled to all of the data."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.objective.footprint import peak_memory
from landscape.seeds import normal

if TYPE_CHECKING:
    from landscape.objective.batches import Batches
    from landscape.objective.objective import Objective

REPEATS = 3  # timed products, of which the median counts
ENOUGH = 0.5  # seconds after which none is repeated
SHORT = 0.05  # seconds of a pass over one batch in which the work beside the batch shows


@dataclass(frozen=True)
class CostEstimate:
    """What ``products`` products over ``batches`` batches will take: ``seconds`` and ``peak_bytes``."""

    seconds: float
    peak_bytes: int
    products: int
    batches: int

    def __str__(self) -> str:
        plural = "" if self.products == 1 else "s"
        return f"{self.products} product{plural}: about {_time(self.seconds)} and {_size(self.peak_bytes)}"


def estimate(objective: Objective, op: Any, products: int, columns: int) -> CostEstimate:
    """Return what ``products`` products with ``op``, ``columns`` at a time, will cost."""
    for name, number in (("products", products), ("columns", columns)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be at least 1", got=number, fix=f"pass for example {name}=1")
    if not (hasattr(op, "__matmul__") and hasattr(op, "shape")):
        raise InputError("a cost is that of products with an operator", got=type(op).__name__,
                         fix="pass for example ls.Hessian(objective)")  # fmt: skip
    objectives = list({id(o): o for o in getattr(op, "objectives", None) or (objective,)}.values())
    data = [o.batches for o in objectives]
    for o in objectives:
        with o.session(grad=False):
            o.batches.survey()
    width = min(columns, products)
    calls = -(-products // width)
    many = any(batches.count != 1 for batches in data)

    vectors = [normal(op.shape[1], 0, i, dtype=op.dtype, device=op.device) for i in range(width)]
    block = vectors[0] if width == 1 else torch.stack(vectors, dim=1)
    del vectors

    def trial() -> Callable[[], Any]:
        """Return the first product with a new copy of ``op``, and later ones each time it is called."""
        own = _copied(op, objectives, {})
        return lambda: own @ block

    with _first_batches(data, 1) as examples:
        trial()()  # what is done once for an objective, its checks, is done now
        first, later = _timed(trial)
    fixed = 0.0
    with _first_batches(data, 2 if many else 1):
        with peak_memory(objective.device) as peak:
            product = trial()
            product()
            if not many:  # a graph may be kept
                product()
        if many and later < SHORT:
            twice = median(_seconds(product) for _ in range(REPEATS))
            fixed = min(max(0.0, 2 * later - twice), later)
        del product
    share = sum(batches.examples for batches in data) / max(1, examples)
    read = sum(batches.seconds for batches in data if batches.place == "none")
    seconds = (first - fixed) * share + fixed + (calls - 1) * ((later - fixed) * share + fixed) + calls * read
    stays = sum(_resident(o) for o in objectives) + block.numel() * block.element_size()
    return CostEstimate(seconds, peak.bytes + stays, products, sum(batches.count or 0 for batches in data))


@contextmanager
def _first_batches(data: list[Batches], times: int) -> Iterator[int]:
    """Let the first batch, ``times`` times, stand for each objective's data; give the number of its examples."""
    with ExitStack() as stack:
        for batches in data:
            stack.enter_context(batches.undisturbed())
        yield sum(stack.enter_context(batches.limited(times)) for batches in data)


def _timed(trial: Callable[[], Callable[[], Any]]) -> tuple[float, float]:
    """Return the seconds of a first product and of a later one, medians of a few."""
    firsts: list[float] = []
    laters: list[float] = []
    began = time.perf_counter()
    while not firsts or (len(firsts) < REPEATS and time.perf_counter() - began < ENOUGH):
        product = trial()
        firsts.append(_seconds(product))
        laters.append(_seconds(product))
    return median(firsts), median(laters)


def _seconds(work: Callable[[], Any]) -> float:
    cuda = torch.cuda.is_initialized()
    if cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _copied(part: Any, shared: Sequence[Any], done: dict[int, Any]) -> Any:
    """Return a copy of an operator whose counts, values and kept graphs are its own; all else is shared."""
    if id(part) in done:
        return done[id(part)]
    if type(part) in (list, tuple):
        return type(part)(_copied(item, shared, done) for item in part)
    if type(part) is dict:
        return {key: _copied(item, shared, done) for key, item in part.items()}
    if isinstance(part, MethodType):
        return MethodType(part.__func__, _copied(part.__self__, shared, done))
    ours = hasattr(part, "matvecs") or type(part).__module__.startswith("landscape.")
    if not ours or isinstance(part, type | nn.Module) or any(part is one for one in shared):
        return part
    done[id(part)] = twin = copy.copy(part)
    for name, value in vars(part).items():
        object.__setattr__(twin, name, _copied(value, shared, done))
    return twin


def _resident(objective: Objective) -> int:
    """Return the bytes of what stays on the device: the model, the point, and the data if they are held there."""
    tensors = [*objective.model.parameters(), *objective.model.buffers()]
    model = sum(t.numel() * t.element_size() for t in tensors if t.device == objective.device)
    point = objective.space.n * objective.space.dtype.itemsize
    return model + point + (objective.batches.bytes if objective.batches.place == "device" else 0)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{_short(1000 * seconds)} ms"
    if seconds < 120:
        return f"{_short(seconds)} s"
    return f"{_short(seconds / 60)} min" if seconds < 7200 else f"{_short(seconds / 3600)} h"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{_short(size)} {unit}"
        size /= 1000
    return f"{_short(size)} GB"


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"
