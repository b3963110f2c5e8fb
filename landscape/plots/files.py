"""Pictures as files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.plots.drawing import compare, draw
from landscape.results.base import Result
from landscape.results.files import whole_file

#: suffix -> the backend that writes it
SUFFIXES = {".png": "matplotlib", ".pdf": "matplotlib", ".svg": "matplotlib", ".html": "plotly"}


def render(
    result: Result | Mapping[str, Any],
    path: str | Path,
    *,
    quantity: str | None = None,
    kind: str | None = None,
    dpi: int = 200,
    **options: Any,
) -> Path:
    """Write a picture of ``result`` to ``path`` and return the path.

    Parameters
    ----------
    result : Result or dict of str to Surface
        What to draw; named surfaces are compared on one scale.
    path : path
        Ends in ``.png``, ``.pdf`` or ``.svg`` (matplotlib), or ``.html`` (plotly, one file that needs no
        network).
    quantity : str, optional
        What to draw, where the result holds several things.
    kind : str, optional
        How a surface is drawn: "contour", "heatmap" or "surface".
    dpi : int
        Dots per inch of a ``.png``.
    **options
        As in :func:`landscape.plots.draw`.
    """
    target = Path(path)
    backend = SUFFIXES.get(target.suffix.lower())
    if backend is None:
        raise InputError(
            "the ending of the file says how to draw, and this one is not known",
            got=target.name,
            fix=f"use one of {', '.join(SUFFIXES)}",
        )
    if isinstance(dpi, bool) or not isinstance(dpi, int) or not 20 <= dpi <= 2400:
        raise InputError("dpi must be a whole number from 20 to 2400", got=dpi, fix="pass for example dpi=200")
    if kind is not None:
        options["kind"] = kind
    function: Any = compare if isinstance(result, Mapping) else draw
    with whole_file(target) as aside:
        figure = function(result, quantity, backend=backend, **options)
        if backend == "plotly":
            page = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
            kind_of_page = "" if page.lower().startswith("<!doctype") else "<!DOCTYPE html>\n"
            aside.write_text(kind_of_page + page, encoding="utf-8")
        else:
            figure.savefig(aside, format=target.suffix.lower()[1:], dpi=dpi)
    return target
