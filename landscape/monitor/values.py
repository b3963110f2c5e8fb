"""What can be recorded: numbers and arrays, each under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.monitor.metrics import Metric

STEPS, LOOP = "the monitor, at each step", "monitor.log"  # who records
_RATE = re.compile(r"lr(_\d+)?")


class Names:
    """Who records what. Under one name for two quantities the run could not be read."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._owners = {"step": STEPS, "gradient_norm": STEPS, "update_ratio": STEPS, "loss": LOOP}
        for metric in metrics:
            for name in ("", "_step", "_status", "_seconds"):
                self._owners.setdefault(metric.name + name, metric.name)

    def claim(self, names: Iterable[Any], owner: str) -> None:
        """Refuse names that another than ``owner`` records, and such as no file can hold."""
        for name in names:
            if self._owners.get(name) == owner:
                continue
            if not isinstance(name, str) or name in ("", ".") or "/" in name:
                raise InputError(
                    "a recorded quantity must have a name without slashes",
                    got=repr(name),
                    why="files of results have folders where a name has slashes",
                    fix="write train_accuracy for train/accuracy",
                )
            if (other := STEPS if _RATE.fullmatch(name) else self._owners.setdefault(name, owner)) != owner:
                raise InputError(
                    "a recorded quantity must have a name of its own",
                    got=f"{name!r}, which {other} records",
                    why="the run could not be read",
                    fix=f"give it another name, as own_{name}",
                )


def number(name: str, value: Any) -> float | torch.Tensor:
    """Return what the loop logs as a number, or as a copy (0-d) on its device, without waiting for it."""
    if isinstance(value, torch.Tensor):
        if value.numel() == 1 and not value.is_complex():
            return value.detach().clone().reshape(())
        got = f"a {'complex ' * value.is_complex()}tensor of shape {tuple(value.shape)}"
    elif isinstance(value, Real | np.bool_):
        return float(value)
    elif isinstance(value, np.ndarray):
        if value.size == 1 and value.dtype.kind in "buif":
            return float(value.item())
        got = f"an array of shape {value.shape} and dtype {value.dtype}"
    else:
        got = repr(value) if isinstance(value, str | None) else f"a {type(value).__name__}"
    raise InputError(
        "monitor.log takes numbers",
        got=f"{got[:80]} for {name}",
        why="a series has one number at each step",
        fix="log a mean or single entries, or record arrays by a metric",
    )


def arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a metric as numbers and numpy arrays."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        wide = torch.float64 if torch.is_tensor(value) and value.is_floating_point() else None
        try:
            array = np.asarray(value.detach().to("cpu", wide) if torch.is_tensor(value) else value)
        except ValueError:  # rows of different lengths
            array = np.empty(0, dtype=object)
        if value is not None and array.dtype.kind not in "buif":
            raise InputError(
                "a metric must return numbers or arrays of them",
                got=f"a {type(value).__name__} for {name}",
                why="a file could not hold it",
                fix="put words into the status",
            )
        found[name] = array if array.ndim else array.item()
    return found
