"""Results of questions asked of an operator: eigenpairs, trace, spectral density."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats
from scipy.special import ndtr

from landscape.errors import InputError
from landscape.results.base import Result, host, number


class EigenResult(Result):
    """Eigenpairs with their true residuals.

    ``values`` (k,), ``residuals`` (k,) and ``converged`` (k,) are NumPy arrays in the order asked for
    (``which``): the largest first for ``"LA"``, the smallest first for ``"SA"``. ``vectors`` is an
    (n, k) tensor, one unit eigenvector a column. ``residuals`` are ``|A v - λ v|``: there is a true
    eigenvalue within that distance of each value.
    """

    kind = "eigenpairs"

    @classmethod
    def make(
        cls,
        values: Any,
        residuals: Any,
        converged: Any,
        vectors: Any,
        *,
        which: str,
        tol: float,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> EigenResult:
        """Label the arrays; ``vectors`` stay on their device until saved."""
        result = cls._build(
            {
                "values": (
                    "pair",
                    host(values, np.float64),
                    {"long_name": "eigenvalue", "units": "loss / parameter²"},
                ),
                "residuals": ("pair", host(residuals, np.float64), {"long_name": "|Av - λv|"}),
                "converged": ("pair", host(converged, bool)),
            },
            {"pair": np.arange(len(values))},
            status=status,
            message=message,
            provenance=provenance,
            which=which,
            tol=tol,
            matvecs=matvecs,
            n=int(vectors.shape[0]),
        )
        result._cache["vectors"] = vectors
        return result

    @property
    def values(self) -> np.ndarray:
        """The eigenvalues, float64, shape (k,)."""
        return self.dataset["values"].to_numpy()

    @property
    def residuals(self) -> np.ndarray:
        """The true residual norms, float64, shape (k,)."""
        return self.dataset["residuals"].to_numpy()

    @property
    def converged(self) -> np.ndarray:
        """Pair by pair: whether the residual is at most ``tol`` times the eigenvalue's magnitude."""
        return self.dataset["converged"].to_numpy()

    @property
    def vectors(self) -> Any:
        """The eigenvectors as a torch tensor, shape (n, k)."""
        if "vectors" not in self._cache:
            import torch

            if "vectors" not in self.dataset:
                raise InputError(
                    "the result holds no eigenvectors",
                    got="a file saved without eigenvectors",
                    fix="compute it again, and save it with vectors=True",
                )
            self._cache["vectors"] = torch.from_numpy(self.dataset["vectors"].to_numpy())
        return self._cache["vectors"]

    @property
    def matvecs(self) -> int:
        """Operator products used, those for the residuals included."""
        return int(self.dataset.attrs["matvecs"])

    def save(self, path: Any, *, vectors: bool = True) -> Any:
        """Write to one netCDF file; ``vectors=False`` leaves the n by k eigenvectors out."""
        labelled = self.dataset.drop_vars("vectors", errors="ignore")
        if vectors:
            labelled = labelled.assign(vectors=(("parameter", "pair"), host(self.vectors)))
        return Result.save(EigenResult(labelled), path)

    def summary(self) -> dict[str, str]:
        """Return each eigenvalue with its residual."""
        return {
            f"λ{i + 1}": f"{value:.6g}  (residual {residual:.1e}{'' if good else ', not converged'})"
            for i, (value, residual, good) in enumerate(zip(self.values, self.residuals, self.converged, strict=True))
        }


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


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1)."""
    if not 0 < level < 1:
        raise InputError(
            "level must lie between 0 and 1",
            got=level,
            why="it is a probability",
            fix="pass for example 0.95",
        )
