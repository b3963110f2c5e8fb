"""What a monitor can measure now and then. A metric is one class and one line in ``METRICS``.

A metric has a ``name`` and is called with a :class:`Moment`; it returns its values by name and a status
in words. It must leave the model, the optimizer and every random generator as it found them, which the
contract tests check for every member of the registry.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from torch import optim

from landscape.curvature import Hessian, Preconditioner, preconditioned, preconditioner
from landscape.errors import InputError
from landscape.gradients import gradient_conflict, gradient_statistics
from landscape.objective import Objective
from landscape.results import EigenResult
from landscape.spectra import eigsh


class Moment:
    """The state of training at a record; what two metrics need is computed once.

    ``memory`` is what metrics keep from one record to the next, by a name of their own; it is the run's, so that
    one metric can watch several runs.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optim.Optimizer,
        step: int,
        seed: int,
        memory: dict[str, Any] | None = None,
    ) -> None:
        self.objective, self.optimizer, self.step, self.seed = objective, optimizer, step, seed
        self.memory = {} if memory is None else memory
        self._hessians: dict[int, Hessian] = {}

    def hessian(self, objective: Objective | None = None) -> Hessian:
        """Return the Hessian at this moment, of the monitor's objective or of a metric's own."""
        chosen = self.objective if objective is None else objective
        if id(chosen) not in self._hessians:
            self._hessians[id(chosen)] = Hessian(chosen)
        return self._hessians[id(chosen)]


class Metric(Protocol):
    """What a metric must offer."""

    name: str

    def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
        """Return values by name (numbers or arrays) and a status in words."""


class Sharpness:
    """The largest Hessian eigenvalue, its stability threshold and the edge meter ρ.

    ``sharpness`` is λ_max with its residual ``sharpness_residual``; ``threshold`` the λ_max at which the
    optimizer's step turns unstable (2/η for plain SGD; NaN where no single number exists); ``edge`` is ρ,
    the largest eigenvalue of P^-1/2 H P^-1/2 over its threshold, with the edge of stability at 1.

    A record starts from the eigenvector of the one before beside random ones of its own: where another direction has
    become the sharpest it is found at once. Memory: one vector for each eigenvalue.

    Parameters
    ----------
    tol : float
        Relative residual of the eigenpair; the eigenvalue is then right to about its square.
    max_matvecs : int
        Most Hessian products a record may cost, for each eigenvalue.
    objective : Objective, optional
        Another objective than the monitor's: with batch normalisation, one in ``mode="train"`` is the
        function that training descends, and the one whose stability the threshold speaks of.
    """

    name = "sharpness"

    def __init__(self, tol: float = 1e-2, max_matvecs: int = 200, objective: Objective | None = None) -> None:
        self.tol, self.max_matvecs, self.objective = tol, max_matvecs, objective

    def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
        """Return sharpness, its residual, threshold and edge; about 10 to 20 Hessian products."""
        hessian = moment.hessian(self.objective)
        top = self._largest(hessian, moment, "sharpness")
        values = {
            "sharpness": float(top.values[0]),
            "sharpness_residual": float(top.residuals[0]),
            "threshold": math.nan,
            "edge": math.nan,
        }
        try:
            by = preconditioner(moment.optimizer, hessian.objective.parameters, hessian.space)
        except InputError as error:
            return values, f"{top.status}; no edge: {error}"
        if math.isnan(by.c):
            return values, f"{top.status}; no edge: {by.note}"
        status = top.status
        decay = float(by.decay[0])
        if not math.isnan(by.rate) and by.rate > 0 and bool((by.decay == decay).all()):
            values["threshold"] = by.c / by.rate - decay
            values["edge"] = by.rate * (values["sharpness"] + decay) / by.c
        else:
            edge = self._largest(preconditioned(hessian, moment.optimizer), moment, "edge")
            values["edge"] = float(edge.values[0]) / by.c
            status = status if edge.ok else edge.status
        return values, self._worded(status, by)

    def _largest(self, operator: Any, moment: Moment, name: str) -> EigenResult:
        before, seed = moment.memory.get(name), moment.seed + moment.step  # what one vector hardly sees, another does
        found = eigsh(operator, 1, "LA", tol=self.tol, max_matvecs=self.max_matvecs, start=before, seed=seed)
        moment.memory[name] = found
        return found

    @staticmethod
    def _worded(status: str, by: Preconditioner) -> str:
        return f"{status}; {by.note}" if by.note else status


class GradientCoherence:
    """m-coherence and noise scale of the gradients of single examples, with standard errors."""

    name = "gradient_coherence"

    def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
        """Return coherence and noise scale; one pass of per-example gradients."""
        found = gradient_statistics(moment.objective)
        errors = {str(q): float(found.dataset["stderr"].sel(quantity=q)) for q in ("coherence", "noise_scale")}
        values = {
            "gradient_coherence": found.coherence,
            "gradient_coherence_stderr": errors["coherence"],
            "noise_scale": found.noise_scale,
            "noise_scale_stderr": errors["noise_scale"],
        }
        return values, found.status if found.ok else f"{found.status}: {found.message}"


class GradientConflict:
    """Cosines between the gradients of tasks, or of the classes of a classification.

    Parameters
    ----------
    tasks : dict of str to Objective, optional
        The tasks; by default the monitor's own objective split by its targets.
    """

    name = "gradient_conflict"

    def __init__(self, tasks: Mapping[str, Objective] | None = None) -> None:
        self.tasks = dict(tasks) if tasks is not None else None
        self.labels: dict[str, list[str]] = {}

    def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
        """Return the cosine matrix and conflict rates; one pass of per-example gradients over every task."""
        found = gradient_conflict(moment.objective if self.tasks is None else self.tasks)
        self.labels = {"conflict_cosine": [str(task) for task in found.dataset["task"].to_numpy()]}
        values = {
            "conflict_cosine": np.asarray(found.dataset["cosine"]),
            "conflict_rate": found.rate,
            "conflict_significant_rate": found.significant_rate,
        }
        return values, found.status if found.ok else f"{found.status}: {found.message}"


#: name -> how to make the metric with its default settings
METRICS: dict[str, Callable[[], Metric]] = {
    "sharpness": Sharpness,
    "gradient_coherence": GradientCoherence,
    "gradient_conflict": GradientConflict,
}


def as_metric(metric: str | Metric) -> Metric:
    """Return the metric called or given."""
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1)
        known = f"known are {', '.join(METRICS)}"
        raise InputError(
            "there is no such metric", got=metric, fix=f"did you mean {near[0]!r}? {known}" if near else known
        )
    return METRICS[metric]()
