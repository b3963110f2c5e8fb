"""What is averaged over probes: the trace, the diagonal, and functions of the operator that cost no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from landscape.spectra.estimators.deflation import Deflation
from landscape.spectra.estimators.work import Work
from landscape.spectra.operators import not_finite

LEVEL = 0.95
FEWEST = 4  # probes: fewer give no error bar worth its name
EXACT = 20.0  # multiples of rounding, relative to |A|, below which a spread is none
SURE = 16  # probes that agree to rounding prove that there is no spread: a pair of entries hides from m with 2^(1-m)


@dataclass(frozen=True)
class Spread:
    """How far single probes scatter about a number, and so how many are needed.

    ``one`` is the variance of one probe, ``error`` the standard error of the mean over all, ``dof`` its degrees
    of freedom, ``size`` the magnitude that a relative tolerance is of, and ``reach`` how many standard errors
    must fit into it (0: as many as the interval has). ``agree`` says that the probes do, to rounding: then ``one`` is
    what may have stayed hidden, until they are enough to prove that nothing has.
    """

    one: float
    error: float
    dof: float
    size: float
    reach: float = 0.0
    agree: bool = False

    @property
    def half_width(self) -> float:
        """What must be at most rtol times the size."""
        return self.error * (self.reach or float(stats.t.ppf(0.5 + LEVEL / 2, self.dof)))

    def needed(self, rtol: float) -> float:
        """Return how many probes would meet ``rtol``."""
        if self.one == 0:
            return 0.0
        reach = self.reach or float(stats.norm.ppf(0.5 + LEVEL / 2))
        target = rtol * self.size
        return float("inf") if target == 0 else self.one * (reach / target) ** 2


class Measure(ABC):
    """Some numbers of every probe, and the one number that their means make.

    ``known`` gives what a deflation knows of the means, ``rows`` what a probe v with Bv says of the rest.
    """

    per_probe = 1  # products

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def guide(self) -> Measure:
        """The measure that decides how much to deflate: this one, where it needs no further products."""
        return self

    @abstractmethod
    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return the part of the means that is known, shape (columns,)."""

    @abstractmethod
    def rows(self, probes: torch.Tensor, rest: torch.Tensor) -> np.ndarray:
        """Return the numbers of each probe, shape (probes, columns), from (n, probes) and B times them."""

    def value(self, means: np.ndarray) -> np.ndarray:
        """Return the number that ``means`` (..., columns) make."""
        return means.sum(axis=-1)

    def sums(self) -> Sums:
        """Return empty sums over probes."""
        return Sums(self)


class Sums:
    """Sums over probes, and what they say; the error bar is a jackknife over probes."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.rows: list[np.ndarray] = []

    def __len__(self) -> int:
        """Return the number of probes."""
        return len(self.rows)

    def add(self, probes: torch.Tensor, rest: torch.Tensor) -> None:
        """Take in probes and B times them, both (n, count)."""
        self.rows += list(finite(self.measure.rows(probes, rest)))

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is as arrays."""
        return {"rows": np.array(self.rows)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from ``state``."""
        self.rows = list(state["rows"])

    @property
    def samples(self) -> np.ndarray:
        """The numbers of each probe, shape (probes, columns)."""
        return np.array(self.rows)

    def spread(self, known: np.ndarray) -> Spread:
        """Return how the probes scatter about the number that ``known`` and their means make."""
        count = len(self)
        whole, squares, bias = jackknife(self.measure.value, known, self.samples)
        one = float(squares.sum() / (count - 1)) + 2 * count * bias**2
        if agree := one <= (EXACT * self.measure.work.eps * whole) ** 2:
            one = hidden(count) * whole**2
        return Spread(one, (one / count) ** 0.5, min(count - 1.0, satterthwaite(squares)), abs(whole), agree=agree)


def jackknife(
    value: Callable[[np.ndarray], np.ndarray], known: np.ndarray, samples: np.ndarray
) -> tuple[float, np.ndarray, float]:
    """Return the number that ``known`` and the mean of ``samples`` make, without its bias; and what its error is of.

    That are squares (probes,), of which a mean with one degree of freedom less is the variance of one probe, and the
    bias that was taken off: where a mean enters squared, its own variance, and so the scale of the error where the
    slope vanishes.
    """
    count = len(samples)
    whole = float(value(known + samples.mean(axis=0)))
    without = value(known + (samples.sum(axis=0) - samples) / (count - 1))
    bias = (count - 1) * float(without.mean() - whole)
    return whole - bias, ((count - 1) * (without - without.mean())) ** 2, bias


def hidden(count: int) -> float:
    """Return the chance that something has stayed hidden from ``count`` probes that agree; 0 when that is no chance."""
    return 2.0 ** (1 - count) if count < SURE else 0.0


def satterthwaite(squares: np.ndarray) -> float:
    """Return the degrees of freedom of a mean of ``squares``, from how they scatter; at least 2."""
    scatter = float(squares.var(ddof=1)) / len(squares)
    return max(2.0, 2 * float(squares.mean()) ** 2 / scatter) if scatter > 0 else np.inf


def finite(rows: np.ndarray) -> np.ndarray:
    """Return ``rows``, refusing numbers that are not finite: products on an accelerator have not been looked at."""
    if not np.isfinite(rows).all():
        raise not_finite()
    return rows


class Trace(Measure):
    """The trace by named part, from v ⊙ Bv."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.entries = torch.zeros(work.n, dtype=torch.float64, device=work.device)  # known part of the diagonal
        self.scale2 = 0.0  # a lower bound of |A|²

    @property
    def guide(self) -> Measure:
        """The whole trace, whose known part needs no pass over the basis."""
        return Whole(self.work)

    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return what the deflation knows of each part's trace."""
        if deflation is not None:
            self.entries, self.scale2 = deflation.diagonal(), deflation.norm2()
        return self.parts(self.entries[:, None])[0]

    def rows(self, probes: torch.Tensor, rest: torch.Tensor) -> np.ndarray:
        """Return vᵀBv split by named part."""
        return self.parts(probes * rest)

    def parts(self, entries: torch.Tensor) -> np.ndarray:
        """Return the sums over named parts of the columns (n, k), shape (k, parts)."""
        found = [entries[where].sum(dim=0, dtype=torch.float64) for where in self.work.slices.values()]
        return torch.stack(found, dim=1).cpu().numpy()

    def sums(self) -> EntrySums:
        """Return empty sums over probes, entry by entry."""
        return EntrySums(self)


class Whole(Trace):
    """The trace, of which the known part is not split."""

    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return what the deflation knows of the trace."""
        if deflation is None:
            return np.zeros(1)
        self.scale2 = deflation.norm2()
        return np.array([np.trace(deflation.T)])


class Diagonal(Trace):
    """The diagonal, from v ⊙ Bv: its error is that of all entries together."""

    @property
    def guide(self) -> Measure:
        """The diagonal itself: the tolerance is of its size."""
        return self

    def sums(self) -> EntrySums:
        """Return empty sums over probes that know the spread of every entry."""
        return DiagonalSums(self)


class EntrySums(Sums):
    """Sums of the vectors x = v ⊙ Bv, whose mean is the diagonal and whose entries add up to the trace.

    The trace's error bar is made of all n entries and not of the few sums of probes only: for random signs and a
    symmetric B, the variance of Σ x_i is exactly 2 Σ Var(x_i), since Var(x_i) = Σ_j B_ij² over j ≠ i, and
    two entries share the same B_ij². The right side is estimated without bias from how each entry scatters,
    with far more degrees of freedom, and is less tied to the estimate where few directions dominate: the intervals
    then cover from a handful of probes on, where Student's t on the sums holds the truth 83 to 90 % of the time.
    """

    measure: Trace

    def __init__(self, measure: Trace) -> None:
        super().__init__(measure)
        self.squares: list[float] = []
        self.total = torch.zeros_like(measure.entries)

    def add(self, probes: torch.Tensor, rest: torch.Tensor) -> None:
        """Take in probes and B times them, both (n, count)."""
        entries = (probes * rest).double()
        self.rows += list(finite(self.measure.parts(entries)))
        self.total += entries.sum(dim=1)
        self.squares += entries.square().sum(dim=0).tolist()

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is as arrays."""
        return {**super().state(), "squares": np.array(self.squares), "total": self.total.cpu().numpy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from ``state``."""
        super().restore(state)
        self.squares = list(state["squares"])
        self.total.copy_(torch.from_numpy(state["total"]))

    def entries(self) -> tuple[float, bool]:
        """Return the sum of all entries' variances, by one probe, and whether the probes agree to rounding."""
        squares, count = np.array(self.squares), len(self)
        found, size2 = float(squares.sum() - self.total @ self.total / count) / (count - 1), float(squares.mean())
        rounding = (EXACT * self.measure.work.eps) ** 2
        if found > rounding * max(size2, self.measure.scale2):
            return found, False
        return hidden(count) * size2 if size2 > rounding * self.measure.scale2 else 0.0, True

    def spread(self, known: np.ndarray) -> Spread:
        """Return how the probes scatter about the trace."""
        count = len(self)
        one, agree = self.entries()
        one *= 2
        # the squares scatter with the diagonal, too, which is no part of the variance and makes this a lower bound
        scatter = 4 * float(np.var(self.squares, ddof=1)) / count
        dof = max(count - 1.0, 2 * one**2 / scatter if scatter > 0 and not agree else 0.0)
        size = abs(float(known.sum() + self.samples.sum(axis=1).mean()))
        return Spread(one, (one / count) ** 0.5, dof, size, agree=agree)


class DiagonalSums(EntrySums):
    """The same with the spread of every entry; the tolerance is of all entries together, in root mean square."""

    def __init__(self, measure: Trace) -> None:
        super().__init__(measure)
        self.total2 = torch.zeros_like(self.total)

    def add(self, probes: torch.Tensor, rest: torch.Tensor) -> None:
        """Take in probes and B times them, both (n, count)."""
        super().add(probes, rest)
        self.total2 += (probes * rest).double().square().sum(dim=1)

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is as arrays."""
        return {**super().state(), "total2": self.total2.cpu().numpy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from ``state``."""
        super().restore(state)
        self.total2.copy_(torch.from_numpy(state["total2"]))

    def spread(self, known: np.ndarray) -> Spread:
        """Return how the probes scatter about the diagonal."""
        count, (one, agree) = len(self), self.entries()
        size2 = float((self.measure.entries + self.total / count).square().sum()) - one / count
        return Spread(one, (one / count) ** 0.5, count - 1, max(0.0, size2) ** 0.5, reach=1.0, agree=agree)

    def diagonal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the diagonal and the variance of every entry of it, in float64."""
        count = len(self)
        mean, (one, agree) = self.total / count, self.entries()
        variance = ((self.total2 / count - mean**2) / (count - 1)).clamp_(min=0)
        if agree:
            variance = mean**2 * (hidden(count) / count if one else 0.0)
        return self.measure.entries + mean, variance
