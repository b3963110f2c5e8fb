"""Which view draws which kind of result, and which libraries paint.

A new plot is one file under ``views`` and one line here; it then exists in every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pkgutil import resolve_name
from typing import Any

from landscape.errors import InputError
from landscape.plots.sheets import Sheet

#: kind of result -> the function that lays it out
VIEWS = {
    "checkup": "landscape.plots.views.checkup:checkup",
    "conflict": "landscape.plots.views.conflict:conflict",
    "density": "landscape.plots.views.density:density",
    "diagonal": "landscape.plots.views.diagonal:diagonal",
    "eigenpairs": "landscape.plots.views.eigenpairs:eigenpairs",
    "estimate": "landscape.plots.views.estimate:estimate",
    "family": "landscape.plots.views.family:family",
    "gradients": "landscape.plots.views.gradients:gradients",
    "layers": "landscape.plots.views.layers:layers",
    "projection": "landscape.plots.views.projection:projection",
    "recording": "landscape.plots.views.recording:recording",
    "subspace": "landscape.plots.views.subspace:subspace",
    "surface": "landscape.plots.views.surface:surface",
    "trace": "landscape.plots.views.trace:trace",
}

#: backend -> the function that paints a sheet; imported when something is drawn with it
BACKENDS = {
    "matplotlib": "landscape.plots.with_matplotlib:paint",
    "plotly": "landscape.plots.with_plotly:paint",
}


def view(kind: str) -> Callable[..., Sheet]:
    """Return the view of a kind of result."""
    if kind not in VIEWS:
        raise InputError("no plot is known for this kind of result", got=kind, fix=f"kinds are {', '.join(VIEWS)}")
    found: Callable[..., Sheet] = resolve_name(VIEWS[kind])
    return found


def painter(backend: str) -> Callable[[Sheet], Any]:
    """Return the function of ``backend`` that paints a sheet."""
    if backend not in BACKENDS:
        raise InputError("no such drawing backend", got=backend, fix=f"use one of {', '.join(BACKENDS)}")
    found: Callable[[Sheet], Any] = resolve_name(BACKENDS[backend])
    return found


def lay_out(function: Callable[..., Sheet], subject: Any, quantity: str | None, options: dict[str, Any]) -> Sheet:
    """Call a view with ``options``, refusing in words those that it does not have."""
    known = list(signature(function).parameters)[1:]
    if quantity is not None:
        # the second argument of a view that has one is what to draw
        name = next((n for n in known[:1] if n in ("quantity", "metric")), None)
        if name is None:
            raise InputError(
                "this kind of result holds one thing to draw", got=f"quantity={quantity!r}", fix="leave the name out"
            )
        options = {**options, name: quantity}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"{function.__name__} has no such plot option", got=", ".join(unknown), fix=f"it has {', '.join(known)}"
        )
    return function(subject, **options)
