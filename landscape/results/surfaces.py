"""Results about surfaces and trajectories."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.results.base import Result, host, number


class Surface(Result):
    """Values of one or more metrics on a line or a plane through parameter space.

    The dataset has one variable per metric over ``x`` (or ``y`` and ``x``), the coordinates being
    multiples of the directions. A point that was not evaluated is NaN with ``evaluated`` false; a
    point whose loss is NaN is NaN with ``evaluated`` true.
    """

    kind = "surface"

    @classmethod
    def make(
        cls,
        values: dict[str, np.ndarray],
        coords: list[np.ndarray],
        evaluated: np.ndarray,
        *,
        centre: dict[str, float],
        directions: dict[str, Any],
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> Surface:
        """Label ``values`` (metric -> array over the grid, last axis along the first direction)."""
        dims = ("y", "x")[-len(coords) :]
        labels = directions["labels"]
        return cls._build(
            {name: (dims, host(array, np.float64), {"long_name": name}) for name, array in values.items()}
            | {"evaluated": (dims, host(evaluated, bool))},
            {
                dim: (dim, host(coord, np.float64), {"long_name": label})
                for dim, coord, label in zip(("x", "y"), coords, labels, strict=False)
            },
            status=status,
            message=message,
            provenance=provenance,
            metrics=json.dumps(list(values)),
            centre=json.dumps(centre),
            directions=json.dumps(directions),
        )

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, the first one being the one drawn by default."""
        found: list[str] = json.loads(self.dataset.attrs["metrics"])
        return found

    @property
    def centre(self) -> dict[str, float]:
        """Each metric at the point that the directions start from."""
        found: dict[str, float] = json.loads(self.dataset.attrs["centre"])
        return found

    @property
    def directions(self) -> dict[str, Any]:
        """How the directions were made: method, normalisation, seed, norms, labels."""
        found: dict[str, Any] = json.loads(self.dataset.attrs["directions"])
        return found

    def summary(self) -> dict[str, str]:
        """Return the centre and the range of each metric."""
        lines = {}
        for name in self.metrics:
            values = self.dataset[name].to_numpy()
            if np.isfinite(values).any():
                span = f"from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}"
            else:
                span = "no finite value"
            lines[name] = f"{self.centre[name]:.6g} at the centre; {span}"
        lines["points"] = f"{int(self.dataset['evaluated'].sum())} of {self.dataset['evaluated'].size}"
        return lines


class Projection(Result):
    """A training trajectory seen in a plane, with what the plane does not show.

    ``coordinates`` (step, axis) are least-squares coordinates in the plane's directions, measured from
    the final point. ``displacement`` (step,) is the distance of each snapshot from the final point and
    ``off_plane`` (step,) the part of it at right angles to the plane.
    """

    kind = "projection"

    @classmethod
    def make(
        cls,
        steps: Any,
        coordinates: Any,
        displacement: Any,
        off_plane: Any,
        *,
        loss: Any = None,
        labels: list[str],
        random_walk: float,
        provenance: dict[str, Any],
    ) -> Projection:
        """Label the arrays; ``random_walk`` is the hidden share that a pure random walk would have."""
        variables: dict[str, Any] = {
            "coordinates": (("step", "axis"), host(coordinates, np.float64)),
            "displacement": (
                "step",
                host(displacement, np.float64),
                {"long_name": "distance from the final point"},
            ),
            "off_plane": ("step", host(off_plane, np.float64), {"long_name": "distance from the plane"}),
        }
        if loss is not None:
            variables["loss"] = ("step", host(loss, np.float64), {"long_name": "loss at the snapshot itself"})
        return cls._build(
            variables,
            {"step": host(steps, np.int64), "axis": labels},
            provenance=provenance,
            random_walk=random_walk,
        )

    @property
    def hidden_share(self) -> float:
        """The share of the squared displacements that lies outside the plane, in [0, 1]."""
        off, whole = self.dataset["off_plane"].to_numpy(), self.dataset["displacement"].to_numpy()
        return float((off**2).sum() / (whole**2).sum()) if whole.any() else 0.0

    @property
    def random_walk_share(self) -> float:
        """The hidden share a pure random walk of the same kind would have: the null to compare with."""
        return float(self.dataset.attrs["random_walk"])

    def summary(self) -> dict[str, str]:
        """Return the hidden share beside that of a random walk."""
        return {
            "snapshots": str(self.dataset.sizes["step"]),
            "share outside the plane": f"{self.hidden_share:.2%}",
            "of a pure random walk": f"{self.random_walk_share:.2%}",
            "distance travelled": number(float(self.dataset["displacement"][0])),
        }


def check_span(span: tuple[float, float]) -> tuple[float, float]:
    """Return ``span`` as (low, high) if it is one."""
    try:
        low, high = (float(end) for end in span)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            "span must be a pair (low, high) of finite numbers", got=span, fix="pass for example span=(-1, 1)"
        )
    return low, high
