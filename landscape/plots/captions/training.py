"""What is said of a training run, of its gradients, and of a checkup."""

from __future__ import annotations

import numpy as np

from landscape.plots.views.recording import notes_of
from landscape.results.checkup import VERDICTS, Checkup
from landscape.results.gradients import GradientConflict, GradientStatistics
from landscape.results.recording import Recording


def recording(result: Recording) -> str:
    """Say what was recorded, and which records are not to be trusted."""
    sizes = result.dataset.sizes
    parts = [f"A training run of {sizes.get('step', 0):,} recorded steps, one panel for each quantity."]
    doubtful = {}
    for metric in result.metrics:
        words = result.dataset[f"{metric}_status"].to_numpy().astype(str)
        bad = int((~np.isin(words, ("converged", "complete", ""))).sum())
        if bad:
            doubtful[metric] = f"{bad} of {len(words)} records of {metric.replace('_', ' ')}"
    if doubtful:
        parts.append(f"Not converged or failed, and drawn hollow: {'; '.join(doubtful.values())}.")
    if "loss" in result.dataset and result.dataset["loss"].dims == ("step",):
        bad_steps = int((~np.isfinite(result.dataset["loss"].to_numpy())).sum())
        if bad_steps:
            parts.append(f"The loss is not finite (NaN or infinite) at {bad_steps} step{'s' if bad_steps > 1 else ''}.")
    if "sharpness" in result.dataset:
        parts.append(
            "Sharpness is the largest curvature of the loss; above the stability threshold (dashed, where it is within "
            "reach) the optimizer's step overshoots."
        )
    if "edge" in result.dataset:
        parts.append(
            "The edge meter ρ is curvature as this optimizer feels it; at 1 training is at the edge of stability."
        )
    apart = [f"{metric.replace('_', ' ')} ({words})" for metric, words in notes_of(result).items()]
    if apart:
        parts.append(f"How single quantities were measured: {'; '.join(apart)}.")
    if sizes.get("step", 0) > 300:
        parts.append("The light lines are single steps and the dark ones a running median of them.")
    return " ".join(parts)


def gradients(result: GradientStatistics) -> str:
    """Say what single examples' gradients have in common."""
    text = result.summary().get("coherence")
    value = f" Coherence over all parameters is {text}." if text else ""
    bad = int((~np.isfinite(result.dataset["estimate"].to_numpy())).sum())
    unknown = f" {bad} quantit{'y is' if bad == 1 else 'ies are'} not finite." if bad else ""
    return (
        f"What the gradients of {result.examples} single examples have in common. Coherence is the number of examples "
        f"that one example's gradient helps, itself included: 1 when the gradients are unrelated, {result.examples} "
        f"when they are all the same.{value} The noise scale is the batch size at which noise and signal of the batch "
        f"gradient are equal. Errors are one standard error (jackknife).{unknown}"
    )


def conflict(result: GradientConflict) -> str:
    """Say how often tasks harm each other, beside what noise gives."""
    unknown = int(np.isnan(result.dataset["cosine_unbiased"].to_numpy()).sum())
    signal = " For some pairs the signal cannot be told from noise." if unknown else ""
    return (
        "Cosines between the mean gradients of tasks: 1 when they agree, 0 when unrelated, below 0 (red) when a step "
        f"for one harms the other. {result.rate:.0%} of the pairs are negative (noise alone gives 50 %), and "
        f"{result.significant_rate:.0%} are negative beyond what noise explains (noise alone gives 2.5 %); those are "
        f"framed.{signal}"
    )


def checkup(result: Checkup) -> str:
    """Say how many checks passed, warned and failed."""
    counts = {verdict: list(result.verdicts.values()).count(verdict) for verdict in VERDICTS}
    return (
        f"What {len(result)} checks of the objective found: {counts['pass']} passed (✓), {counts['warning']} warn of "
        f"something to know before numbers are read (!), {counts['fail']} found what makes numbers wrong (✗). Below a "
        "finding stands what to do about it (→)."
    )
