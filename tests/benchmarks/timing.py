"""What the benchmarks share: contestants timed in turn, and tables.

``CLOCK=processor`` counts the processor's seconds in place of the wall's, for machines that others use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

K = TypeVar("K")


clock = time.process_time if os.environ.get("CLOCK") == "processor" else time.perf_counter


def seconds(work: Callable[[], Any]) -> float:
    """Return how long ``work`` takes."""
    began = clock()
    work()
    return clock() - began


def in_turn(
    unit: Callable[[], Any], contestants: Mapping[K, Callable[[], Any]], rounds: int
) -> tuple[float, dict[K, float]]:
    """Return the seconds of ``unit`` and of each contestant: medians over rounds in which all have their turn.

    The unit is timed before each contestant and at the end: what slows the machine down for a while slows both.
    """
    units: list[float] = []
    found: dict[K, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            units.append(seconds(unit))
            found[name].append(seconds(work))
        units.append(seconds(unit))
    return median(units), {name: median(times) for name, times in found.items()}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that can be pasted into the documentation."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
