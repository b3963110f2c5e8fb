"""Whether the wanted pairs are all there: residuals prove each of them, but not that none lies above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import gammaln

from landscape.spectra.eigenpairs.selection import order, outward
from landscape.spectra.lanczos import Krylov
from landscape.spectra.probes import Probe


@dataclass(frozen=True)
class Odds:
    """How likely, at most, an eigenvalue that exists may have stayed hidden above a pair called converged.

    From a single random vector, from several together, and for a second copy of a value found: there hardly ever
    is one.
    """

    single: float
    several: float
    copy: float

    def of(self, probes: int) -> float:
        """Return what is accepted from so many probes."""
        return self.several if probes > 1 else self.single


COLD = Odds(2e-3, 0.05, 0.03)

#: after old eigenvectors, which are looked at because the new ones may be others
WARM = Odds(5e-4, 0.01, 0.01)

# Values within so many tolerances of each other are told apart by their own probes only.
NEAR = 3.0

# Of an eigenvector, squared: what must be left for the probes to see beside the Ritz vectors that are there.
REST = 0.25

# By how much an ellipsoid is lengthened to hold what was lost to rounding as well.
SHARE = 0.1


@dataclass
class Look:
    """The Ritz pairs of a Krylov space, those that are wanted, and how sure their places are.

    ``wanted`` (k,) are indices, most wanted first; ``estimates`` (k,) their residual norms.
    """

    krylov: Krylov
    which: str
    tol: float
    values: np.ndarray
    coefficients: np.ndarray
    left: np.ndarray  # residuals of the Ritz vectors in all rows
    wanted: np.ndarray
    lacking: bool = field(default=False, init=False)  # whether a question needs another probe
    unseen: list[np.ndarray] = field(default_factory=list, init=False)  # in the queue: what the probes bound too little

    @classmethod
    def at(cls, krylov: Krylov, k: int, which: str, tol: float) -> Look:
        """Look at the present basis."""
        values, coefficients, left = krylov.residual_columns()
        return cls(krylov, which, tol, values, coefficients, left, order(values, which)[:k])

    @cached_property
    def theta(self) -> np.ndarray:
        """The wanted Ritz values (k,)."""
        return self.values[self.wanted]

    @cached_property
    def estimates(self) -> np.ndarray:
        """The residual norms (k,) of the wanted pairs, by linearity from the products made."""
        found: np.ndarray = np.linalg.norm(self.left[:, self.wanted], axis=0)
        return found

    @property
    def target(self) -> np.ndarray:
        """The residual norms (k,) asked for."""
        return self.tol * np.abs(self.theta)

    @property
    def met(self) -> np.ndarray:
        """Which residuals (k,) are small enough, or as small as rounding lets them be."""
        return self.estimates <= np.maximum(self.target, self.krylov.floor)

    @cached_property
    def noise(self) -> np.ndarray:
        """What of the residuals (k,) lies in V: were the products symmetric, linear and repeatable, it were rounding.

        No further step makes it smaller.
        """
        found: np.ndarray = np.linalg.norm(self.left[: self.krylov.filled, self.wanted], axis=0)
        return found

    @property
    def stuck(self) -> np.ndarray:
        """Which residuals (k,) are noise: the rest of them is small enough."""
        rest = np.linalg.norm(self.left[self.krylov.filled :, self.wanted], axis=0)
        found: np.ndarray = ~self.met & (rest <= np.maximum(self.target, self.noise))
        return found

    @property
    def levels(self) -> np.ndarray:
        """The eigenvalues at which hidden ones are looked for."""
        steps, sides = np.maximum(self.target, self.krylov.floor), outward(self.theta, self.which)
        levels = [self.theta + sides * steps, self.theta - sides * steps]
        return np.concatenate([*levels, *([-levels[0]] if self.which == "LM" else [])])

    @property
    def odds(self) -> Odds:
        """What is accepted here."""
        return WARM if self.krylov.warm else COLD

    def chances(self) -> np.ndarray:
        """Return for each wanted pair (k,) how likely an eigenvalue above it would be hidden, in units of what may be.

        Two things can be hidden: another copy of a value above, or one so close that both look like one, which
        only a probe that came after the copies found can tell; and a value of its own, which every probe would
        have had to miss. Infinite is what no further product can tell.
        """
        k, theta, sides = len(self.wanted), self.theta, outward(self.theta, self.which)
        self.lacking, self.unseen = False, []
        if self.krylov.filled == self.krylov.operator.n:
            return np.zeros(k)
        steps = np.maximum(self.target, self.krylov.floor)
        heights = np.abs(theta) if self.which == "LM" else sides * theta
        copies = {tuple(group): self._copies(group, theta, sides, steps) for group in self._groups(theta, sides, steps)}
        found = np.zeros(k)
        for i in range(k):
            rivals = (heights > heights[i] + steps[i]) & ((sides == sides[i]) | (self.which == "LM"))
            above = [chance for group, chance in copies.items() if rivals[list(group)].any()]
            level = theta[i] + sides[i] * steps[i]
            gap = self._gap(level, theta, steps)
            if self.which == "LM":
                gap = max(gap, self._gap(-level, theta, steps))
            found[i] = max([gap, *above])
        return found

    @staticmethod
    def _groups(theta: np.ndarray, sides: np.ndarray, steps: np.ndarray) -> list[list[int]]:
        """Return the wanted ones in groups of copies: neighbours nearer than can be told apart."""
        groups: list[list[int]] = []
        for i in sorted(range(len(theta)), key=lambda i: (sides[i], theta[i])):
            last = groups[-1][-1] if groups else None
            if last is not None and sides[last] == sides[i] and abs(theta[i] - theta[last]) <= NEAR * steps[i]:
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def _copies(self, group: list[int], theta: np.ndarray, sides: np.ndarray, steps: np.ndarray) -> float:
        inner = min(group, key=lambda i: sides[i] * theta[i])
        alone = len(group) == 1  # where there are several copies, one more is no wonder
        accepted = self.odds.copy if alone else self.odds.single
        chance, told, unseen = self._late(theta[inner] - sides[inner] * steps[inner], group, accepted, copies=True)
        self.lacking |= not told
        self.unseen += unseen
        return chance / accepted

    def _gap(self, level: float, theta: np.ndarray, steps: np.ndarray) -> float:
        """Return the chance that a value at ``level`` is hidden: from all probes, or from the late ones alone."""
        none = np.zeros(0, dtype=int)
        chance, told, unseen = self._missed(level, range(len(self._probes)), none, none)
        chance /= self.odds.of(told)
        if chance <= 1:
            return chance
        near = [j for j in range(len(theta)) if abs(theta[j] - level) <= NEAR * steps[j]]
        late, told_late, unseen_late = self._late(level, near)
        late /= self.odds.of(told_late)
        worn = self.estimates[near] <= self.krylov.floor if near else np.zeros(0)
        self.lacking |= not told or (not told_late and (len(near) > 1 or bool(np.any(worn))))
        self.unseen += unseen if chance < late else unseen_late
        return min(chance, late)

    def _late(
        self, level: float, group: list[int], accepted: float | None = None, *, copies: bool = False
    ) -> tuple[float, int, list[np.ndarray]]:
        """Return the same of those probes alone that came when the Ritz vectors ``group`` were there.

        Of ``copies`` of one value there is one whose eigenvector is orthogonal to the group.
        """
        columns = self.coefficients[:, self.wanted[group]]
        late = [p for p, probe in enumerate(self._probes) if probe.news(columns) < 0.5]
        besides = self.wanted[group]
        return self._missed(level, late, besides, besides[:0] if copies else besides, accepted)

    @cached_property
    def _probes(self) -> list[Probe]:
        """The probes with coordinates in all present rows."""
        return [probe.padded(len(self.left)) for probe in self.krylov.probes]

    def _missed(
        self,
        level: float,
        probes: list[int] | range,
        besides: np.ndarray,
        mixed: np.ndarray,
        accepted: float | None = None,
    ) -> tuple[float, int, list[np.ndarray]]:
        """Return the chance that all ``probes`` missed a value at ``level``, how many could be asked, and what to do.

        What the probes hold of the Ritz vectors ``besides`` is taken away from them. Its eigenvector u may have a
        part in those that are ``mixed``, which are not eigenvectors quite: with ``A y - θ y = r`` it is at most
        |r| / (level - θ), and only the rest of u is for the probes to see. To do is to multiply the directions in
        the queue, longer than 1, that the bounds come from. Where rounding hides the eigenvector from every probe,
        that came or may come, the chance is infinite.
        """
        m, n = self.krylov.filled, self.krylov.operator.n
        distance = level - self.values
        least = 1e-12 * max(abs(level), self.krylov.scale, float(np.finfo(float).tiny) * 1e12)
        distance = np.where(np.abs(distance) < least, least, distance)
        parts = self.left[m:, mixed] / distance[mixed]
        rest = 1.0 - float(np.sum(parts**2))  # of |u|², at least
        if rest < REST:
            return (
                1.0,
                len(probes),
                [2 * parts[:, j] for j in np.flatnonzero(np.sum(parts**2, axis=0) >= 0.25 / len(mixed))],
            )
        distance[besides] = np.inf
        seen = self.left[m:] / distance  # u in V, for its part h in the queue: |u| = 1 bounds h
        slack = NEAR * self.tol * abs(level)
        known = [c for p in probes if (c := self._probes[p].at(level, slack)) is not None]
        if not known or not np.isfinite(seen).all():
            return 1.0, len(known), []
        inside = np.stack([c[:m] @ self.coefficients for c in known])  # (probes, m), of the Ritz vectors
        products = inside @ seen.T + np.stack([c[m:] for c in known])  # with u, as linear functions of h
        gram = products @ np.linalg.solve(np.eye(len(seen)) + seen @ seen.T, products.T)
        lost = np.linalg.norm(inside * (self.krylov.lost / distance), axis=1)
        if (np.sqrt(2 * n / np.pi / rest) * lost >= 1).all():
            return np.inf, len(known), []
        most = np.sqrt(2 * n / np.pi / rest) * (np.sqrt(np.maximum(0.0, gram.diagonal())) + lost)  # chance of each
        accepted = accepted or self.odds.of(len(known))
        unseen = [v * np.sqrt(2 * n / np.pi / rest) / accepted for v in products[most > accepted]]
        return within(gram * n / rest, lost * np.sqrt(n / rest)), len(known), unseen

    @property
    def sure(self) -> np.ndarray:
        """Whether the place of each wanted pair (k,) is certain."""
        found: np.ndarray = self.chances() <= 1
        return found

    def missing(self) -> np.ndarray:
        """Return what keeps pairs from convergence and places from certainty: columns in the queue, longer than 1."""
        target = np.maximum(self.target, self.krylov.floor)
        short = self.left[self.krylov.filled :, self.wanted] / target
        return np.concatenate([short[:, ~self.met], *(v[:, None] for v in self.unseen)], axis=1)


def within(gram: np.ndarray, lost: np.ndarray) -> float:
    """Return a bound of the chance that independent normal variables (p,) lie in a small ellipsoid.

    It holds ``M h`` for all h with |h| ≤ 1, where ``gram`` (p, p) is MMᵀ, widened by ``lost`` (p,) along each axis. The
    chance is at most the volume of what its shortest axes span, for any number of them, times the density at 0.
    """
    p = len(gram)
    if not np.isfinite(gram).all() or not np.isfinite(lost).all():
        return 1.0
    if lost.any():  # the sum of two ellipsoids is in the one of these combined, for any share between them
        gram = (1 + SHARE) * gram + (1 + 1 / SHARE) * p * np.diag(lost**2)
    axes = np.maximum(np.linalg.eigvalsh(gram), np.finfo(float).tiny)  # squared, the shortest first
    logs = np.cumsum(np.log(axes / 2)) / 2 - gammaln(np.arange(1, p + 1) / 2 + 1)
    return float(np.exp(min(0.0, logs.min())))
