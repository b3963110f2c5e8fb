"""When to look."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from landscape.errors import InputError
from landscape.monitor.metrics import Metric


def is_due(step: int, every: int, *, first: bool, last: bool) -> bool:
    """Whether there is a record at ``step``: before the first step, every so many, and after the last one."""
    on_time = step % every == 0
    return first or (not on_time if last else on_time)


def intervals(metrics: Sequence[Metric], every: int | Mapping[str, int]) -> dict[str, int]:
    """Return the steps between two records of each metric."""
    names = [m.name for m in metrics]
    if len(set(names)) < len(names):
        raise InputError(
            "metrics must have different names",
            got=", ".join(names),
            why="their records would overwrite each other",
            fix="watch the second with a monitor of its own",
        )
    given = every if isinstance(every, Mapping) else {m.name: every for m in metrics}
    unknown = [str(name) for name in given if name not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise InputError("every names a metric that is not watched", got=unknown[0],
                         fix=f"did you mean {near[0]!r}?" if near else f"watched are {', '.join(names)}")  # fmt: skip
    for m in metrics:
        interval = given.get(m.name)
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise InputError(
                f"every must give a positive number of steps for {m.name}",
                got=interval,
                fix="pass every=50, or a dictionary with each metric's name",
            )
    return {m.name: int(given[m.name]) for m in metrics}
