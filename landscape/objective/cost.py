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

REPEATS = 5  # trials, of which the median counts
ENOUGH = 0.5  # seconds after which none is repeated
SHORT = 0.05  # seconds of a pass over one batch in which the work beside the batch shows
PLAIN = 0.4  # part of a pass over one batch that does not grow with the data


@dataclass(frozen=True)
class CostEstimate:
    """What ``products`` products over ``batches`` batches will take: ``seconds`` and ``peak_bytes``.

    ``backend`` says how products are made and why not in other ways; ``time`` and ``memory`` are in words.
    """

    seconds: float
    peak_bytes: int
    products: int
    batches: int
    backend: str = ""

    @property
    def time(self) -> str:
        """The seconds in words, such as "12 s"."""
        return _time(self.seconds)

    @property
    def memory(self) -> str:
        """The peak in words, such as "1.3 GB"."""
        return _size(self.peak_bytes)

    def __str__(self) -> str:
        plural = "" if self.products == 1 else "s"
        return f"{self.products} product{plural}: about {self.time} and {self.memory}"


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

    waits = [batches.seconds if batches.place == "none" else 0.0 for batches in data]

    def waited() -> float:
        """Return the seconds that the sources would have taken for all passes so far."""
        return sum(batches.passes * wait for batches, wait in zip(data, waits, strict=True))

    estimates: list[float] = []
    with _first_batches(data, 1) as examples:
        share = sum(batches.examples for batches in data) / max(1, examples)
        own = _copied(op, objectives, {})
        own @ block  # what is done once for an objective, its checks, is done now
        backend = _backend(own)
        del own
        began = time.perf_counter()
        while not estimates or (len(estimates) < REPEATS and time.perf_counter() - began < ENOUGH):
            twice = once = _timed(trial(), waited)
            if many and (once[1].seconds < SHORT or once[0].seconds > 2 * once[1].seconds):
                with _first_batches(data, 2):  # what does not grow with the data shows beside a second batch
                    twice = _timed(trial(), waited)
            first, later = (_scaled(*times, share) for times in zip(once, twice, strict=True))
            estimates.append(first + (calls - 1) * later)
        with _first_batches(data, 2 if many else 1), peak_memory(objective.device) as peak:
            product = trial()
            product()
            if not many:  # a graph may be kept
                product()
            del product
    stays = sum(_resident(o) for o in objectives) + block.numel() * block.element_size()
    batches = sum(part.count or 0 for part in data)
    return CostEstimate(median(estimates), peak.bytes + stays, products, batches, backend)


def _backend(op: Any) -> str:
    """Return how the products of ``op`` were made, and why other ways were given up."""
    facts = op.provenance() if hasattr(op, "provenance") else {}
    return "; ".join(facts[key] for key in ("backend", "backends that failed") if key in facts)


@contextmanager
def _first_batches(data: list[Batches], times: int) -> Iterator[int]:
    """Let the first batch, ``times`` times, stand for each objective's data; give the number of its examples."""
    with ExitStack() as stack:
        for batches in data:
            stack.enter_context(batches.undisturbed())
        yield sum(stack.enter_context(batches.limited(times)) for batches in data)


@dataclass(frozen=True)
class _Time:
    """Seconds that a product took, and those that it would have waited for data which are not held."""

    seconds: float
    waited: float


def _timed(product: Callable[[], Any], waited: Callable[[], float]) -> tuple[_Time, _Time]:
    """Return the time of a first product and of a later one."""
    times = []
    for _ in range(2):
        before = waited()
        times.append(_Time(_seconds(product), waited() - before))
    return times[0], times[1]


def _scaled(once: _Time, twice: _Time, share: float) -> float:
    """Return the seconds over ``share`` times the first batch, given those over it once and twice."""
    if twice is once:  # not measured: all of it grows with the data
        return once.seconds * share + once.waited
    fixed = 2 * once.seconds - twice.seconds
    if fixed < PLAIN * once.seconds:  # a difference of two noisy times is believed only when it is large
        return twice.seconds * share / 2 + once.waited
    fixed = min(fixed, once.seconds)
    return fixed + (once.seconds - fixed) * share + once.waited


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
