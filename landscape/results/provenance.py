"""What made a number: versions, and what it cost."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

from landscape.version import __version__


@cache
def versions() -> dict[str, str]:
    """Return the versions of everything a number can depend on."""
    found = {"landscape": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in ("torch", "numpy", "scipy")}
    return found


class Cost:
    """Measure a block: ``with Cost() as cost: ...; cost.as_dict()`` gives seconds and peak bytes.

    On CUDA the peak is that of the allocator during the block; on the CPU it is the largest resident
    size of the process so far, an upper bound for the block.
    """

    def __enter__(self) -> Cost:
        self._began = time.perf_counter()
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began

    def as_dict(self) -> dict[str, Any]:
        """Return the measured cost, up to now if the block has not ended."""
        seconds = getattr(self, "seconds", None) or time.perf_counter() - self._began
        if self._cuda is not None:
            peak = int(self._cuda.max_memory_allocated())
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {"seconds": round(seconds, 4), "peak_bytes": peak}


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


_OWN = ("versions", "created", "seconds", "peak_bytes", "matvecs")


def shared(results: Iterable[Any]) -> dict[str, Any]:
    """Return the facts that all results have in common, apart from what each of them cost."""
    facts = [result.provenance for result in results]
    return {
        key: value
        for key, value in facts[0].items()
        if key not in _OWN and all(key in other and other[key] == value for other in facts)
    }


def collect(cost: Cost | None = None, **facts: Any) -> dict[str, Any]:
    """Return versions, time of making, cost and ``facts`` as one dictionary."""
    return {
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **(cost.as_dict() if cost is not None else {}),
        **facts,
    }
