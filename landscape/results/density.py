"""The distribution of all eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr

from landscape.errors import InputError
from landscape.results.base import Result, check_level, host, number


class SpectralDensity(Result):
    """The distribution of all eigenvalues, by stochastic Lanczos quadrature.

    ``nodes`` and ``weights`` (probes, steps) are one Gauss quadrature per probe: the weights of each
    probe sum to 1 and its moments are exact to degree 2·steps-1 for that probe. Nodes are not
    eigenvalues. ``widths`` says how far from its node the mass may sit: the Ritz residual, at most the
    gap to the neighbouring nodes.
    """

    kind = "density"

    @classmethod
    def make(
        cls,
        nodes: Any,
        weights: Any,
        widths: Any,
        *,
        n: int,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> SpectralDensity:
        """Label the quadratures; rows of unequal length end in NaN nodes of weight 0."""
        shape = ("probe", "step")
        return cls._build(
            {
                "nodes": (
                    shape,
                    host(nodes, np.float64),
                    {"long_name": "eigenvalue", "units": "loss / parameter²"},
                ),
                "weights": (shape, host(weights, np.float64), {"long_name": "share of the eigenvalues"}),
                "widths": (shape, host(widths, np.float64), {"long_name": "smoothing width of the node"}),
            },
            status=status,
            message=message,
            provenance=provenance,
            n=n,
            matvecs=matvecs,
        )

    @property
    def nodes(self) -> np.ndarray:
        """Quadrature nodes, shape (probes, steps); NaN where a probe ended early."""
        return self.dataset["nodes"].to_numpy()

    @property
    def weights(self) -> np.ndarray:
        """Quadrature weights, shape (probes, steps); each row sums to 1."""
        return self.dataset["weights"].to_numpy()

    @property
    def widths(self) -> np.ndarray:
        """Smoothing width of each node, in units of the eigenvalues."""
        return self.dataset["widths"].to_numpy()

    @property
    def n(self) -> int:
        """The number of eigenvalues, that is of parameters."""
        return int(self.dataset.attrs["n"])

    @property
    def matvecs(self) -> int:
        """Operator products used."""
        return int(self.dataset.attrs["matvecs"])

    def grid(self, points: int = 400) -> np.ndarray:
        """Return an even grid that covers every node with a margin."""
        low, high = np.nanmin(self.nodes), np.nanmax(self.nodes)
        margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
        return np.linspace(low - margin, high + margin, points)

    def _cdf_by_probe(self, grid: np.ndarray, width: float | None) -> np.ndarray:
        """Return (probes, grid): the share of eigenvalues at or below each grid value."""
        nodes = np.nan_to_num(self.nodes)[:, None, :]
        distance = np.asarray(grid, float)[None, :, None] - nodes
        if width == 0:
            below = (distance >= 0).astype(float)
        else:
            scale = self.widths[:, None, :] if width is None else np.full_like(nodes, width)
            with np.errstate(divide="ignore", invalid="ignore"):
                below = np.where(scale > 0, ndtr(distance / scale), distance >= 0)
        return np.einsum("pgs,ps->pg", below, self.weights)

    def cdf(self, grid: Any, *, width: float | None = 0.0) -> np.ndarray:
        """Return the share of eigenvalues at or below each value of ``grid``; no smoothing by default."""
        return self._cdf_by_probe(np.asarray(grid, float), width).mean(axis=0)

    def density(self, grid: Any, *, width: float | None = None) -> np.ndarray:
        """Return the density at each value of ``grid`` (per unit of eigenvalue; integrates to 1).

        Parameters
        ----------
        grid : array, shape (g,)
            Increasing eigenvalues, at least 2.
        width : float, optional
            One Gaussian smoothing width for every node, in units of the eigenvalues. By default each
            node has its own (see ``widths``), so that bulk and outliers are both resolved.

        Notes
        -----
        The mass between neighbouring grid midpoints is exact, so no peak can fall between two points.
        """
        return self._density_by_probe(grid, width).mean(axis=0)

    def _density_by_probe(self, grid: Any, width: float | None) -> np.ndarray:
        centers = np.asarray(grid, float)
        if centers.ndim != 1 or len(centers) < 2 or np.any(np.diff(centers) <= 0):
            raise InputError(
                "grid must hold at least two increasing eigenvalues",
                got=f"shape {centers.shape}",
                fix="pass sd.grid() or numpy.linspace(low, high, points)",
            )
        middles = (centers[1:] + centers[:-1]) / 2
        edges = np.concatenate([[2 * centers[0] - middles[0]], middles, [2 * centers[-1] - middles[-1]]])
        return np.diff(self._cdf_by_probe(edges, width), axis=1) / np.diff(edges)

    def bands(
        self, grid: Any, *, level: float = 0.95, cumulative: bool = False, width: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pointwise interval of the density (or of the cdf) over probes, by Student's t."""
        check_level(level)
        if cumulative:
            samples = self._cdf_by_probe(np.asarray(grid, float), 0.0 if width is None else width)
        else:
            samples = self._density_by_probe(grid, width)
        count = len(samples)
        mean = samples.mean(axis=0)
        if count < 2:
            return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        half = stats.t.ppf(0.5 + level / 2, count - 1) * samples.std(axis=0, ddof=1) / count**0.5
        return np.maximum(mean - half, 0.0), mean + half

    def moment(self, degree: int) -> float:
        """Return the mean over eigenvalues of λ^degree (exact for the probes up to degree 2·steps-1)."""
        return float(np.einsum("ps,ps->", np.nan_to_num(self.nodes) ** degree, self.weights) / len(self.nodes))

    def summary(self) -> dict[str, str]:
        """Return the range, the mean and the share of negative eigenvalues."""
        zero = self._cdf_by_probe(np.array([0.0]), 0.0)[:, 0]
        error = zero.std(ddof=1) / len(zero) ** 0.5 if len(zero) > 1 else None
        return {
            "range of nodes": f"[{np.nanmin(self.nodes):.4g}, {np.nanmax(self.nodes):.4g}]",
            "mean eigenvalue": number(self.moment(1)),
            "share at or below 0": number(float(zero.mean()), error),
        }
