"""Fisher information matrices, and the covariance of the examples' gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.curvature.examples import check_examples
from landscape.curvature.ggn import OutputCurvature
from landscape.curvature.linearization import Linearizer
from landscape.curvature.outputs import fisher as likelihood
from landscape.curvature.outputs.hessian import Curve, output_gradient
from landscape.curvature.outputs.rows import Rows
from landscape.curvature.outputs.weights import example_rows, example_weights, layout
from landscape.errors import InputError
from landscape.objective import Batch, Objective
from landscape.objective.losses.terms import Split
from landscape.seeds import check_seed

KINDS = ("exact", "mc", "empirical")


class Fisher(OutputCurvature):
    """The Fisher information matrix of a model whose loss is a negative log-likelihood.

    Σ_r c_r E[∇ log p(y | x_r) ∇ log p(y | x_r)ᵀ] / Σ w over the labels r, c_r being what label r counts in
    the loss's mean. For cross-entropy r is each counted label (each token); for square and binary losses
    each example. The square error is read as a Gaussian of variance 1/2. A regularizer is not part of it.

    Parameters
    ----------
    objective : Objective
        With cross-entropy, ``nn.NLLLoss``, ``nn.MSELoss`` or ``nn.BCEWithLogitsLoss`` (without ``pos_weight``),
        or ``"model"``; ``kind="empirical"`` takes any loss that can be cut at the outputs.
    kind : {"exact", "mc", "empirical"}
        ``"exact"``: the expectation over the model's own labels, in closed form; it equals the GGN of the same
        loss without label smoothing. ``"mc"``: over ``samples`` labels drawn from the model, unbiased.
        ``"empirical"``: at the data's labels, which is not the Fisher information away from a well-fitted
        model (Kunstner et al. 2019, arXiv:1905.12558). Of a loss function, whose labels are not known, it
        takes each example as one label that counts as much as the example. Unless it is of a cross-entropy, the
        examples must not act on each other, which is checked as for :class:`~landscape.curvature.GradientCovariance`.
    samples : int
        Labels drawn for each of the data's, with ``kind="mc"``.
    seed : int
        Which ones. They depend on the seed and on the example's number in the data, not on the batches.
    backend, columns, at
        As for :class:`~landscape.GGN`.

    Notes
    -----
    A product costs about two gradients for any kind and any number of labels; no gradient of a single example is
    ever formed.
    """

    psd = True

    def __init__(
        self,
        objective: Objective,
        *,
        kind: str = "exact",
        samples: int = 1,
        seed: int = 0,
        backend: str = "auto",
        columns: str = "auto",
        at: Any = None,
    ) -> None:
        if kind not in KINDS:
            raise InputError("kind must be 'exact', 'mc' or 'empirical'", got=kind, fix="pass kind='exact'")
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise InputError("samples must be a positive number of labels", got=samples, fix="pass samples=1")
        super().__init__(objective, backend=backend, columns=columns, at=at)
        self.kind, self._samples, self._seed = kind, samples, check_seed(seed)

    def _curve(self, split: Split, batch: Batch) -> Curve:
        if self.kind == "exact":
            return likelihood.exact(split)
        if self.kind == "mc":
            return likelihood.sampled(split, batch, self._seed, self._samples)
        return likelihood.empirical(split, batch, self.objective)

    def _check(self) -> None:
        if self.kind == "empirical":
            check_examples(self.objective, self.point, by_label=True)
        super()._check()

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is of, which kind it is, and how its products are made."""
        drawn = {"samples": self._samples, "label seed": self._seed} if self.kind == "mc" else {}
        return {**super().provenance(), "operator": f"Fisher, {self.kind}", **drawn}


class GradientCovariance(OutputCurvature):
    """The covariance Σ w_i (g_i - g)(g_i - g)ᵀ / Σ w_i of the examples' gradients.

    g_i is the gradient of example i's own mean loss, w_i its weight in the objective, and g = Σ w_i g_i / Σ w_i
    the objective's gradient. Of a ``"sum"`` loss g_i is the gradient of the example's own term and w_i is 1.
    An example that counts nothing, its label's class weight being 0, has no mean loss and is no part of either.

    Parameters
    ----------
    objective : Objective
        Its loss must be one that can be cut at the model's outputs, as for :class:`~landscape.GGN`, and its
        examples must not act on each other.
    backend, columns, at
        As for :class:`~landscape.GGN`.

    Raises
    ------
    InputError
        For batch statistics in ``mode="train"``, where no example has a gradient of its own. At the first product
        in ``mode="eval"``, when the first batch shows that examples act on each other, or that the outputs do not
        lead with them: outputs and loss of its halves are compared with its own.

    Notes
    -----
    A product costs about two gradients; the first one makes the gradient g besides. No gradient of a single
    example is formed. A loss function that returns a weight is called once more for each example.
    """

    psd = True

    def __init__(self, objective: Objective, *, backend: str = "auto", columns: str = "auto", at: Any = None) -> None:
        super().__init__(objective, backend=backend, columns=columns, at=at)
        for name, module in objective.model.named_modules():
            if isinstance(module, _BatchNorm) and (objective.mode == "train" or module.running_mean is None):
                raise InputError(
                    "gradients of single examples do not exist with batch statistics",
                    got=f"{type(module).__name__} {name!r} in mode={objective.mode!r}",
                    why="each example's loss depends on the whole batch",
                    fix="use an objective in mode='eval'",
                )
        self._mean: torch.Tensor | None = None

    def _weight(self, split: Split, batch: Batch) -> torch.Tensor | float:
        if self.objective.loss.reduction == "sum":
            return float(layout(split, batch, self.objective)[0])
        return super()._weight(split, batch)

    def _total(self, weight: torch.Tensor) -> torch.Tensor:
        return weight if self.objective.loss.reduction == "sum" else super()._total(weight)

    def _curve(self, split: Split, batch: Batch) -> Curve:
        rows, gradients, weights = self._examples(split, batch)
        return likelihood.outer(rows, gradients, likelihood.inverse(weights))

    def _examples(self, split: Split, batch: Batch) -> tuple[Rows, list[torch.Tensor], torch.Tensor]:
        """Return the examples' rows, the numerator's gradient by the outputs, and what each example counts."""
        _, gradients = output_gradient(split)
        rows = example_rows(gradients, split, batch, self.objective)
        return rows, gradients, example_weights(split, batch, self.objective).to(gradients[0])

    def _check(self) -> None:
        check_examples(self.objective, self.point)
        if self._mean is None:  # of all data: the check looks at one batch
            self._mean = self._centre()
        super()._check()

    def _multiplied(self, block: torch.Tensor) -> torch.Tensor:
        uncentred = super()._multiplied(block)
        assert self._mean is not None
        mean = self._mean.to(torch.float64)
        return uncentred - torch.outer(mean, mean @ block.to(torch.float64)).to(uncentred.dtype)

    def _centre(self) -> torch.Tensor:
        """Return g (n,), of the examples that count, without the regularizer's part, which none differs in."""
        return self._kinds(self._mean_gradient)

    def _mean_gradient(self, linearized: Linearizer) -> torch.Tensor:
        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            linear = linearized(batch)
            rows, gradients, weights = self._examples(linear.split, batch)
            counted = (weights != 0).unsqueeze(-1)
            parts = [rows.back(rows.to(g) * counted, g) for g in gradients]
            return [self._weight(linear.split, batch), linear.vjp(parts)]

        weight, total = self.objective.sum(per_batch, self.point, math_attention=True)
        return total / self._total(weight)
