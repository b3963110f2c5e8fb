"""The caption of any result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from landscape.errors import InputError
from landscape.plots.captions import spectra, surfaces, training
from landscape.plots.captions.facts import standing, where_from
from landscape.results import Surface
from landscape.results.base import Result

_WORDS: dict[str, Callable[[Any], str]] = {
    "checkup": training.checkup,
    "conflict": training.conflict,
    "density": spectra.density,
    "diagonal": spectra.diagonal,
    "eigenpairs": spectra.eigenpairs,
    "estimate": spectra.estimate,
    "family": spectra.family,
    "gradients": training.gradients,
    "layers": spectra.layers,
    "projection": surfaces.projection,
    "recording": training.recording,
    "subspace": spectra.subspace,
    "surface": surfaces.surface,
    "trace": spectra.trace,
}


def caption(result: Result | Mapping[str, Surface], **options: Any) -> str:
    """Return a caption for a figure of ``result`` (or of named surfaces that are compared).

    It says what is drawn, on which data and in which mode, how sure the numbers are, and how to read it.
    ``options`` are those that the figure was drawn with, such as ``trajectory``.
    """
    if isinstance(result, Mapping):
        return surfaces.comparison(result, options.get("quantity") or options.get("metric"), options.get("kind"))
    if not isinstance(result, Result) or result.kind not in _WORDS:
        raise InputError("no caption is known for this", got=type(result).__name__, fix="pass a result")
    what = _WORDS[result.kind](result)
    if isinstance(result, Surface):
        what = surfaces.surface(result, options.get("quantity"), options.get("kind"), options.get("trajectory"))
    return " ".join(part for part in (what, where_from(result), standing(result)) if part)
