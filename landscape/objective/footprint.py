"""How much memory tensors take at most while something runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.autograd.profiler import profile

from landscape.errors import InputError


class Peak:
    """``bytes``: the most that was in use at one time in the block, beyond what was in use when it began."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak of the memory that tensors take on ``device`` in the block.

    On CUDA the allocator's own count, with its peak statistics reset. On the CPU every allocation is
    recorded by torch's profiler, which slows the block down a little.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    if torch.autograd._profiler_enabled():
        raise InputError("memory cannot be measured inside torch's profiler", fix="measure before or after it")
    with _silent(), profile(profile_memory=True, use_kineto=False) as profiler:
        yield peak
    result = profiler.kineto_results
    allocations = [event for event in result.events() if event.name() == "[memory]"] if result is not None else []
    live = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak.bytes = max(peak.bytes, live)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the profiler from writing to the terminal that it started."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "99")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
