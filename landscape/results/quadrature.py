"""Means over all eigenvalues from quadratures of random probes, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr

from landscape.results.base import check_level

THEORY = 8.0  # probes that the variance known from theory counts for, beside the spread over the probes
SKEWEST = 4.0  # what is more skewed than half an eigenvalue's weight has no more to say
ROUNDING = 50.0  # units of rounding of the mean size: the least half-width


@dataclass(frozen=True)
class Means:
    """The means of functions of the eigenvalues, one a column, with what their intervals are made of.

    ``variance`` is that of the means, ``skewness`` their own; ``sample`` is the share of the variance's estimate that
    comes from the spread over probes, and ``freedom`` its degrees of freedom.
    """

    values: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    sample: float
    freedom: float
    rounding: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """Standard errors; NaN for one probe."""
        return np.sqrt(self.variance)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the interval of that confidence, column by column; NaN for one probe.

        A mean of squared normal variables is skewed, and where it comes out large so does its variance. To first
        order in the skewness g (Cornish, Fisher 1938; Hall 1992) the studentised mean has the quantiles
        z + (z² - 1)g/6 - z²cg/2; c, which is 1/2 for the variance by theory and 1 for that of the samples, says how
        far the two move together.
        """
        check_level(level)
        z = stats.t.ppf(0.5 + level / 2, self.freedom)
        bend = self.skewness * ((z * z - 1) / 6 - (1 + self.sample) / 4 * z * z)
        low = self.values - self.stderr * np.maximum(z + bend, 0) - self.rounding
        return low, self.values + self.stderr * np.maximum(z - bend, 0) + self.rounding


def means(
    values: np.ndarray,
    weights: np.ndarray,
    fixed: np.ndarray,
    times: np.ndarray,
    n: int,
    eps: float,
    *,
    shares: bool = False,
) -> Means:
    """Return the means of functions over n eigenvalues.

    Parameters
    ----------
    values : array, shape (probes, steps, g)
        The functions at the nodes.
    weights : array, shape (probes, steps)
        The nodes' weights; each row sums to 1.
    fixed : array, shape (k, g)
        The functions at eigenvalues that are known: they are not in the quadratures, and have no error.
    times : array of int, shape (k,)
        How often each of these occurs.
    n : int
        All eigenvalues, the known ones included.
    eps : float
        Rounding unit of what the values were computed from.
    shares : bool
        The functions are 1 for some eigenvalues and 0 for the others, whatever they are at the nodes.

    Notes
    -----
    For a random direction v the variance of vᵀf(A)v is 2/(n + 2) times that of f over the eigenvalues; for random
    signs it is at most that, and less where eigenvectors are few entries. It is known better than the spread over a
    few probes, which has the last word once there are many: the estimate weighs the two as if the former were that
    of 8 more probes. The skewness is √(8/(n + 2)) times that of f over the eigenvalues.
    """
    probes, count = len(weights), n - int(times.sum())
    share = count / n
    samples = np.einsum("psg,ps->pg", values, weights)
    mean = samples.mean(axis=0)
    size = np.maximum(np.abs(values).max(axis=(0, 1), initial=0.0), 1e-300)
    if shares:
        second = third = np.clip(mean, 0.0, 1.0)
        unit = second
    else:
        unit, scaled = mean / size, values / size
        second = np.einsum("psg,ps->g", scaled**2, weights) / probes
        third = np.einsum("psg,ps->g", scaled**3, weights) / probes
    square = np.maximum(second - unit**2, 0.0)
    cube = third - 3 * unit * second + 2 * unit**3
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(square > 1e-15 * second, cube / square / square**0.5, 0.0)
    skew = np.clip(skew * (8 / ((count + 2) * probes)) ** 0.5, -SKEWEST, SKEWEST)
    sample = (probes - 1) / (probes - 1 + THEORY)
    if probes > 1:
        spread = samples.var(axis=0, ddof=1)
        variance = (sample * spread + (1 - sample) * 2 / (count + 2) * square * (1.0 if shares else size**2)) / probes
    else:
        variance = np.full_like(mean, np.nan)
    mass = times @ np.abs(fixed) / n + share * np.einsum("psg,ps->g", np.abs(values), weights) / probes
    return Means(
        times @ fixed / n + share * mean,
        share**2 * variance,
        skew,
        sample,
        (probes - 1 + THEORY) ** 2 / max(probes - 1, 1),
        np.full_like(mass, ROUNDING * eps * mass.max(initial=0.0)),
    )


def reaches(nodes: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return how far from each node its mass may sit, (probes, steps): see :attr:`SpectralDensity.widths`."""
    gaps = np.zeros_like(nodes) if nodes.shape[1] < 2 else np.gradient(nodes, axis=1)
    last = np.isnan(gaps) & ~np.isnan(nodes)  # beside the NaN that end a row
    gaps[last] = (nodes - np.roll(nodes, 1, axis=1))[last]
    widths = residuals.copy()
    for row, near in zip(nodes, residuals, strict=True):
        places, near = row[np.isfinite(row)], near[np.isfinite(row)]
        right = np.clip(np.searchsorted(places, np.nan_to_num(nodes)), 1, max(len(places) - 1, 1)) % len(places)
        left = np.maximum(right - 1, 0)
        at = np.where(np.abs(nodes - places[left]) <= np.abs(nodes - places[right]), left, right)
        widths = np.maximum(widths, np.abs(nodes - places[at]) + near[at])
    return np.minimum(widths, np.where(np.isnan(gaps), 0.0, gaps))


def parts(grid: np.ndarray, places: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return which part of a Gaussian around each place, of its width, lies at or below each value of ``grid``."""
    distance = grid - places[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(widths[..., None] > 0, ndtr(distance / widths[..., None]), distance >= 0)
