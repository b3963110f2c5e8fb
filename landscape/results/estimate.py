"""One number estimated from random probes, with its error bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from landscape.results.base import FromProbes, check_level, host, number


class Estimate(FromProbes):
    """A number estimated from random probes: a norm, an effective rank.

    ``running`` (probe) in ``dataset`` is the estimate from the first probes only, for every number of them, with
    ``running_stderr``; both are empty when the number was computed and not estimated.
    """

    kind = "estimate"

    @classmethod
    def make(
        cls,
        estimate: float,
        stderr: float,
        running: Any,
        running_stderr: Any,
        *,
        name: str,
        definition: str,
        dof: float,
        positive: bool,
        n: int,
        rtol: float,
        method: str,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> Estimate:
        """Label an estimate; ``positive`` numbers get the interval of :func:`about`."""
        return cls._build(
            {
                "estimate": ((), float(estimate), {"long_name": name}),
                "stderr": ((), float(stderr)),
                "dof": ((), float(dof), {"long_name": "degrees of freedom of the error bar"}),
                "running": ("probe", host(running, np.float64), {"long_name": f"{name} from the first probes"}),
                "running_stderr": ("probe", host(running_stderr, np.float64)),
            },
            status=status,
            message=message,
            provenance=provenance,
            name=name,
            definition=definition,
            positive=int(positive),
            n=n,
            rtol=rtol,
            method=method,
            matvecs=matvecs,
        )

    @property
    def name(self) -> str:
        """What the number is."""
        return str(self.dataset.attrs["name"])

    @property
    def estimate(self) -> float:
        """The number."""
        return float(self.dataset["estimate"])

    @property
    def stderr(self) -> float:
        """Its standard error; 0 when it is exact."""
        return float(self.dataset["stderr"])

    @property
    def dof(self) -> float:
        """How many degrees of freedom the standard error has."""
        return float(self.dataset["dof"])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that holds the number with probability ``level``."""
        half = quantile(level, self.dof) * self.stderr
        return about(self.estimate, half, positive=bool(self.dataset.attrs["positive"]))

    def summary(self) -> dict[str, str]:
        """Return the number with its interval."""
        low, high = self.interval()
        return {
            self.name: number(self.estimate, self.stderr),
            "95 % interval": f"[{low:.5g}, {high:.5g}]",
            "products": str(self.matvecs),
        }


def about(estimate: float, half: float, *, positive: bool) -> tuple[float, float]:
    """Return the interval of this half-width; symmetric on a log scale, or from 0 on, for ``positive`` numbers."""
    if not positive:
        return estimate - half, estimate + half
    if half < estimate:
        factor = float(np.exp(half / estimate))
        return estimate / factor, estimate * factor
    return 0.0, estimate + (np.e - 1) * half


def quantile(level: float, dof: Any) -> Any:
    """Return how many standard errors an interval of probability ``level`` reaches to either side."""
    check_level(level)
    return stats.t.ppf(0.5 + level / 2, dof)


def shares(dataset: xr.Dataset, by: str) -> xr.Dataset:
    """Return sums by ``"parameter"`` or ``"layer"``: ``estimate``, ``stderr``, and the 95 % interval ``low``, ``high``.

    ``dataset`` holds the known part ``exact`` (parameter) and ``samples_by_parameter`` (probe, parameter).
    """
    names = [str(name) for name in dataset["parameter"].to_numpy()]
    return grouped(dataset, [name.rpartition(".")[0] or name for name in names] if by == "layer" else names, by)


def grouped(dataset: xr.Dataset, labels: list[str], by: str) -> xr.Dataset:
    """Return the same for parameters with equal ``labels`` taken together."""
    found = list(dict.fromkeys(labels))
    member = np.array([[label == name for name in found] for label in labels], dtype=float)
    means, errors = mean_and_error(dataset["samples_by_parameter"].to_numpy() @ member)
    errors = errors * float(dataset.attrs["inflation"])
    half = quantile(0.95, max(1, dataset.sizes["probe"] - 1)) * errors
    middle = dataset["exact"].to_numpy() @ member + means
    columns = {"estimate": middle, "stderr": errors, "low": middle - half, "high": middle + half}
    return xr.Dataset({name: (by, values) for name, values in columns.items()}, {by: found})


def mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the first axis and its standard error; zeros without samples, NaN errors with one."""
    count = len(samples)
    if count == 0:
        return np.zeros(samples.shape[1]), np.zeros(samples.shape[1])
    if count == 1:
        return samples[0], np.full(samples.shape[1], np.nan)
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / count**0.5
