"""A trace with its error bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from landscape.results.base import FromProbes, host, number
from landscape.results.estimate import about, grouped, quantile, shares


class TraceResult(FromProbes):
    """The trace of an operator, or of a function of it, from random probes, with its error bar.

    It is the sum of a part that is known, ``exact`` (parameter) in ``dataset``, and of a mean over probes,
    ``samples_by_parameter`` (probe, parameter) with its sums ``samples`` (probe). Either may be missing: plain
    Hutchinson knows nothing, and a trace that was computed has no probes.
    """

    kind = "trace"

    @classmethod
    def make(
        cls,
        exact: Any,
        samples: Any,
        names: list[str],
        *,
        stderr: float,
        dof: float,
        inflation: float = 1.0,
        bias: float = 0.0,
        n: int,
        rtol: float,
        method: str,
        function: str = "identity",
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> TraceResult:
        """Label the known part ``exact`` (parameters,) and ``samples`` (probes, parameters).

        ``stderr`` is that of the whole, with ``dof`` degrees of freedom. ``inflation`` is by how much the error
        of a mean of these samples is larger than their spread says, where they depend on each other. ``bias``
        bounds what no further probe would mend (the error of a quadrature).
        """
        by = host(samples, np.float64).reshape(-1, len(names))
        return cls._build(
            {
                "exact": ("parameter", host(exact, np.float64), {"long_name": "part known without error"}),
                "samples": ("probe", by.sum(axis=1), {"long_name": "estimate of the rest by one probe"}),
                "samples_by_parameter": (("probe", "parameter"), by),
            },
            {"probe": np.arange(len(by)), "parameter": names},
            status=status,
            message=message,
            provenance=provenance,
            stderr=float(stderr),
            dof=float(dof),
            inflation=float(inflation),
            bias=float(bias),
            n=n,
            rtol=rtol,
            method=method,
            function=function,
            matvecs=matvecs,
        )

    @property
    def estimate(self) -> float:
        """The known part and the mean over probes."""
        return self.known + self.estimated

    @property
    def known(self) -> float:
        """The part that is known without error: that of the deflated directions, or all of it."""
        return float(self.dataset["exact"].sum())

    @property
    def estimated(self) -> float:
        """The part that was estimated: the mean over probes."""
        return float(self.dataset["samples"].mean()) if self.dataset.sizes["probe"] else 0.0

    @property
    def stderr(self) -> float:
        """The standard error of the estimate; 0 when it is exact."""
        return float(self.dataset.attrs["stderr"])

    @property
    def dof(self) -> float:
        """How many degrees of freedom the standard error has."""
        return float(self.dataset.attrs["dof"])

    @property
    def bias(self) -> float:
        """The estimated error of the quadrature, for a function that needs one; it is part of the interval."""
        return float(self.dataset.attrs["bias"])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that holds the trace with probability ``level``."""
        half = quantile(level, self.dof) * self.stderr + self.bias
        return about(self.estimate, half, positive=self.dataset.attrs["function"] == "square")

    @property
    def by_parameter(self) -> xr.Dataset:
        """Each named parameter's share, from the same probes: ``estimate``, ``stderr``, and the 95 % interval."""
        return shares(self.dataset, "parameter")

    @property
    def by_layer(self) -> xr.Dataset:
        """The same by layer: parameters whose names agree up to the last dot, taken together."""
        return shares(self.dataset, "layer")

    def together(self, names: list[str]) -> tuple[float, float, float]:
        """Return the share of the parameters ``names`` together, and the ends of its 95 % interval."""
        labels = ["in" if str(name) in names else "out" for name in self.dataset["parameter"].to_numpy()]
        found = grouped(self.dataset, labels, "group").sel(group="in")
        return float(found["estimate"]), float(found["low"]), float(found["high"])

    def summary(self) -> dict[str, str]:
        """Return the trace with its interval."""
        low, high = self.interval()
        function = str(self.dataset.attrs["function"])
        found = {
            "trace" if function == "identity" else f"trace of {function}": number(self.estimate, self.stderr),
            "95 % interval": f"[{low:.5g}, {high:.5g}]",
        }
        if self.known and self.dataset.sizes["probe"]:
            found["known part"] = f"{self.known:.5g}, the rest {number(self.estimated, self.stderr)}"
        return found | {"products": str(self.matvecs)}
