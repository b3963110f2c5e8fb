"""Draw one result, or several surfaces on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from landscape.errors import InputError
from landscape.plots.registry import lay_out, painter, view
from landscape.results.base import Result

if TYPE_CHECKING:
    from landscape.plots.sheets import Sheet
    from landscape.results import Surface


def draw(result: Result, quantity: str | None = None, *, backend: str = "matplotlib", **options: Any) -> Any:
    """Draw a result and return the figure.

    Parameters
    ----------
    result : Result
        Any result of this package, computed or loaded.
    quantity : str, optional
        What to draw, where the result holds several things (a metric of a run, of a surface).
    backend : {"matplotlib", "plotly"}
        Which library draws. Both show the same.
    **options
        ``title``, ``size`` (inches), and those of the result's kind: a surface has ``kind``, ``limits``,
        ``levels``, ``log`` and ``trajectory``; a trace and gradient statistics ``top``; a density ``width``.

    Returns
    -------
    matplotlib.figure.Figure or plotly.graph_objects.Figure
        The matplotlib figure is not registered with pyplot; save it with ``savefig``.

    Examples
    --------
    >>> surf.plot(backend="plotly", kind="surface")  # the same as draw(surf, ...)
    """
    if not isinstance(result, Result):
        raise InputError("only results can be drawn", got=type(result).__name__, fix="pass what a computation returned")
    paint = painter(backend)
    return paint(sheet_of(result, quantity, options))


def sheet_of(subject: Result | Mapping[str, Surface], quantity: str | None, options: dict[str, Any]) -> Sheet:
    """Lay a result, or named surfaces that are compared, out as a sheet of panels."""
    if isinstance(subject, Result):
        return lay_out(view(subject.kind), subject, quantity, options)
    from landscape.plots.views.compare import comparison

    return lay_out(comparison, subject, quantity, options)


def compare(
    surfaces: Mapping[str, Surface], metric: str | None = None, *, backend: str = "matplotlib", **options: Any
) -> Any:
    """Draw several surfaces with one colour scale and the same levels, so that they can be compared.

    Parameters
    ----------
    surfaces : dict of str to Surface
        Named surfaces, all over one direction or all over two.
    metric : str, optional
        Which metric; the first one by default.
    backend : {"matplotlib", "plotly"}
        Which library draws.
    **options
        ``kind`` ("contour", "heatmap" or "surface"), ``limits``, ``levels``, ``log``, ``columns``, ``title``, ``size``.
    """
    if isinstance(surfaces, Result):
        raise InputError("a comparison needs named surfaces", got="one result", fix="pass a dictionary of surfaces")
    paint = painter(backend)
    return paint(sheet_of(surfaces, metric, options))
