"""XTrace and XDiag: every probe serves the low-rank part of all others and tests its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from landscape.spectra.estimators.deflation import Deflation, gram, orthonormal
from landscape.spectra.estimators.found import Found, Goal
from landscape.spectra.estimators.measures import FEWEST, DiagonalSums, Trace
from landscape.spectra.estimators.probing import Hutchinson
from landscape.spectra.estimators.work import CHUNK, Work


@dataclass(frozen=True)
class Small:
    """The m by m matrices of XTrace, in float64.

    With probes Ω, products Y = AΩ = QR and Z = AQ: ``W = QᵀΩ``, ``R``, ``T = QᵀZ``; column i of ``S`` is the unit
    vector s_i with ``Q (1 - s_i s_iᵀ) Qᵀ`` the projector onto the range of all products but the i-th. Where
    product i depends on the others to rounding, as in an operator of low rank, s_i is a direction of rounding: what
    product i has brought into Q tests it no less. It is zero where Q is the whole space: then nothing is lost.
    """

    W: np.ndarray
    R: np.ndarray
    T: np.ndarray
    S: np.ndarray

    @classmethod
    def of(cls, probes: torch.Tensor, products: torch.Tensor, Q: torch.Tensor, Z: torch.Tensor) -> Small:
        """Return them for probes and products (n, m), and Q and Z (m, n) as rows."""
        T, R = gram(Q, Z), gram(Q, products.T)
        inverse = np.linalg.pinv(R / np.maximum(np.linalg.norm(R, axis=0), 1e-300), rcond=0.0)
        lengths = np.linalg.norm(inverse, axis=1)
        keep = (lengths > 0) & (len(R) < Q.shape[1])
        S = np.where(keep, inverse.T / np.where(keep, lengths, 1.0), 0.0)
        return cls(gram(Q, probes.T), R, (T + T.T) / 2, S)

    def without_own(self, coefficients: np.ndarray) -> np.ndarray:
        """Return column i of ``coefficients`` (m, m) without its part along s_i."""
        kept: np.ndarray = coefficients - self.S * (self.S * coefficients).sum(axis=0)
        return kept

    def covariance(self) -> float:
        """Return an unbiased estimate of the covariance of the estimates of two probes.

        Estimate i depends on probe j through the basis only. Let h_ij be by how much it changes when product j joins
        the basis. All else in either estimate has mean zero given the other's probe, so that the covariance is the
        mean of h_ij h_ji. The direction that joins is p_ij: s_j made orthogonal to s_i.
        """
        S, W, T = self.S, self.W, self.T
        G, TS, SW = S.T @ S, S.T @ T @ S, S.T @ W
        length2 = 1 - G**2
        valid = (length2 > 1e-12) & (np.diag(G) > 0)[None, :]
        length = np.sqrt(np.where(valid, length2, 1.0))

        def joined(rows: np.ndarray) -> np.ndarray:  # p_ijᵀ x_i from S X
            return (rows.T - G * np.diag(rows)[:, None]) / length

        own = np.diag(TS)
        pW, pT = joined(SW), (own[None, :] - 2 * G * TS + G**2 * own[:, None]) / length**2
        pTs = (TS - G * own[:, None]) / length
        inner = joined(S.T @ self.R) - joined(S.T @ T @ W) + pTs * np.diag(SW)[:, None] + pT * pW
        h = np.where(valid, pT - 2 * pW * inner + pW**2 * pT, 0.0)
        np.fill_diagonal(h, 0.0)
        return float((h * h.T).sum() / (len(h) * (len(h) - 1)))


class XTrace:
    """XTrace, and XDiag in its symmetric form, whose entries add up to it.

    The estimates of the single probes depend on each other, since each uses the products of all others: the
    spread between them understates the error, by a third for few probes or slow decay. Their covariance is
    estimated without bias as well (:meth:`Small.covariance`) and added.

    E. N. Epperly, J. A. Tropp, R. J. Webber, XTrace: making the most of every sample in stochastic trace
    estimation, SIAM J. Matrix Anal. Appl. 45 (2024).
    """

    name: ClassVar[str] = "xtrace"

    def __init__(self, work: Work, goal: Goal, measure: Trace) -> None:
        self.work, self.goal, self.measure = work, goal, measure
        self.Q = torch.empty(0, work.n, dtype=work.dtype, device=work.device)
        self.Z = self.Q
        self.settled: Found | None = None

    def run(self) -> None:
        """Make probes and their second products, until the goal is met or the budget is used."""
        self.work.pilot(min(self.goal.pilot, self.work.n))
        plain = Hutchinson(self.work, self.goal, self.measure)
        if plain.spread().agree:  # a diagonal, which a basis would only hide
            plain.run()
            self.settled = plain.found()
            return
        most = min(self.work.n, (self.work.left + self.work.probes.shape[1]) // 2)
        if self.goal.rtol is None:
            self.extend(most)
            return
        self.extend(min(most, self.goal.pilot))
        while True:
            found = self.found()
            have = len(self.Z)
            if found is None or found.exact or self.goal.met(found.spread) or have >= most:
                return
            # with m probes the variance falls at least as 1/m, and as 1/m³ where eigenvalues fall as 1/i
            wanted = have * (found.spread.half_width / (self.goal.rtol * max(found.spread.size, 1e-300))) ** (2 / 3)
            self.extend(min(most, max(have + 4, math.ceil(min(wanted, 2 * have)))))

    def extend(self, count: int) -> None:
        """Go on to ``count`` probes."""
        _, products = self.work.pilot(count)
        while (have := len(self.Q)) < count:
            self.Q = torch.cat([self.Q, orthonormal(self.Q, products[:, have : min(have + CHUNK, count)])])
        while (have := len(self.Z)) < count:
            self.Z = torch.cat([self.Z, (self.work @ self.Q[have : have + CHUNK].T).T])

    def found(self) -> Found | None:
        """Return the estimate from the probes whose products are complete."""
        m = len(self.Z)
        if self.settled is not None:
            return self.settled
        if m < FEWEST:
            return Hutchinson(self.work, self.goal, self.measure).found()
        probes, products, Q, Z = self.work.probes[:, :m], self.work.products[:, :m], self.Q[:m], self.Z
        small = Small.of(probes, products, Q, Z)
        T = torch.from_numpy(small.T)
        base = Deflation(Q, small.T, Z - T.to(Q) @ Q, np.eye(m))
        known = self.measure.known(base)
        sums = self.measure.sums()
        for begin in range(0, m, CHUNK):
            part = slice(begin, min(begin + CHUNK, m))
            entries = _entries(small, part, probes, products, Q, Z)
            sums.add(torch.ones_like(entries), entries)
        spread = sums.spread(known)
        scatter = 2 * sums.entries()[0] / m
        share = 1 + max(0.0, small.covariance()) / scatter if scatter else 1.0
        diagonal = None
        if isinstance(sums, DiagonalSums):
            if scatter:
                share = 1 + max(0.0, _entries_covariance(small, probes, Q, Z)) / (scatter / 2)
            mean, variance = sums.diagonal()
            diagonal = mean, variance * share
        return Found(
            self.name,
            known,
            sums.samples,
            replace(spread, one=spread.one * share, error=spread.error * share**0.5),
            inflation=share**0.5,
            diagonal=diagonal,
            facts={"deflated": m},
        )


def _entries(
    small: Small, part: slice, probes: torch.Tensor, products: torch.Tensor, Q: torch.Tensor, Z: torch.Tensor
) -> torch.Tensor:
    """Return what the probes in ``part`` add, each with the basis of all others, to the diagonal that Q knows."""

    def mixed(rows: torch.Tensor, coefficients: np.ndarray) -> torch.Tensor:
        return rows.T @ torch.from_numpy(np.ascontiguousarray(coefficients[:, part])).to(rows)

    S, T = small.S, small.T
    inside = small.without_own(small.W)
    outside = products[:, part] - mixed(Z, inside)
    rest = outside - mixed(Q, small.without_own(small.R - T @ inside))
    own, other = mixed(Q, S), mixed(Z, S) - mixed(Q, T @ S)
    return probes[:, part] * rest - own * (2 * other + own * torch.from_numpy((S * (T @ S)).sum(0)[part]).to(own))


def _entries_covariance(small: Small, probes: torch.Tensor, Q: torch.Tensor, Z: torch.Tensor) -> float:
    """Return the covariance of the estimates of two probes as in :meth:`Small.covariance`, summed over entries.

    Every probe is paired with the next one only: all pairs would be as many vectors.
    """
    S, T, count = small.S, small.T, len(small.S)
    after = (np.arange(count) + 1) % count
    cosine = (S * S[:, after]).sum(axis=0)
    valid = (1 - cosine**2 > 1e-12) & (np.abs(S).sum(axis=0) > 0) & (np.abs(S[:, after]).sum(axis=0) > 0)
    length = np.sqrt(np.where(valid, 1 - cosine**2, 1.0))

    def change(own: np.ndarray, other: np.ndarray, part: slice) -> torch.Tensor:
        """Return by how much the entries change by probe ``own`` when product ``other`` joins its basis."""
        s, W, R = S[:, own], small.W[:, own], small.R[:, own]
        p = (S[:, other] - cosine * s) / length

        def outside(x: np.ndarray) -> np.ndarray:  # what the basis without the pair holds of x
            rest: np.ndarray = x - s * (s * x).sum(axis=0) - p * (p * x).sum(axis=0)
            return rest

        def rows(x: torch.Tensor, mix: np.ndarray) -> torch.Tensor:
            return x.T @ torch.from_numpy(np.ascontiguousarray(mix[:, part])).to(x)

        along, inner = (p * W).sum(axis=0), (p * (R - T @ outside(W))).sum(axis=0)
        own_value = (p * (T @ p)).sum(axis=0)
        a, b, t = (torch.from_numpy(x[part]).to(Q) for x in (along, inner, own_value))
        q, Bq = rows(Q, p), rows(Z, p) - rows(Q, outside(T @ p))
        v = probes[:, torch.from_numpy(own[part])]
        return q * (2 * Bq - t * q) - v * (q * (b - t * a) + Bq * a)

    total, order = 0.0, np.arange(count)
    for begin in range(0, count, CHUNK):
        part = slice(begin, min(begin + CHUNK, count))
        both = change(order, after, part).double() * change(after, order, part).double()
        total += float(both.sum(dim=0).cpu() @ torch.from_numpy(valid[part].astype(float)))
    return total / count
