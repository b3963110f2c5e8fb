"""What is said of eigenvalues, traces, densities, and of many of them side by side."""

from __future__ import annotations

import numpy as np

from landscape.plots.views.densities import BANDS, CURVES
from landscape.plots.views.eigenpairs import FEW
from landscape.plots.views.family import plural
from landscape.results import (
    DiagonalResult,
    EigenResult,
    Estimate,
    Family,
    LayerCurvature,
    SpectralDensity,
    SubspaceResult,
    TraceResult,
)
from landscape.results.base import number

ENDS = "end where their curve falls below the axis"


def eigenpairs(result: EigenResult) -> str:
    """Say what eigenvalues are, and how near exact ones lie."""
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


def trace(result: TraceResult) -> str:
    """Say what the trace is, how sure, and how its panels are read."""
    probes, function = result.dataset.sizes["probe"], str(result.dataset.attrs["function"])
    what = "The trace" if function == "identity" else f"The trace of the operator's {function}"
    count = f"{int(result.dataset.attrs['n']):,}"
    what += f", the sum of {f'all {count} eigenvalues' if function == 'identity' else f'it over {count} eigenvalues'},"
    parts = "how much each parameter tensor contributes{}; contributions add up to the trace."
    if probes == 0:
        alone = parts.format("")
        return f"{what} was computed entry by entry: {number(result.estimate)}. The bars are {alone}"
    sure, panels = "one probe gives no error bar", f"The bars are {parts.format('')}"
    if probes > 1:
        low, high = (_digits(end, result.stderr) for end in result.interval())
        sure = f"the 95 % interval is [{low}, {high}]"
        panels = (
            "Left: the estimate after each further probe, with its 95 % interval, which should narrow and stay level. "
            f"Right: {parts.format(', with 95 % intervals')}"
        )
    known = f" A part of {result.known:.4g} is known without error; the rest is estimated." if result.known else ""
    bias = f" The interval includes {result.bias:.2g} for the error of the quadrature." if result.bias else ""
    return (
        f"{what} is estimated as {number(result.estimate, result.stderr)} from {probes} random "
        f"probe{'s' if probes > 1 else ''} ({result.method}); {sure}.{known}{bias} {panels}"
    )


def diagonal(result: DiagonalResult) -> str:
    """Say how well the entries of the diagonal are known."""
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


def estimate(result: Estimate) -> str:
    """Say what the number is, and how it settled."""
    low, high = result.interval()
    probes = result.dataset.sizes["probe"]
    found = f"The {result.name}, {result.dataset.attrs['definition']}, is {number(result.estimate, result.stderr)}"
    if probes == 0:
        return f"{found}, computed without random probes ({result.method})."
    found += f" with the 95 % interval [{low:.5g}, {high:.5g}], from {probes} random "
    if probes == 1:
        return f"{found}probe ({result.method})."
    return (
        f"{found}probes ({result.method}). The curve is the estimate after each further probe, with its 95 % interval, "
        "which should narrow and stay level."
    )


def _digits(value: float, error: float) -> str:
    """Return ``value`` with as many digits as it would have beside its standard error."""
    return number(value, error).split(" ± ")[0]


def density(result: SpectralDensity) -> str:
    """Say how the eigenvalues are distributed, and what the two panels show."""
    probes = result.dataset.sizes["probe"]
    band = "one probe gives no error bar"
    if probes > 1:
        band = f"the bands are pointwise 95 % intervals over probes, and {ENDS}"
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
        stems = (
            "The stem is one eigenvalue" if result.atoms.count == 1 else f"Stems are {result.atoms.count} eigenvalues"
        )
        words.append(
            f"{stems} that every probe has resolved, of share 1/n each; the height is that of one eigenvalue smoothed "
            "like the others. "
        )
    for end in ("upper", "lower"):
        found = result.outliers(end)
        if found.count is not None:
            words.append(
                f"At the {end} end {found.count} {'stands' if found.count == 1 else 'stand'} apart: "
                f"so wide a gap has a chance of {found.chance:.1g} "
                "in a spectrum without outliers. "
            )
    return "".join(words)


def family(result: Family) -> str:
    """Say what each member was asked, and which of them have no whole answer."""
    whose = f"{len(result)} {plural(result.by, len(result))}, in the order given"
    found = f"The same question asked of {whose}, with 95 % intervals where the answer is a number."
    if result.of == "eigenpairs":
        found = (
            f"Eigenvalues of {whose}. The error bar of each is its residual: an exact eigenvalue lies within it. Those "
            "not converged are red or hollow."
        )
    elif result.of == "density":
        found = (
            f"How the eigenvalues of {whose}, are distributed. {_above(result)} Below: the share of eigenvalues at or "
            "below each value."
        )
    open_ = "; ".join(f"{name}: {member.status}" for name, member in result.members.items() if not member.ok)
    return f"{found} Not the whole answer: {open_}." if open_ else found


def _above(result: Family) -> str:
    """Return how the upper panel of densities is read."""
    if len(result) > CURVES:
        return "Above: the density of each in a row, smoothed; colours are its logarithm."
    alone = " Dots are eigenvalues that every probe has resolved, of share 1/n each."
    bands = f" Bands are pointwise 95 % intervals over probes, and {ENDS}." if len(result) <= BANDS else ""
    counts = [member.atoms.count for member in result.members.values()]
    return f"Above: the density, smoothed, on a logarithmic scale.{alone if any(counts) else ''}{bands}"


def layers(result: LayerCurvature) -> str:
    """Say what each block sees of the curvature, and what none of them sees."""
    seen = f"a share of {number(1 - result.missed, result.missed_stderr)}"
    return (
        f"Left: the top eigenvalues of each of {len(result)} blocks, in the order of the network; the bars are their "
        f"residuals. Right: between which blocks the curvature lies. Of the squared entries of the matrix, {seen} lie "
        "within blocks; what lies outside is coupling that no block on its own can see."
    )


def subspace(result: SubspaceResult) -> str:
    """Say how much subspaces have in common, beside what chance gives."""
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
