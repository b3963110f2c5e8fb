"""What is said of surfaces, alone or compared, and of a path through one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from landscape.plots.captions.facts import standing, where_from
from landscape.results import Projection, Surface


def surface(
    result: Surface, quantity: str | None = None, kind: str | None = None, trajectory: Projection | None = None
) -> str:
    """Say over what the metric is drawn, its range, and where it has no value."""
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


def projection(result: Projection) -> str:
    """Say how much of the path the plane hides."""
    hidden, null = result.hidden_share, result.random_walk_share
    return (
        f"The path of training, {result.dataset.sizes['step']} snapshots, seen in a plane and measured from its final "
        f"point. The plane hides {hidden:.1%} of the squared distances; a pure random walk would hide {null:.1%}, so "
        f"{'the plane shows more than chance would' if hidden < null else 'its shape may be no more than chance'}. "
        "Distances that stay large from the plane mean that the path runs mostly out of sight."
    )


def comparison(surfaces: Mapping[str, Surface], metric: str | None, kind: str | None) -> str:
    """Say what the surfaces share, and where each has no value."""
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
