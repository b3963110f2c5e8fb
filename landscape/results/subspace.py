"""How much two subspaces have in common, and how much of a vector lies in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from landscape.results.base import Result, check_level, number


class SubspaceResult(Result):
    """Overlaps of subspaces of dimension ``k`` in ``n`` dimensions, or shares of vectors inside of one.

    ``subspace.overlap`` gives ``overlap`` and ``cosines``; ``subspace.share`` gives ``share`` and
    ``cumulative``. Beside them stands what chance gives: ``baseline``, the mean for a random subspace, and
    ``chance(level)``, the range that holds one. ``undetermined`` bounds the sine of the angle between each
    subspace and the true one.
    """

    kind = "subspace"

    @classmethod
    def make(
        cls,
        variables: dict[str, Any],
        coords: dict[str, Any],
        *,
        n: int,
        k: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> SubspaceResult:
        """Label the numbers of either question."""
        return cls._build(variables, coords, status=status, message=message, provenance=provenance, n=n, k=k)

    def _numbers(self, name: str) -> Any:
        if name not in self.dataset:
            raise AttributeError(f"this result has no {name}; it has {', '.join(map(str, self.dataset.data_vars))}")
        return self.dataset[name].to_numpy()[()]

    @property
    def n(self) -> int:
        """The number of dimensions."""
        return int(self.dataset.attrs["n"])

    @property
    def k(self) -> int:
        """The dimension of each subspace."""
        return int(self.dataset.attrs["k"])

    @property
    def overlap(self) -> Any:
        """Tr(P_a P_b) / k, the mean squared cosine, in [0, 1]: a number, or one for each (row, column)."""
        return self._numbers("overlap")

    @property
    def cosines(self) -> Any:
        """The cosines of the k principal angles, the smallest angle first, along the last axis."""
        return self._numbers("cosines")

    @property
    def angles(self) -> Any:
        """The k principal angles in radians, the smallest first, along the last axis; right to 1e-7."""
        return np.arccos(self.cosines)

    @property
    def share(self) -> Any:
        """|P g|² / |g|² in [0, 1]: a number, or one for each vector."""
        return self._numbers("share")

    @property
    def cumulative(self) -> Any:
        """The share inside the first j directions, j = 1, ..., k, along the last axis."""
        return self._numbers("cumulative")

    @property
    def baseline(self) -> float:
        """The mean of either number for a random subspace: k / n."""
        return self.k / self.n

    @property
    def baseline_stddev(self) -> float:
        """The exact standard deviation of either number for a random subspace."""
        k, n = self.k, self.n
        if k == n:
            return 0.0
        if "share" in self.dataset:
            return float(np.sqrt(2 * k * (n - k) / (n**2 * (n + 2))))
        return float(np.sqrt(2.0) * (n - k) / n / np.sqrt((n - 1.0) * (n + 2.0)))

    def chance(self, level: float = 0.95) -> tuple[float, float]:
        """Return the range that holds the number of a random subspace with probability ``level``.

        A share has the law Beta(k/2, (n-k)/2). An overlap's law has no closed form for k > 1; the Beta law of
        the same mean and variance stands for it (it is the exact one for k = 1), or beyond half of the dimensions
        for the overlap of the complements, which decides it.
        """
        check_level(level)
        mean, deviation = self.baseline, self.baseline_stddev
        if deviation == 0:
            return mean, mean
        least, span = 0.0, 1.0
        if "share" not in self.dataset and 2 * self.k > self.n:
            least, span = 2 - self.n / self.k, self.n / self.k - 1
        mean, deviation = (mean - least) / span, deviation / span
        both = mean * (1 - mean) / deviation**2 - 1
        law = stats.beta(mean * both, (1 - mean) * both)
        low, high = least + span * law.ppf([0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    def summary(self) -> dict[str, str]:
        """Return the numbers beside what chance gives."""
        name = "share" if "share" in self.dataset else "overlap"
        values = np.asarray(self._numbers(name))
        lines = {name: _span(values)}
        if name == "overlap":
            if values.ndim == 2 and values.shape[0] == values.shape[1] and np.allclose(np.diag(values), 1.0):
                lines = {"overlap of two different ones": _span(values[~np.eye(len(values), dtype=bool)])}
            else:
                lines["largest angle"] = f"{np.degrees(np.max(self.angles)):.3g}°"
        low, high = self.chance()
        lines["by chance"] = f"{number(self.baseline, self.baseline_stddev)} (95 %: [{low:.3g}, {high:.3g}])"
        lines["dimensions"] = f"{self.k} of {self.n:,}"
        return lines


def _span(values: np.ndarray) -> str:
    if values.size == 0:
        return "none"
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.4g}" if values.size == 1 else f"{low:.4g} to {high:.4g}"
