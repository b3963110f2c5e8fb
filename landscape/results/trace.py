"""A trace with its error bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from landscape.results.base import Result, check_level, host, number


class TraceResult(Result):
    """A trace estimated from random probes, with its error bar."""

    kind = "trace"

    @classmethod
    def make(
        cls,
        samples: Any,
        by_parameter: Any,
        names: list[str],
        *,
        n: int,
        rtol: float,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> TraceResult:
        """Label ``samples`` (probes,) and ``by_parameter`` (probes, names)."""
        return cls._build(
            {
                "samples": ("probe", host(samples, np.float64), {"long_name": "vᵀAv of one probe"}),
                "samples_by_parameter": (("probe", "parameter"), host(by_parameter, np.float64)),
            },
            {"probe": np.arange(len(samples)), "parameter": names},
            status=status,
            message=message,
            provenance=provenance,
            n=n,
            rtol=rtol,
            matvecs=matvecs,
        )

    @property
    def estimate(self) -> float:
        """The mean over probes."""
        return float(self.dataset["samples"].mean())

    @property
    def stderr(self) -> float:
        """The standard error of the mean; NaN with a single probe."""
        count = self.dataset.sizes["probe"]
        return float(self.dataset["samples"].std(ddof=1)) / count**0.5 if count > 1 else float("nan")

    @property
    def matvecs(self) -> int:
        """Operator products used."""
        return int(self.dataset.attrs["matvecs"])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the Student-t interval that holds the trace with probability ``level``."""
        check_level(level)
        half = stats.t.ppf(0.5 + level / 2, self.dataset.sizes["probe"] - 1) * self.stderr
        return self.estimate - half, self.estimate + half

    @property
    def by_parameter(self) -> xr.Dataset:
        """``estimate`` and ``stderr`` of each named parameter's share of the trace, from the same probes."""
        samples = self.dataset["samples_by_parameter"]
        count = samples.sizes["probe"]
        return xr.Dataset({"estimate": samples.mean("probe"), "stderr": samples.std("probe", ddof=1) / count**0.5})

    def summary(self) -> dict[str, str]:
        """Return the trace with its interval."""
        low, high = self.interval()
        return {
            "trace": number(self.estimate, self.stderr),
            "95 % interval": f"[{low:.5g}, {high:.5g}]",
            "products": str(self.matvecs),
        }
