"""A recorded training run as a labelled dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.results.base import Result, number
from landscape.results.runlog import MemoryLog, read_log, read_snapshots


class Recording(Result):
    """What a monitor wrote during training.

    What every step gives (``loss``, ``lr``, ``gradient_norm``, ``update_ratio``) lies over ``step``.
    A scheduled metric's values lie over a dimension of the metric's own (``sharpness_step``), one
    variable per value (``sharpness``, ``sharpness_residual``, ...), beside ``<metric>_status``, its
    status in words. ``series(name)`` gives steps and values of any of them.
    """

    kind = "recording"

    @classmethod
    def from_directory(cls, folder: str | Path) -> Recording:
        """Read the folder that a monitor wrote, complete or not."""
        folder = Path(folder)
        header, lines = read_log(folder)
        recording = cls.from_lines(header, lines)
        recording._cache["folder"] = folder
        return recording

    @classmethod
    def from_memory(cls, log: MemoryLog) -> Recording:
        """Label what a monitor without a folder has kept."""
        recording = cls.from_lines(log.header, log.lines)
        recording._cache["snapshots"] = log.snapshots
        return recording

    @classmethod
    def from_lines(cls, header: dict[str, Any], lines: list[dict[str, Any]]) -> Recording:
        """Label the ``lines`` of a log; of a record written twice (after a resume) the later counts."""
        every: dict[int, dict[str, float]] = {}
        scheduled: dict[str, dict[int, dict[str, Any]]] = {}
        for line in lines:
            if "metric" in line:
                scheduled.setdefault(line["metric"], {})[line["step"]] = line
            else:
                every[line["step"]] = line["values"]
        steps = sorted(every)
        coords: dict[str, Any] = {"step": np.array(steps, dtype=np.int64)}
        variables: dict[str, Any] = {}
        for name in sorted({key for values in every.values() for key in values}):
            values = [float(every[step].get(name, "nan")) for step in steps]
            variables[name] = ("step", np.array(values))
        for metric, records in scheduled.items():
            dim = f"{metric}_step"
            coords[dim] = np.array(sorted(records), dtype=np.int64)
            ordered = [records[step] for step in sorted(records)]
            variables[f"{metric}_status"] = (
                dim,
                np.array([line.get("status", "") for line in ordered], dtype=object),
            )
            variables[f"{metric}_seconds"] = (
                dim,
                np.array([line.get("seconds", np.nan) for line in ordered], float),
            )
            for key in dict.fromkeys(key for line in ordered for key in line["values"]):
                arrays = [_array(line["values"].get(key)) for line in ordered]
                stacked = _stacked(arrays)
                axes = [f"{key}_axis{i}" for i in range(stacked.ndim - 1)]
                variables[key] = ((dim, *axes), stacked)
        return cls._build(
            variables,
            coords,
            status=header.get("status", "interrupted"),
            message=header.get("message", ""),
            provenance=header.get("provenance", {}),
            header=json.dumps({k: v for k, v in header.items() if k != "provenance"}, default=str),
        )

    @property
    def header(self) -> dict[str, Any]:
        """What was recorded and how: optimizer, metrics with their settings, labels, overhead."""
        found: dict[str, Any] = json.loads(self.dataset.attrs["header"])
        return found

    @property
    def metrics(self) -> list[str]:
        """Names of the scheduled metrics that have records."""
        return [str(name).removesuffix("_status") for name in self.dataset.data_vars if str(name).endswith("_status")]

    def series(self, name: str) -> xr.DataArray:
        """Return one recorded quantity with its steps; raise ``KeyError`` naming what there is."""
        if name not in self.dataset:
            known = ", ".join(map(str, self.dataset.data_vars))
            raise KeyError(f"nothing called {name!r} was recorded; there is {known}")
        return self.dataset[name]

    def snapshots(self) -> tuple[list[int], list[np.ndarray]]:
        """Return steps and parameter vectors stored beside the log."""
        if "folder" in self._cache:
            return read_snapshots(self._cache["folder"])
        kept = self._cache.get("snapshots", [])
        return [step for step, _ in kept], [vector for _, vector in kept]

    def summary(self) -> dict[str, str]:
        """Return the last value of each scalar series."""
        lines = {"steps": str(self.dataset.sizes.get("step", 0))}
        for name, variable in self.dataset.data_vars.items():
            is_cost = str(name).endswith("_seconds")
            if variable.ndim == 1 and variable.dtype.kind == "f" and variable.size and not is_cost:
                lines[str(name)] = f"{number(float(variable[-1]))} at the end"
        return lines


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the arrays as one, with NaN where a shorter one (or one of fewer dimensions) has nothing."""
    ndim = max(a.ndim for a in arrays)
    whole = [a for a in arrays if a.ndim == ndim]
    shape = tuple(max(a.shape[i] for a in whole) for i in range(ndim))
    stacked = np.full((len(arrays), *shape), np.nan)
    for row, a in zip(stacked if ndim else stacked[:, None], arrays, strict=True):
        if a.ndim == ndim:
            row[tuple(slice(size) for size in a.shape) or slice(None)] = a
    return stacked


def _array(value: Any) -> np.ndarray:
    """Return a logged value (a number, a nested list, NaN and infinities as strings) as float64."""
    return np.array(np.nan if value is None else value, dtype=np.float64)
