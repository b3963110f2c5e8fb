"""Eigenpairs of the blocks of an operator, and what the blocks miss of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy import stats
from scipy.special import expit

from landscape.errors import InputError
from landscape.results.base import Result, check_level, number
from landscape.results.eigen import EigenResult
from landscape.results.family import Family


class LayerCurvature(Family):
    """Eigenpairs of each block of an operator, beside those of the whole and what the blocks do not see.

    ``members`` are the blocks' eigenpairs. ``missed`` is the share of |A|_F² that lies outside the diagonal
    blocks, estimated with an error bar; ``coupling`` says between which blocks. Of each top eigenpair of the
    whole, ``top_within`` is the share of vᵀAv that lies within blocks, ``top_mass`` how much of the vector lies
    in each block.
    """

    kind = "layers"

    @classmethod
    def of_blocks(
        cls,
        members: Mapping[str, Result],
        whole: EigenResult | None,
        curvature: np.ndarray,
        mass: np.ndarray,
        exact: np.ndarray,
        samples: np.ndarray,
        **facts: Any,
    ) -> Self:
        """Label what was found of B blocks.

        ``curvature`` (k, B, B) holds v_cᵀ A v_b of the top vectors and ``mass`` (k, B) their |v_b|²; the sum of
        ``exact`` (B, B) and the mean of ``samples`` (probes, B, B) is |A_cb|_F². Empty where not reached.
        """
        pairs = ([], [], []) if whole is None else (whole.values, whole.residuals, whole.converged)
        blocks, count = len(members), len(samples)
        curvature, exact, samples = (part[..., :blocks, :blocks] for part in (curvature, exact, samples))
        rough = samples.std(axis=0, ddof=1) / count**0.5 if count > 1 else np.full(exact.shape, np.nan)
        mean = exact + samples.mean(axis=0) if count else np.full(exact.shape, np.nan)
        inside = np.trace(exact) + np.einsum("pbb->p", samples)
        everything = exact.sum() + samples.sum(axis=(1, 2))
        block, pair = ("member", "other"), ("top", "member")
        made = cls.make(
            members,
            others={} if whole is None else {"the whole": whole},
            variables={
                "top_values": ("top", np.asarray(pairs[0], float), {"long_name": "eigenvalue of the whole"}),
                "top_residuals": ("top", np.asarray(pairs[1], float), {"long_name": "|Av - λv|"}),
                "top_converged": ("top", np.asarray(pairs[2], bool)),
                "top_mass": (pair, mass[:, :blocks], {"long_name": "|v_b|² of the whole's eigenvector"}),
                "top_curvature": (pair, np.einsum("kbb->kb", curvature), {"long_name": "v_bᵀ A v_b"}),
                "coupling": (block, mean, {"long_name": "|A_cb|_F²"}),
                "coupling_stderr": (block, rough),
                "within_samples": ("probe", inside, {"long_name": "squares within blocks, by one probe"}),
                "total_samples": ("probe", everything, {"long_name": "all squares, by the same probe"}),
            },
            **facts,
        )
        made._cache["whole"] = whole
        return made

    @property
    def whole(self) -> EigenResult:
        """The top eigenpairs of the whole operator, while they are at hand."""
        found: EigenResult | None = self._cache.get("whole")
        if found is None:
            raise InputError("the eigenvectors of the whole are not part of the file", got="a loaded result",
                             fix="read top_values and top_residuals, or call eigsh again")  # fmt: skip
        return found

    def _of(self, name: str) -> np.ndarray:
        return self.dataset[name].to_numpy()

    @property
    def top_values(self) -> np.ndarray:
        """The top eigenvalues of the whole, shape (k,)."""
        return self._of("top_values")

    @property
    def top_residuals(self) -> np.ndarray:
        """Their residuals, shape (k,)."""
        return self._of("top_residuals")

    @property
    def top_mass(self) -> np.ndarray:
        """How much of the whole's unit eigenvectors lies in each block, |v_b|², shape (k, blocks)."""
        return self._of("top_mass")

    @property
    def top_within(self) -> np.ndarray:
        """The share of vᵀAv that lies within blocks, Σ_b v_bᵀ A v_b / vᵀAv, shape (k,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._of("top_curvature").sum(axis=1) / self.top_values

    @property
    def coupling(self) -> np.ndarray:
        """|A_cb|_F² as a share of |A|_F², shape (blocks, blocks); the diagonal is what the blocks see."""
        found = self._of("coupling")
        return found / found.sum()

    @property
    def missed(self) -> float:
        """The share of curvature that the blocks miss, 1 - Σ_b |A_bb|_F² / |A|_F²."""
        total = self._of("total_samples")
        return float(1 - self._of("within_samples").mean() / total.mean()) if total.size else float("nan")

    @property
    def missed_stderr(self) -> float:
        """The standard error of ``missed``, that of a ratio of means over the same probes."""
        within, total = self._of("within_samples"), self._of("total_samples")
        if len(total) < 2:
            return float("nan")
        spread = (within - within.mean() / total.mean() * total).std(ddof=1) / len(total) ** 0.5
        return float(spread / abs(total.mean()))

    def missed_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that holds the share with probability ``level``, NaN with fewer than two probes.

        It is symmetric about the logarithm of outside / within, with a jackknife's error and the degrees of freedom by
        how its squares scatter: the samples are skewed, and Student's t on their ratio holds the share less often.
        Where one of the two is 0 to rounding, it is Student's.
        """
        check_level(level)
        within, total = self._of("within_samples"), self._of("total_samples")
        count = len(total)
        if count < 2:
            return float("nan"), float("nan")
        sums = np.stack([total - within, within])
        without = (sums.sum(axis=1, keepdims=True) - sums) / (count - 1)
        if (without <= 0).any():
            half = stats.t.ppf(0.5 + level / 2, count - 1) * self.missed_stderr
            return self.missed - half, self.missed + half
        logs = np.log(without[0] / without[1])
        squares = (logs - logs.mean()) ** 2
        scatter = float(squares.var(ddof=1)) / count
        dof = min(count - 1.0, max(2.0, 2 * float(squares.mean()) ** 2 / scatter) if scatter else np.inf)
        half = stats.t.ppf(0.5 + level / 2, dof) * ((count - 1) / count * squares.sum()) ** 0.5
        low, high = expit(np.log(sums[0].mean() / sums[1].mean()) + np.array([-half, half]))
        return float(low), float(high)

    def summary(self) -> dict[str, str]:
        """Return what the blocks miss, the whole's values, and what each block puts first."""
        lines = {"share of |A|_F² outside the blocks": number(self.missed, self.missed_stderr)}
        for i, (value, within) in enumerate(zip(self.top_values, self.top_within, strict=True)):
            lines[f"λ{i + 1} of the whole"] = f"{value:.6g}, {within:.1%} of it within blocks"
        return {**lines, **super().summary()}
