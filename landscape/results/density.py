"""The distribution of all eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.results.atoms import OTHERS, Atoms, separate
from landscape.results.base import FromProducts, host, number
from landscape.results.outliers import BELOW, ROUNDING, Outliers, count_outliers
from landscape.results.quadrature import Means, means, parts, reaches

EVEN = 12**-0.5  # standard deviation of mass spread evenly over a stretch, in lengths of the stretch


class SpectralDensity(FromProducts):
    """The distribution of all eigenvalues, by stochastic Lanczos quadrature.

    ``nodes`` and ``weights`` (probes, steps) are one Gauss quadrature per probe: the weights of each
    probe sum to 1 and its moments are exact to degree 2·steps-1 for that probe. Nodes are not
    eigenvalues, save those that have become ``atoms``, each of share 1/n exactly. What is left of the probes'
    weights has the other eigenvalues' share. All of it follows from what the file holds.
    """

    kind = "density"

    @classmethod
    def make(
        cls,
        nodes: Any,
        weights: Any,
        residuals: Any,
        crossed: Any = None,
        *,
        n: int,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
        eps: float = float(np.finfo(np.float64).eps),
    ) -> SpectralDensity:
        """Label the quadratures; rows of unequal length end in NaN nodes of weight 0.

        ``residuals`` are those of the Ritz pairs. ``crossed`` (probes, others, steps) says for node j, whose Ritz
        vector is u, what the weight (uᵀv)² in its probe's unit start v becomes between that and the start w of one of
        the first probes, (vᵀu)(uᵀw); NaN from the probe itself on. ``eps`` is the vectors' rounding unit.
        """
        shape = ("probe", "step")
        crossed = np.full((len(nodes), OTHERS, len(nodes[0])), np.nan) if crossed is None else crossed
        units = {"units": "loss / parameter²"}
        return cls._build(
            {
                "nodes": (shape, host(nodes, np.float64), {"long_name": "eigenvalue", **units}),
                "weights": (shape, host(weights, np.float64), {"long_name": "share of the eigenvalues"}),
                "residuals": (shape, host(residuals, np.float64), {"long_name": "|Av - λv| of the Ritz pair"}),
                "crossed": (
                    ("probe", "other", "step"),
                    host(crossed, np.float64),
                    {"long_name": "weight between probes"},
                ),
            },
            status=status,
            message=message,
            provenance=provenance,
            n=n,
            matvecs=matvecs,
            eps=eps,
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
    def residuals(self) -> np.ndarray:
        """Norm |Av - λv| of each node's Ritz vector v, in units of the eigenvalues."""
        return self.dataset["residuals"].to_numpy()

    @property
    def widths(self) -> np.ndarray:
        """How far from its node the mass may sit: at most the mean gap to the neighbouring nodes.

        It is less where all probes are sure of a place: the residual and the distance of their nearest nodes are small.
        """
        if "widths" not in self._cache:
            self._cache["widths"] = reaches(self.nodes, self.residuals)
        found: np.ndarray = self._cache["widths"]
        return found

    @property
    def n(self) -> int:
        """The number of eigenvalues, that is of parameters."""
        return int(self.dataset.attrs["n"])

    @property
    def probes(self) -> int:
        """The number of random vectors."""
        return int(self.dataset.sizes["probe"])

    @property
    def atoms(self) -> Atoms:
        """Eigenvalues that every probe has resolved, ascending, with errors and multiplicities."""
        return self._separated[0]

    @property
    def _separated(self) -> tuple[Atoms, np.ndarray]:
        if "separated" not in self._cache:
            stored = self.dataset
            self._cache["separated"] = separate(
                self.nodes, self.weights, self.residuals, stored["crossed"].to_numpy(), self.n, stored.attrs["eps"]
            )
        found: tuple[Atoms, np.ndarray] = self._cache["separated"]
        return found

    def grid(self, points: int = 400) -> np.ndarray:
        """Return an even grid that covers every node with a margin."""
        low, high = np.nanmin(self.nodes), np.nanmax(self.nodes)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return np.linspace(low - margin, high + margin, points)

    # -- curves -------------------------------------------------------------------------------------

    def cdf(self, grid: Any, *, width: float | None = None) -> np.ndarray:
        """Return the share of eigenvalues at or below each value of ``grid``.

        It needs no bandwidth: the share at a node is known to within the node's weight, and there and around it the
        share rises over the node's own stretch. With ``width=0`` each node is a step; a positive ``width`` smooths
        everything with a Gaussian.
        """
        return np.clip(self._shares(np.asarray(grid, float), width).values, 0.0, 1.0)

    def density(self, grid: Any, *, width: float | None = None, atoms: bool = True) -> np.ndarray:
        """Return the density at each value of ``grid`` (per unit of eigenvalue; integrates to 1).

        Parameters
        ----------
        grid : array, shape (g,)
            Increasing eigenvalues, at least 2.
        width : float, optional
            One Gaussian smoothing width for everything, in units of the eigenvalues. By default each node has its own
            (see ``widths``) and atoms have none, so that bulk and outliers are both resolved.
        atoms : bool
            Whether they are part of it; the rest alone integrates to 1 - atoms.count/n.

        Notes
        -----
        The mass between neighbouring grid midpoints is exact, so no peak can fall between two points.
        """
        return self._heights(grid, width, atoms).values

    def bands(
        self,
        grid: Any,
        *,
        level: float = 0.95,
        cumulative: bool = False,
        width: float | None = None,
        atoms: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pointwise interval of the density, or of the cdf, over draws of the probes; NaN for one probe.

        It holds the truth smoothed with the same ``width``; what smoothing, and too few steps, change is not in it.
        """
        found = self._shares(np.asarray(grid, float), width) if cumulative else self._heights(grid, width, atoms)
        low, high = found.interval(level)
        return np.clip(low, 0.0, 1.0 if cumulative else None), np.clip(high, None, 1.0 if cumulative else None)

    def moment(self, degree: int, *, atoms: bool = True) -> float:
        """Return the mean of λ^degree over the eigenvalues, in a probe exact up to degree 2·steps-1.

        Atoms enter with their exact share, which takes most of the variance away; with ``atoms=False`` it is the
        plain mean of vᵀA^degree v over probes, n times which is Hutchinson's estimate for degree 1.
        """
        if not atoms:
            return float(np.einsum("ps,ps->", np.nan_to_num(self.nodes) ** degree, self.weights) / self.probes)
        return float(self._moments(degree).values[0])

    def moment_stderr(self, degree: int) -> float:
        """Return the standard error of :meth:`moment`; NaN for one probe."""
        return float(self._moments(degree).stderr[0])

    def moment_interval(self, degree: int, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of :meth:`moment` over draws of the probes; NaN for one probe."""
        low, high = self._moments(degree).interval(level)
        return float(low[0]), float(high[0])

    def _moments(self, degree: int) -> Means:
        return self._means(np.nan_to_num(self.nodes)[..., None] ** degree, self.atoms.values[:, None] ** degree)

    def _shares(self, grid: np.ndarray, width: float | None) -> Means:
        return self._means(*self._below(grid, width, EVEN), shares=not width)

    def _heights(self, grid: Any, width: float | None, atoms: bool) -> Means:
        edges = _edges(grid)
        values, fixed = (np.diff(part, axis=-1) / np.diff(edges) for part in self._below(edges, width, 1.0))
        return self._means(values, fixed * atoms)

    def _means(self, values: np.ndarray, fixed: np.ndarray, *, shares: bool = False) -> Means:
        eps = float(self.dataset.attrs["eps"])
        return means(values, self._separated[1], fixed, self.atoms.multiplicities, self.n, eps, shares=shares)

    def _below(self, grid: np.ndarray, width: float | None, own: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which part of each node (probes, steps, g) and of each atom (k, g) lies at or below each value."""
        nodes = np.nan_to_num(self.nodes)
        widths = self.widths * own if width is None else np.full_like(nodes, width)
        values = self.atoms.values
        return parts(grid, nodes, np.nan_to_num(widths)), parts(grid, values, np.full_like(values, width or 0.0))

    # -- counts ---------------------------------------------------------------------------------------

    def outliers(self, end: str = "upper", expected: int | None = None) -> Outliers:
        """Return how many eigenvalues stand apart at one end, by the rule of ``landscape.results.outliers``.

        Atoms count as they are; the others' order is read off their cumulative share. Where eigenvalues beyond the
        gap are not resolved, their number is known with an error, and there is no count if it is half of one or more.
        How many are ``expected`` may be said beforehand, which makes the rule look there only.
        """
        known = np.repeat(self.atoms.values, self.atoms.multiplicities)
        most = min(BELOW + 1 + len(known), self.n)
        values = np.sort(np.concatenate([known, self._ordered(end, most)]))
        zero = ROUNDING * float(self.dataset.attrs["eps"])
        found = count_outliers(values[:most] if end == "lower" else values[-most:], end, expected, zero=zero)
        if not len(found.values):
            return found
        between = np.array([(found.values[-1] + found.edge) / 2])
        below = self._shares(between, 0.0)
        share = float(below.values[0]) if end == "lower" else 1 - float(below.values[0])
        return found.numbering(self.n * share, self.n * float(below.stderr[0]))

    def _ordered(self, end: str, count: int) -> np.ndarray:
        """Return where the outermost ``count`` eigenvalues that are no atoms lie, by their cumulative share."""
        rest, left = self._separated[1], self.n - self.atoms.count
        count = min(count, left)
        if count == 0:
            return np.zeros(0)
        sign = 1.0 if end == "upper" else -1.0
        keep = rest > 0
        places, widths, numbers = sign * self.nodes[keep], EVEN * self.widths[keep], left / self.probes * rest[keep]
        order = np.argsort(-places, kind="stable")
        last = int(np.searchsorted(np.cumsum(numbers[order]), 2 * count)) + 4 * self.probes
        places, widths, numbers = (part[order[:last]] for part in (places, widths, numbers))
        low, high = np.full(count, (places - 9 * widths).min()), np.full(count, (places + 9 * widths).max())
        for _ in range(60):  # as many are beyond the place of number i as its rank
            middle = (low + high) / 2
            beyond = numbers @ (1 - parts(middle, places, widths))
            low, high = np.where(beyond > np.arange(count) + 0.5, (middle, high), (low, middle))
        return sign * high

    def summary(self) -> dict[str, str]:
        """Return the range, the mean, the share of negative eigenvalues and how many are known one by one."""
        below, alone = self._shares(np.array([0.0]), None), "" if self.probes > 1 else ", one probe: no error bar"
        found = {
            "range of nodes": f"[{np.nanmin(self.nodes):.4g}, {np.nanmax(self.nodes):.4g}]",
            "mean eigenvalue": number(self.moment(1), self.moment_stderr(1)) + alone,
            "share at or below 0": number(float(below.values[0]), float(below.stderr[0])) + alone,
            "resolved eigenvalues": f"{self.atoms.count}, of share 1/n each",
        }
        outliers = self.outliers()
        return found if outliers.count is None else {**found, "outliers": f"{outliers.count} above {outliers.edge:.4g}"}


def _edges(grid: Any) -> np.ndarray:
    """Return the limits of the cells around increasing grid values."""
    centers = np.asarray(grid, float)
    if centers.ndim != 1 or len(centers) < 2 or np.any(np.diff(centers) <= 0):
        raise InputError(
            "grid must hold at least two increasing eigenvalues",
            got=f"shape {centers.shape}",
            fix="pass sd.grid() or numpy.linspace(low, high, points)",
        )
    middles = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middles[0]], middles, [2 * centers[-1] - middles[-1]]])
