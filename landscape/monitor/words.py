"""A run in words: what it is of, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import optim

from landscape.monitor.metrics import Metric

NO_LOSS = (
    "the training loss was not seen, because the loop does not call the objective's own criterion: "
    "record it with monitor.log(loss=loss)"
)


def ending(kind: type[BaseException] | None, error: BaseException | None, step: int) -> tuple[str, str]:
    """Return status and message of a run that ended after ``step`` steps, with ``error`` or without one."""
    if kind is None:
        return "complete", f"{step} steps"
    if issubclass(kind, KeyboardInterrupt):
        return "interrupted", f"stopped by Ctrl-C after {step} steps"
    return "failed", f"training ended after {step} steps with {kind.__name__}: {error}"


def described(optimizer: optim.Optimizer) -> dict[str, Any]:
    """Return the optimizer's name and the settings of its first group."""
    group = optimizer.param_groups[0]
    settings = {
        k: v for k, v in group.items() if isinstance(v, int | float | str | bool | tuple | list) and k != "params"
    }
    return {"name": type(optimizer).__name__, "groups": len(optimizer.param_groups), **settings}


def labels(metrics: Iterable[Metric]) -> dict[str, list[str]]:
    """Return the names along the axes of the metrics' arrays."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        found |= getattr(metric, "labels", {})
    return found


def notes(metrics: Iterable[Metric]) -> dict[str, str]:
    """Return in words what a metric is measured on, where that is not the monitor's own objective."""
    own = {m.name: getattr(m, "objective", None) for m in metrics}
    return {
        name: f"{objective.mode} mode, {objective.batches.examples} examples"
        for name, objective in own.items()
        if objective is not None
    }
