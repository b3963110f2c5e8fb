"""A diagonal with the error bar of every entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from landscape.errors import InputError
from landscape.results.base import FromProbes, host
from landscape.results.estimate import quantile, shares


class DiagonalResult(FromProbes):
    """The diagonal of an operator, entry by entry, with its error bars.

    ``estimate`` and ``stderr`` are tensors (n,). ``by_parameter`` cuts the entries by name; ``sums`` adds them up
    over layers or parameters, with error bars from the same products.
    """

    kind = "diagonal"

    @classmethod
    def make(
        cls,
        estimate: Any,
        stderr: Any,
        names: list[str],
        ends: list[int],
        exact: Any,
        samples: Any,
        *,
        dof: float,
        inflation: float = 1.0,
        n: int,
        rtol: float,
        method: str,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> DiagonalResult:
        """Label the arrays; parameter ``names[p]`` ends before entry ``ends[p]``.

        ``exact`` (parameters,), ``samples`` (probes, parameters) and ``inflation`` are as in :class:`TraceResult`.
        """
        by = host(samples, np.float64).reshape(-1, len(names))
        result = cls._build(
            {
                "estimate": ("entry", host(estimate), {"units": "loss / parameter²"}),
                "stderr": ("entry", host(stderr)),
                "ends": ("parameter", np.asarray(ends), {"long_name": "end of the parameter's entries"}),
                "exact": ("parameter", host(exact, np.float64), {"long_name": "known part of the entries' sum"}),
                "samples_by_parameter": (("probe", "parameter"), by, {"long_name": "sum of the entries by one probe"}),
            },
            {"probe": np.arange(len(by)), "parameter": names},
            status=status,
            message=message,
            provenance=provenance,
            dof=float(dof),
            inflation=float(inflation),
            n=n,
            rtol=rtol,
            method=method,
            matvecs=matvecs,
        )
        if hasattr(estimate, "device"):
            result._cache.update(estimate=estimate, stderr=stderr)
        return result

    @property
    def estimate(self) -> Any:
        """The diagonal, a tensor (n,)."""
        return self._tensor("estimate")

    @property
    def stderr(self) -> Any:
        """The standard error of every entry, a tensor (n,); zeros when the diagonal is exact."""
        return self._tensor("stderr")

    def _tensor(self, name: str) -> Any:
        if name not in self._cache:
            import torch

            self._cache[name] = torch.from_numpy(self.dataset[name].to_numpy())
        return self._cache[name]

    @property
    def relative_error(self) -> float:
        """The root mean square error of the entries over their root mean square, as estimated."""
        error = float(np.square(self.dataset["stderr"].to_numpy().astype(np.float64)).sum())
        size = float(np.square(self.dataset["estimate"].to_numpy().astype(np.float64)).sum()) - error
        return (error / size) ** 0.5 if size > 0 else (float("inf") if error > 0 else 0.0)

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """Return tensors (n,): the ends of the intervals that each hold their entry with probability ``level``."""
        half = float(quantile(level, float(self.dataset.attrs["dof"]))) * self.stderr
        return self.estimate - half, self.estimate + half

    @property
    def by_parameter(self) -> dict[str, Any]:
        """The diagonal's entries by parameter name, flat tensors."""
        ends = [0, *self.dataset["ends"].to_numpy().tolist()]
        names = [str(name) for name in self.dataset["parameter"].to_numpy()]
        return {name: self.estimate[a:b] for name, a, b in zip(names, ends, ends[1:], strict=False)}

    def sums(self, by: str = "layer") -> xr.Dataset:
        """Return sums of entries, shares of the trace, ``by="layer"`` or ``"parameter"``, with their error bars."""
        if by not in ("layer", "parameter"):
            raise InputError("by must be 'layer' or 'parameter'", got=by, fix="pass by='layer'")
        return shares(self.dataset, by)

    def summary(self) -> dict[str, str]:
        """Return how large the entries are and how well they are known."""
        values = self.dataset["estimate"].to_numpy()
        return {
            "entries": f"{len(values):,}, from {values.min():.4g} to {values.max():.4g}",
            "relative error": f"{self.relative_error:.2%} (root mean square)",
            "products": str(self.matvecs),
        }
