"""Coherence, noise scale and signal-to-noise ratio of the gradients of single examples."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.gradients.groups import GroupSums, Moments, check_groups, count_examples, jackknife, not_finite_message
from landscape.gradients.per_example import per_example
from landscape.objective import Objective
from landscape.progress import Bar
from landscape.results.gradients import GradientStatistics
from landscape.results.provenance import Cost, collect


def gradient_statistics(
    objective: Objective, *, groups: int = 20, at: Any = None, method: str = "auto"
) -> GradientStatistics:
    """Say how far the gradients of single examples agree, in one pass over the data.

    With g_i the gradient of example i's own loss, w_i its weight, G the expected gradient and Σ the
    covariance of one example's gradient:

    ==================  ==============================================================================
    ``coherence``       |Σ w_i g_i|² / Σ |w_i g_i|²: 1 when the gradients are orthogonal, m when identical
    ``alpha``           coherence / m, between 0 and 1
    ``diversity``       1 / coherence
    ``gradient_norm2``  |G|², unbiased: the mean inner product of two different examples; may be negative
    ``noise_trace``     tr Σ, unbiased: m times what noise adds to the squared norm of the mean of m
    ``noise_scale``     noise_trace / gradient_norm2; NaN when gradient_norm2 is not positive
    ``gsnr``            gradient_norm2 / noise_trace, that is Σ_j G_j² / Σ_j Var_j over entries j
    ==================  ==============================================================================

    Parameters
    ----------
    objective : Objective
        The loss and its m examples; see :func:`landscape.gradients.per_example` for what is refused.
    groups : int
        Groups of examples for the jackknife, at least 2. The group of an example is a fixed
        pseudo-random function of its position.
    at : Point, tensor (n,) or dict of tensors, optional
        Where; the model's present parameters by default.
    method : {"auto", "vmap", "loop"}
        How gradients are made; see :func:`landscape.gradients.per_example`.

    Returns
    -------
    GradientStatistics
        ``estimate`` and ``stderr`` by quantity, ``coherence_by_parameter``. The status is ``"not
        converged"`` when |G|² cannot be told from zero, ``"not finite"`` when a gradient is not, and
        ``"interrupted"`` when Ctrl-C ended the pass: the numbers are then of the examples seen.

    Raises
    ------
    InputError
        With fewer than 2 counted examples, or when gradients of single examples do not exist.

    Notes
    -----
    Weights: an example counts in the mean gradient as it does in the objective, by its class weight or
    its number of counted tokens or elements. ``gradient_norm2`` and ``noise_trace`` are of that weighted
    mean, coherence is of the contributions w_i g_i, and m in ``alpha`` is (Σ w_i)² / Σ w_i². All weights
    are 1 for a ``"sum"`` loss, whose G is the mean over examples of the gradients of their terms.

    The standard errors leave out one group at a time. Where noise hides the signal they are too large
    rather than too small (up to √2 for ``gradient_norm2``), and that of ``noise_scale`` is NaN if it has no
    finite value without some group.

    Cost: one pass of per-example gradients; data that no pass has read yet are counted first. Memory: a
    block of gradients (256 MiB) and ``groups`` vectors of n float64 numbers; groups are fewer where that would be
    more than 1 GiB.

    References
    ----------
    Coherence: S. Chatterjee, P. Zielinski, arXiv:2008.01217 and arXiv:2203.10036. Noise scale: S. McCandlish
    et al., arXiv:1812.06162. Diversity: D. Yin et al., arXiv:1706.05699. GSNR: J. Liu et al., arXiv:2001.07384.
    """
    count = check_groups(groups, objective.space)
    total = count_examples(objective)
    sums = GroupSums(objective.space, count, total)
    found, skipped, interrupted = "", 0, False
    with Cost() as cost, Bar("gradient statistics", total=total) as bar:
        try:
            with closing(per_example(objective, at=at, method=method)) as stream:  # type: ignore[type-var]
                for block in stream:
                    sums.add(block.gradients, block.weights, block.index.numpy())
                    skipped, found = int(block.index[-1]) + 1 - sums.examples, block.method
                    bar.advance(len(block.index))
        except KeyboardInterrupt:
            if len(sums.used) < 2:
                raise
            interrupted = True
    if sums.examples < 2:
        raise InputError(
            "gradient statistics need at least 2 counted examples",
            got=sums.examples,
            why="one gradient agrees with itself",
            fix="use more data, or check ignore_index",
        )
    whole, left = sums.moments()
    estimates, by_parameter = _quantities(whole, whole)
    replicates, _ = _quantities(left, whole)
    stderrs = {name: float(jackknife(values)) for name, values in replicates.items()}
    stderrs["noise_scale"] = _stderr_of_ratio(estimates, replicates, stderrs)
    status, message = _status(estimates, stderrs, sums, len(sums.used))
    if interrupted:
        status = "interrupted"
        message = f"stopped by Ctrl-C after {sums.examples} of {total} examples; {message}"
    return GradientStatistics.make(
        {name: float(value) for name, value in estimates.items()},
        stderrs,
        by_parameter,
        list(objective.space.names),
        examples=sums.examples,
        status=status,
        message=message,
        provenance=collect(
            cost,
            method=found,
            groups=len(sums.used),
            examples_without_weight=skipped,
            passes=1,
            **objective.provenance(),
        ),
    )


def _quantities(moments: Moments, whole: Moments) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return quantities (...) and coherence by parameter (..., P), both for as many examples as ``whole`` has.

    Coherence grows with the number of examples, so an estimate from fewer is put on the scale of all.
    """
    with np.errstate(all="ignore"):
        size = whole.weight**2 / whole.weight2
        norm2 = moments.norm2()
        mean_square = moments.squares / moments.weight2[..., None]
        by_parameter = 1 + (size - 1) * norm2 / mean_square
        signal = norm2.sum(axis=-1)
        coherence = 1 + (size - 1) * signal / mean_square.sum(axis=-1)
        noise = moments.count * (moments.square.sum(axis=-1) / moments.weight**2 - signal)
        rounding = 8 * np.finfo(float).eps * moments.count * mean_square.sum(axis=-1)
        noise = np.where(np.abs(noise) <= rounding, 0.0, noise)
        return {
            "coherence": coherence,
            "alpha": coherence / size,
            "diversity": 1 / coherence,
            "gradient_norm2": signal,
            "noise_trace": noise,
            "noise_scale": np.where(signal > 0, noise / signal, np.nan),
            "gsnr": signal / noise,
        }, by_parameter


def _stderr_of_ratio(
    estimates: dict[str, np.ndarray], replicates: dict[str, np.ndarray], stderrs: dict[str, float]
) -> float:
    """Return the error of the noise scale: NaN where some replicate has none."""
    finite = np.isfinite(replicates["noise_scale"]).all() and np.isfinite(estimates["noise_scale"])
    return stderrs["noise_scale"] if finite else float("nan")


def _status(estimates: dict[str, np.ndarray], stderrs: dict[str, float], sums: GroupSums, used: int) -> tuple[str, str]:
    """Return status and message."""
    if sums.not_finite:
        return "not finite", not_finite_message(sums.not_finite, sums.examples)
    if not np.isfinite(float(estimates["coherence"])):
        return "not finite", "every gradient is exactly zero, and ratios of them do not exist"
    message = f"{sums.examples} examples in {used} groups"
    signal, error, noise = (
        float(estimates["gradient_norm2"]),
        stderrs["gradient_norm2"],
        float(estimates["noise_trace"]),
    )
    highest = signal + 1.96 * error
    bound = f"noise_scale is at least about {noise / highest:.3g}" if highest > 0 else "noise_scale has no bound"
    if not signal > 0:
        return "not converged", (
            f"{message}: the gradient cannot be told from noise (|G|² = {signal:.2g}), {bound}: use more examples"
        )
    if not signal > 1.96 * error and noise > 0:
        message += f": |G|² is within two standard errors of zero, {bound}: use more examples"
    return "complete", message
