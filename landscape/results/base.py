"""What every result is: a labelled dataset with a status in words, a cost and a provenance."""

from __future__ import annotations

import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from landscape.errors import InputError
from landscape.results.files import write

SCHEMA = 1

# The one place where a lower layer names an upper one, by string and at call time only, so that
# results can be computed, saved and loaded without any plotting package.
_DRAW = "landscape.plots:draw"

KINDS: dict[str, type[Result]] = {}

#: Every status a result can have, and whether its numbers may be read as the whole answer.
STATUSES = {
    "complete": True,
    "converged": True,
    "not converged": False,
    "interrupted": False,
    "not finite": False,
    "failed": False,
}


class Result:
    """A labelled dataset that knows how sure it is and what made it.

    Attributes
    ----------
    dataset : xarray.Dataset
        Every number, with named dimensions, coordinates and units.
    status : str
        One of ``STATUSES``.
    message : str
        The status in words, with the remedy where there is one.
    provenance : dict
        Versions, seeds, mode, dtype, device, backend, parameter selection, data fingerprint, cost.
    """

    kind: ClassVar[str] = ""
    _cache: dict[str, Any]

    def __init__(self, dataset: xr.Dataset) -> None:
        self.dataset = dataset
        self._cache = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.kind:
            KINDS[cls.kind] = cls

    @classmethod
    def _build(
        cls,
        variables: dict[str, Any],
        coords: dict[str, Any] | None = None,
        *,
        status: str = "complete",
        message: str = "",
        provenance: dict[str, Any] | None = None,
        **attrs: Any,
    ) -> Self:
        if status not in STATUSES:
            raise InputError("status must be a known one", got=status, fix=f"use one of {', '.join(STATUSES)}")
        dataset = xr.Dataset(variables, coords=coords)
        dataset.attrs = {
            "landscape_kind": cls.kind,
            "landscape_schema": SCHEMA,
            "status": status,
            "message": message,
            "provenance": json.dumps(provenance or {}, default=str),
            **attrs,
        }
        return cls(dataset)

    @property
    def status(self) -> str:
        """One of ``STATUSES``."""
        return str(self.dataset.attrs["status"])

    @property
    def message(self) -> str:
        """The status in words, with the remedy where there is one."""
        return str(self.dataset.attrs.get("message", ""))

    @property
    def ok(self) -> bool:
        """Whether the numbers are the whole answer that was asked for."""
        return STATUSES[self.status]

    @property
    def provenance(self) -> dict[str, Any]:
        """What made this result, and what it cost."""
        found: dict[str, Any] = json.loads(self.dataset.attrs.get("provenance", "{}"))
        return found

    def save(self, path: str | Path) -> Path:
        """Write the result to one netCDF file, whole or not at all; return its path."""
        return write(self.dataset, path)

    def to_dataframe(self) -> Any:
        """Return the dataset as a ``pandas.DataFrame``."""
        return self.dataset.to_dataframe()

    def plot(self, quantity: str | None = None, *, backend: str = "matplotlib", **options: Any) -> Any:
        """Draw the result and return the figure.

        Parameters
        ----------
        quantity : str, optional
            What to draw, where the result holds several things (a metric of a run, of a surface).
        backend : {"matplotlib", "plotly"}
            Which library draws.
        **options
            Passed to the drawing function of this kind of result; see the documentation of plots.
        """
        draw = resolve_name(_DRAW)
        return draw(self, quantity, backend=backend, **options)

    def summary(self) -> dict[str, str]:
        """Return the few numbers a reader wants first, as text with their uncertainty."""
        return {}

    def __repr__(self) -> str:
        lines = [f"<{type(self).__name__}: {self.status}>"]
        if self.message:
            lines.append(f"  {self.message}")
        lines += [f"  {name}: {text}" for name, text in self.summary().items()]
        return "\n".join(lines)


class FromProducts(Result):
    """A result that was computed from products with an operator."""

    @property
    def matvecs(self) -> int:
        """Operator products used, those for residuals and checks included."""
        return int(self.dataset.attrs["matvecs"])


class FromProbes(FromProducts):
    """A result that an estimator, chosen by name or by a pilot, made of products with random vectors."""

    @property
    def method(self) -> str:
        """The estimator that was used."""
        return str(self.dataset.attrs["method"])


def host(values: Any, dtype: Any = None) -> np.ndarray:
    """Return ``values`` (a tensor on any device, a list, an array) as a NumPy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=dtype)


def number(value: float, error: float | None = None) -> str:
    """Format ``value`` with its standard error to the digits that mean something."""
    if error is None or not np.isfinite(error) or not np.isfinite(value):
        return f"{value:.4g}"
    if error == 0:
        return f"{value:.6g}"
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 3
    size = max(abs(value), error)
    if size >= 1e5 or size < 1e-3 or digits > 8:
        return f"{value:.4g} ± {error:.2g}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(
            "level must lie between 0 and 1",
            got=level,
            why="it is a probability",
            fix="pass for example 0.95",
        )
