"""Results about gradients of examples and of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.results.base import Result, host, number


class GradientStatistics(Result):
    """What the gradients of single examples say together.

    One row per ``quantity`` with ``estimate`` and ``stderr`` (a jackknife over groups of examples):
    ``coherence`` (m-coherence: 1 when the gradients are orthogonal, m when identical), ``alpha``
    (coherence / m), ``diversity`` (1 / coherence), ``gradient_norm2`` (unbiased |G|²),
    ``noise_trace`` (unbiased tr Σ), ``noise_scale`` (their ratio), ``gsnr`` (Σ_j G_j² / Σ_j Var_j).
    ``coherence_by_parameter`` splits the first by named parameter.
    """

    kind = "gradients"

    @classmethod
    def make(
        cls,
        estimates: dict[str, float],
        stderrs: dict[str, float],
        coherence_by_parameter: Any,
        names: list[str],
        *,
        examples: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> GradientStatistics:
        """Label the arrays."""
        quantities = list(estimates)
        return cls._build(
            {
                "estimate": ("quantity", np.array([estimates[q] for q in quantities], float)),
                "stderr": ("quantity", np.array([stderrs[q] for q in quantities], float)),
                "coherence_by_parameter": ("parameter", host(coherence_by_parameter, np.float64)),
            },
            {"quantity": quantities, "parameter": names},
            status=status,
            message=message,
            provenance=provenance,
            examples=examples,
        )

    def __getattr__(self, name: str) -> float:
        if not name.startswith("_") and name in self.__dict__.get("dataset", {"quantity": ()})["quantity"]:
            return float(self.dataset["estimate"].sel(quantity=name))
        raise AttributeError(f"{type(self).__name__} has no quantity or attribute {name!r}")

    @property
    def examples(self) -> int:
        """The number of examples, m."""
        return int(self.dataset.attrs["examples"])

    def summary(self) -> dict[str, str]:
        """Return every quantity with its standard error."""
        return {
            str(q): number(
                float(self.dataset["estimate"].sel(quantity=q)), float(self.dataset["stderr"].sel(quantity=q))
            )
            for q in self.dataset["quantity"].to_numpy()
        }


class GradientConflict(Result):
    """Cosines between the gradients of tasks (or classes, or domains), with what noise alone would do.

    ``cosine`` (task, other) is between the measured mean gradients; ``cosine_unbiased`` corrects the inner
    product and both norms for noise (NaN where a task's signal cannot be told from noise); ``z`` is the unbiased
    inner product in units of its standard error, as a normal score: below -1.96 is a conflict that noise
    does not explain. ``cosine_by_parameter`` (task, other, parameter) splits the first by named parameter.
    """

    kind = "conflict"

    @classmethod
    def make(
        cls,
        tasks: list[str],
        cosine: Any,
        cosine_unbiased: Any,
        z: Any,
        norms: Any,
        examples: Any,
        *,
        cosine_by_parameter: Any = None,
        parameters: list[str] | None = None,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> GradientConflict:
        """Label the (task, other) matrices, the (task,) vectors and the (task, other, parameter) array."""
        pair = ("task", "other")
        split = {}
        if cosine_by_parameter is not None:
            label = {"long_name": "cosine of mean gradients, by parameter"}
            split = {"cosine_by_parameter": ((*pair, "parameter"), host(cosine_by_parameter, np.float64), label)}
        return cls._build(
            {
                "cosine": (pair, host(cosine, np.float64), {"long_name": "cosine of mean gradients"}),
                "cosine_unbiased": (
                    pair,
                    host(cosine_unbiased, np.float64),
                    {"long_name": "cosine, noise removed"},
                ),
                "z": (pair, host(z, np.float64), {"long_name": "inner product / standard error"}),
                "norm": ("task", host(norms, np.float64), {"long_name": "norm of the mean gradient"}),
                "examples": ("task", host(examples, np.int64)),
                **split,
            },
            {"task": tasks, "other": tasks} | ({"parameter": parameters} if split else {}),
            status=status,
            message=message,
            provenance=provenance,
        )

    def _pairs(self, name: str) -> np.ndarray:
        matrix = self.dataset[name].to_numpy()
        return matrix[np.triu_indices(len(matrix), 1)]

    @property
    def rate(self) -> float:
        """The share of pairs with a negative cosine; unrelated noisy gradients have 0.5."""
        return float((self._pairs("cosine") < 0).mean())

    @property
    def significant_rate(self) -> float:
        """The share of pairs whose conflict noise does not explain (z < -1.96); noise alone gives 0.025."""
        return float((self._pairs("z") < -1.96).mean())

    def summary(self) -> dict[str, str]:
        """Return the conflict rates beside what noise alone gives."""
        return {
            "pairs with negative cosine": f"{self.rate:.0%} (unrelated noisy gradients: 50 %)",
            "conflicts beyond noise": f"{self.significant_rate:.0%} (noise alone: 2.5 %)",
            "lowest cosine": number(float(self._pairs("cosine").min())),
        }
