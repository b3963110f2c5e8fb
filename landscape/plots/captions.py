"""Captions: what is drawn, of what, how sure it is, and how to read it, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.plots.views.eigenpairs import FEW
from landscape.plots.views.family import plural
from landscape.plots.views.recording import notes_of
from landscape.results import (
    DiagonalResult,
    EigenResult,
    Estimate,
    Family,
    LayerCurvature,
    Projection,
    SpectralDensity,
    SubspaceResult,
    Surface,
    TraceResult,
)
from landscape.results.base import Result, number
from landscape.results.checkup import VERDICTS, Checkup
from landscape.results.gradients import GradientConflict, GradientStatistics
from landscape.results.recording import Recording


def caption(result: Result | Mapping[str, Surface], **options: Any) -> str:
    """Return a caption for a figure of ``result`` (or of named surfaces that are compared).

    It says what is drawn, on which data and in which mode, how sure the numbers are, and how to read it.
    ``options`` are those that the figure was drawn with, such as ``trajectory``.
    """
    if isinstance(result, Mapping):
        return _comparison(result, options.get("quantity") or options.get("metric"), options.get("kind"))
    if not isinstance(result, Result) or result.kind not in _WORDS:
        raise InputError("no caption is known for this", got=type(result).__name__, fix="pass a result")
    what = _WORDS[result.kind](result)
    if isinstance(result, Surface):
        what = _surface(result, options.get("quantity"), options.get("kind"), options.get("trajectory"))
    return " ".join(part for part in (what, where_from(result), standing(result)) if part)


def where_from(result: Result) -> str:
    """Return one sentence on data and mode, as far as the provenance knows them."""
    facts = result.provenance
    data: Any = facts.get("data")
    data = data if isinstance(data, dict) else {}
    parts = []
    if data.get("examples") is not None:
        mark = f" (data fingerprint {str(data['fingerprint'])[:12]})" if data.get("fingerprint") else ""
        parts.append(f"on {int(data['examples']):,} examples{mark}")
    if facts.get("mode"):
        parts.append(_MODES.get(str(facts["mode"]), f"in {facts['mode']} mode"))
    if facts.get("dtype"):
        parts.append(f"in {str(facts['dtype']).removeprefix('torch.')}")
    return f"Computed {', '.join(parts)}." if parts else ""


def standing(result: Result) -> str:
    """Return what is wrong with the result, in words; nothing when all is well."""
    if result.ok:
        return ""
    message = f": {result.message.rstrip('.')}" if result.message else ""
    return f"Status: {result.status}{message}."


_MODES = {
    "eval": "with the network in evaluation mode",
    "train": "with the network in training mode (batch statistics and fixed dropout masks)",
}


def _eigenpairs(result: EigenResult) -> str:
    count, open_ = len(result.values), int((~result.converged).sum())
    if count == 1:
        return (
            f"One eigenvalue of the {result.provenance.get('operator', 'operator')}, the curvature of the loss along "
            "one direction: large is steep, negative bends downwards. An exact eigenvalue lies within its residual of "
            f"it ({np.max(result.residuals):.2g}). It has {'not ' if open_ else ''}converged."
        )
    seen = "in red" if count <= FEW else "hollow"
    sure = (
        "All of them have converged."
        if open_ == 0
        else f"{open_} of them {'has' if open_ == 1 else 'have'} not converged ({seen})."
    )
    return (
        f"{count} eigenvalues of the {result.provenance.get('operator', 'operator')}, each the curvature of the loss "
        f"along one direction: large is steep, negative bends downwards. The bar of each is its residual: an exact "
        f"eigenvalue lies within it (the largest residual is {np.max(result.residuals):.2g}). {sure}"
    )


def _trace(result: TraceResult) -> str:
    probes, function = result.dataset.sizes["probe"], str(result.dataset.attrs["function"])
    what = "The trace" if function == "identity" else f"The trace of the operator's {function}"
    count = f"{int(result.dataset.attrs['n']):,}"
    what += f", the sum of {f'all {count} eigenvalues' if function == 'identity' else f'it over {count} eigenvalues'},"
    parts = "Right: how much each parameter tensor contributes, with 95 % intervals; contributions add up to the trace."
    if probes == 0:
        return f"{what} was computed entry by entry: {number(result.estimate)}. {parts}"
    sure = "one probe gives no error bar"
    if probes > 1:
        low, high = (_digits(end, result.stderr) for end in result.interval())
        sure = f"the 95 % interval is [{low}, {high}]"
    known = f" A part of {result.known:.4g} is known without error; the rest is estimated." if result.known else ""
    bias = f" The interval includes {result.bias:.2g} for the error of the quadrature." if result.bias else ""
    return (
        f"{what} is estimated as {number(result.estimate, result.stderr)} from {probes} random "
        f"probe{'s' if probes > 1 else ''} ({result.method}); {sure}.{known}{bias} "
        "Left: the estimate after each further probe, with its 95 % interval, which should narrow and stay level. "
        + parts
    )


def _diagonal(result: DiagonalResult) -> str:
    error = result.relative_error
    sure = (
        "every one computed"
        if error == 0
        else f"estimated ({result.method}); the error of all together is {error:.2g} of their size, in root mean square"
    )
    return (
        f"The {result.dataset.sizes['entry']:,} diagonal entries, each the curvature of the loss along one parameter: "
        f"{sure}. Left: the entries in order of size, with the 95 % interval of each. Right: the mean entry of each "
        "parameter tensor, with 95 % intervals."
    )


def _estimate(result: Estimate) -> str:
    low, high = result.interval()
    probes = result.dataset.sizes["probe"]
    return (
        f"The {result.name}, {result.dataset.attrs['definition']}, is {number(result.estimate, result.stderr)} with "
        f"the 95 % interval [{low:.5g}, {high:.5g}], from {probes} random probes ({result.method}). The curve is the "
        "estimate after each further probe, with its 95 % interval, which should narrow and stay level."
    )


def _digits(value: float, error: float) -> str:
    """Return ``value`` with as many digits as it would have beside its standard error."""
    return number(value, error).split(" ± ")[0]


def _density(result: SpectralDensity) -> str:
    probes = result.dataset.sizes["probe"]
    band = "the bands are pointwise 95 % intervals over probes" if probes > 1 else "one probe gives no error bar"
    return (
        f"How the {result.n:,} eigenvalues are distributed, from {probes} random "
        f"probe{'s' if probes > 1 else ''} ({result.matvecs} matrix-vector products); {band}. "
        "Above: the density, smoothed, on a logarithmic scale. "
        f"{_resolved(result)}"
        "Below: the share of eigenvalues at or below each value, which needs no bandwidth. "
        "Where the horizontal axis is linear in the middle and logarithmic beyond, as its label then says, areas "
        "cannot be compared by eye; compare the shares below."
    )


def _resolved(result: SpectralDensity) -> str:
    """Return what is said of single eigenvalues and of outliers."""
    words = []
    if result.atoms.count:
        words.append(
            f"Stems are {result.atoms.count} eigenvalues that every probe has resolved, of share 1/n each; their "
            "height is that of one eigenvalue smoothed like the others. "
        )
    for end in ("upper", "lower"):
        found = result.outliers(end)
        if found.count is not None:
            words.append(
                f"At the {end} end {found.count} stand apart: so wide a gap has a chance of {found.chance:.1g} "
                "in a spectrum without outliers. "
            )
    return "".join(words)


def _surface(
    result: Surface, quantity: str | None = None, kind: str | None = None, trajectory: Projection | None = None
) -> str:
    metric = quantity or result.metrics[0]
    shown = [metric] if quantity or "y" in result.dataset.dims else result.metrics
    plane = "y" in result.dataset.dims
    centre = result.centre.get(metric, float("nan"))
    shape = " by ".join(str(result.dataset.sizes[dim]) for dim in result.dataset["evaluated"].dims)
    values = result.dataset[metric].to_numpy()
    finite = values[np.isfinite(values)]
    span = f", from {finite.min():.4g} to {finite.max():.4g}" if len(finite) else ", nowhere finite"
    how = (
        "Contours close together mean that it changes fast; a slice shows two of very many directions."
        if plane
        else "A line shows one of very many directions."
    )
    if plane and kind == "surface":
        how = "Height and colour are the value; a slice shows two of very many directions."
    unit = " One unit is the length of a direction, as normalised."
    if trajectory is not None:
        unit = f"{_overlay(trajectory)}{unit}"
    return (
        f"{', '.join(shown).capitalize()} at {shape} points {'of a plane' if plane else 'on a line'} through "
        f"parameter space ({metric}: {centre:.5g} at the centre{span}). {how}{unit}{_holes(result)}"
    )


def _overlay(trajectory: Projection) -> str:
    steps = trajectory.dataset["step"].to_numpy()
    return (
        f" The line is the path of training from step {steps[0]} (circle) to step {steps[-1]} (square), as far as the "
        f"plane shows it: {trajectory.hidden_share:.1%} of its squared distances lie outside the plane, so the "
        "colours under it are the plane's and not the losses that training had."
    )


def _holes(result: Surface) -> str:
    evaluated = result.dataset["evaluated"].to_numpy().astype(bool)
    words = []
    for metric in result.metrics:
        bad = int((evaluated & ~np.isfinite(result.dataset[metric].to_numpy())).sum())
        if bad:
            words.append(f"{metric} is not finite (NaN or infinite) at {bad} point{'s' if bad > 1 else ''}")
    if not evaluated.all():
        left = int((~evaluated).sum())
        words.append(f"{left} point{'s were' if left > 1 else ' was'} not evaluated")
    sentence = "; ".join(words)
    return f" {sentence[:1].upper()}{sentence[1:]}." if words else ""


def _projection(result: Projection) -> str:
    hidden, null = result.hidden_share, result.random_walk_share
    return (
        f"The path of training, {result.dataset.sizes['step']} snapshots, seen in a plane and measured from its final "
        f"point. The plane hides {hidden:.1%} of the squared distances; a pure random walk would hide {null:.1%}, so "
        f"{'the plane shows more than chance would' if hidden < null else 'its shape may be no more than chance'}. "
        "Distances that stay large from the plane mean that the path runs mostly out of sight."
    )


def _gradients(result: GradientStatistics) -> str:
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


def _checkup(result: Checkup) -> str:
    counts = {verdict: list(result.verdicts.values()).count(verdict) for verdict in VERDICTS}
    return (
        f"What {len(result)} checks of the objective found: {counts['pass']} passed (✓), {counts['warning']} warn of "
        f"something to know before numbers are read (!), {counts['fail']} found what makes numbers wrong (✗). Below a "
        "finding stands what to do about it (→)."
    )


def _conflict(result: GradientConflict) -> str:
    unknown = int(np.isnan(result.dataset["cosine_unbiased"].to_numpy()).sum())
    signal = " For some pairs the signal cannot be told from noise." if unknown else ""
    return (
        "Cosines between the mean gradients of tasks: 1 when they agree, 0 when unrelated, below 0 (red) when a step "
        f"for one harms the other. {result.rate:.0%} of the pairs are negative (noise alone gives 50 %), and "
        f"{result.significant_rate:.0%} are negative beyond what noise explains (noise alone gives 2.5 %); those are "
        f"framed.{signal}"
    )


def _recording(result: Recording) -> str:
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


def _comparison(surfaces: Mapping[str, Surface], metric: str | None, kind: str | None) -> str:
    first = next(iter(surfaces.values()))
    metric = metric or first.metrics[0]
    centres = ", ".join(f"{name}: {result.centre.get(metric, float('nan')):.5g}" for name, result in surfaces.items())
    seen = "colours and heights" if kind == "surface" else "colours"
    parts = [
        f"{len(surfaces)} surfaces on one scale, so that equal {seen} are equal values of {metric} "
        f"(at the centre: {centres})."
    ]
    if len({str(result.directions.get("normalize")) for result in surfaces.values()}) > 1:
        parts.append("The directions were normalised differently, so widths cannot be compared.")
    for name, result in surfaces.items():
        words = f"{_holes(result)} {standing(result)}".strip()
        if words:
            parts.append(f"{name}: {words}")
    return " ".join([*parts, where_from(first)]).strip()


def _family(result: Family) -> str:
    whose = f"{len(result)} {plural(result.by, len(result))}, in the order given"
    words = {
        "eigenpairs": f"Eigenvalues of {whose}. The bar of each is its residual: an exact eigenvalue lies within it. "
        "Those not converged are red or hollow.",
        "density": f"How the eigenvalues of {whose}, are distributed. Above: the density, smoothed, on a logarithmic "
        "scale. Below: the share of eigenvalues at or below each value.",
    }
    others = f"The same question asked of {whose}, with 95 % intervals where the answer is a number."
    open_ = "; ".join(f"{name}: {member.status}" for name, member in result.members.items() if not member.ok)
    found = words.get(result.of, others)
    return f"{found} Not the whole answer: {open_}." if open_ else found


def _layers(result: LayerCurvature) -> str:
    seen = f"a share of {number(1 - result.missed, result.missed_stderr)}"
    return (
        f"Left: the top eigenvalues of each of {len(result)} blocks, in the order of the network; the bars are their "
        f"residuals. Right: between which blocks the curvature lies. Of the squared entries of the matrix, {seen} lie "
        "within blocks; what lies outside is coupling that no block on its own can see."
    )


def _subspace(result: SubspaceResult) -> str:
    low, high = result.chance()
    chance = (
        f"A random subspace of {result.k} of {result.n:,} dimensions gives {result.baseline:.3g} on average, and "
        f"{low:.3g} to {high:.3g} in 95 % of cases."
    )
    if "share" in result.dataset:
        return f"The share of a vector's squared length that lies inside a subspace: 1 when it lies within. {chance}"
    return (
        "How much subspaces have in common, the mean squared cosine of their principal angles: 1 when they are the "
        f"same, 0 when they are orthogonal. {chance}"
    )


_WORDS: dict[str, Callable[[Any], str]] = {
    "checkup": _checkup,
    "conflict": _conflict,
    "density": _density,
    "diagonal": _diagonal,
    "eigenpairs": _eigenpairs,
    "estimate": _estimate,
    "family": _family,
    "gradients": _gradients,
    "layers": _layers,
    "projection": _projection,
    "recording": _recording,
    "subspace": _subspace,
    "surface": _surface,
    "trace": _trace,
}
