"""How many eigenvalues stand apart from the others: a rule about gaps, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from landscape.errors import InputError

LEVEL = 0.05  # the chance of such a gap, among all that are looked at, above which none is called one
BELOW = 20  # gaps that one is compared with
ROUNDING = 50.0  # multiples of rounding, relative to the largest value, below which a value is zero
FLOOR = 1e-12  # of the largest value: what is smaller is zero


@dataclass(frozen=True)
class Outliers:
    """How many eigenvalues at one end of a spectrum stand apart from the others.

    Attributes
    ----------
    count : int or None
        How many; ``None`` where no gap stands out.
    values : numpy.ndarray
        The eigenvalues beyond the widest gap, the outermost first; outliers if ``count`` is not ``None``.
    edge : float
        Where the others begin: the next eigenvalue.
    chance : float
        How likely a gap at least as wide is, among all that were looked at, in a spectrum without outliers.
    end : {"upper", "lower"}
        Which end.
    error : float
        Standard error of the number beyond the gap, where some of them are not known one by one; NaN for one probe.
    """

    count: int | None
    values: np.ndarray
    edge: float
    chance: float
    end: str
    error: float = 0.0

    def numbering(self, number: float, error: float) -> Outliers:
        """Return the same gap with an estimated ``number`` of eigenvalues beyond it; no count if it is not sure."""
        if abs(number - len(self.values)) < 1e-6:
            return self
        count = None if self.count is None or not error < 0.5 else round(number)
        return replace(self, count=count, error=error)

    def __repr__(self) -> str:
        beyond = len(self.values)
        if beyond == 0:
            return f"<Outliers: no count: too few eigenvalues at the {self.end} end to compare gaps>"
        ratio = self.values[-1] / self.edge if self.edge else np.inf
        gap = f"{self.values[-1]:.4g} is followed by {self.edge:.4g}"
        gap += f", {ratio:.3g} times smaller" if 0 < ratio < np.inf else ""
        odds = f"without outliers so wide a gap has a chance of {self.chance:.2g}"
        if self.count is None and self.chance < LEVEL:
            return f"<Outliers: no count: about {beyond}, not all of them resolved; more probes or steps will ({gap})>"
        if self.count is None:
            return f"<Outliers: no count: no gap stands out; the widest is after {beyond}: {gap} ({odds})>"
        return f"<Outliers: {self.count} at the {self.end} end: {gap} ({odds})>"


def count_outliers(
    values: np.ndarray, end: str = "upper", expected: int | None = None, *, zero: float = FLOOR
) -> Outliers:
    """Count the eigenvalues that a gap separates from the others.

    Parameters
    ----------
    values : array, shape (k,)
        All eigenvalues at that end of the spectrum down to some value, in any order, the more the better:
        those beyond the gap and some that follow it.
    end : {"upper", "lower"}
        ``"upper"`` looks at positive values from the largest down, ``"lower"`` at negative ones from the
        smallest up.
    expected : int, optional
        How many are expected before looking, such as the number of classes: then only the gaps after one fewer, as
        many and one more are looked at, and one of those is surprising sooner.
    zero : float
        What counts as zero, relative to the largest value. The gap down to zeros is not looked at: what lies before
        it is the rank.

    Returns
    -------
    Outliers

    Notes
    -----
    Sizes λ₁ ≥ λ₂ ≥ … at the end of a spectrum that falls off like a power have independent, equally distributed
    exponential spacings i·log(λᵢ/λᵢ₊₁), those of one that falls off exponentially i·(λᵢ - λᵢ₊₁) (Rényi 1953), and
    at a sharp edge spacings are smaller and more even. So the spacing at the gap is compared with the mean of up to
    20 that follow: their ratio exceeds r by chance in (1 + r/m)⁻ᵐ of such spectra, m being the number that follow.
    The larger of both chances, times the number of gaps looked at, must be below 5 %; the gap with the smallest
    one counts. A change of the loss's scale changes nothing.

    References
    ----------
    L. Sagun et al., Empirical analysis of the Hessian of over-parametrized neural networks (2017), arXiv:1706.04454;
    V. Papyan, Measurements of three-level hierarchical structure in the outliers in the spectrum of deepnet Hessians
    (2019), arXiv:1901.08244: the outliers are about as many as the classes.
    """
    if end not in ("upper", "lower"):
        raise InputError("end must be 'upper' or 'lower'", got=end, fix="use 'upper' for the largest values")
    sign = 1.0 if end == "upper" else -1.0
    sizes = np.sort(sign * np.asarray(values, float))[::-1]
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 1):
        raise InputError("expected must be a positive number of outliers", got=expected, fix="pass for example 10")
    tiny = zero * max(0.0, float(sizes[0])) if len(sizes) else 0.0
    zeros = np.flatnonzero(np.abs(sizes) <= tiny)
    sizes = sizes[: zeros[0]] if len(zeros) else sizes
    if len(sizes) < 3 or sizes[0] <= 0:
        return Outliers(None, np.zeros(0), float("nan"), 1.0, end)
    logs, ranks = np.log(np.maximum(sizes, tiny)), np.arange(1, len(sizes))
    chances = np.max([_chances(-ranks * np.diff(scale)) for scale in (logs, sizes)], axis=0)
    chances[sizes[: len(chances)] <= 0] = 1.0
    looked_at = np.arange(len(chances))
    if expected is not None:
        looked_at = looked_at[np.abs(looked_at + 1 - expected) <= 1]
        if not len(looked_at):
            return Outliers(None, np.zeros(0), float("nan"), 1.0, end)
    at = int(looked_at[np.argmin(chances[looked_at])])
    chance = min(1.0, float(chances[at]) * len(looked_at))
    beyond, edge = sign * sizes[: at + 1], sign * float(sizes[at + 1])
    return Outliers(at + 1 if chance < LEVEL else None, beyond, edge, chance, end)


def _chances(spacings: np.ndarray) -> np.ndarray:
    """Return for each spacing but the last the chance of one as large, given those that follow it."""
    return np.array([_chance(spacings[i], spacings[i + 1 : i + 1 + BELOW]) for i in range(len(spacings) - 1)])


def _chance(spacing: float, below: np.ndarray) -> float:
    """Return how likely an exponential spacing is to exceed this one, given others of the same mean."""
    mean, count = float(below.mean()), len(below)
    if mean == 0:
        return 1.0 if spacing == 0 else 0.0
    return float((1 + spacing / (mean * count)) ** -count)


def among_pairs(
    values: np.ndarray, converged: np.ndarray, which: str, end: str | None, expected: int | None = None
) -> Outliers:
    """Count outliers among computed eigenvalues: those that are known to be all there are at that end."""
    end = ("lower" if which == "SA" else "upper") if end is None else end
    if which not in ("LM", "BE", "SA" if end == "lower" else "LA"):
        raise InputError(
            f"the {end} end of the spectrum is not among these eigenvalues",
            got=f"which={which!r}",
            why="outliers are counted beside the values that follow them",
            fix=f"compute them with which={'SA' if end == 'lower' else 'LA'!r}",
        )
    order = np.argsort(values if end == "lower" else -values, kind="stable")
    if which == "LM":
        order = order[(values[order] < 0) == (end == "lower")]
    elif which == "BE":
        order = order[: (len(order) + (end == "upper")) // 2]
    first = int(np.argmin(converged[order])) if not converged[order].all() else len(order)
    return count_outliers(values[order[:first]], end, expected)
