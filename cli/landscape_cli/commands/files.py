"""``landscape render``, ``report`` and ``inspect``: what is done with files, without computing anything again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import landscape as ls
from landscape.results import Family
from landscape_cli.commands.options import OUT, Overwrite, Source, check_free
from landscape_cli.printing import show
from landscape_cli.shell import command, out, plain


@command
def render(
    source: Source,
    output: Annotated[Path, typer.Option(*OUT, help="Picture to write: .png, .pdf, .svg or .html.")],
    quantity: Annotated[str | None, typer.Option(help="What to draw, where there are several things.")] = None,
    kind: Annotated[str | None, typer.Option(help="For surfaces: contour, heatmap or surface.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a result file; nothing is computed again."""
    check_free(output, overwrite)
    result = ls.load(source)
    ls.plots.render(result, output, quantity=quantity, kind=kind)
    out.print(f"wrote {output}")


@command
def report(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES", help="Result files and folders of runs.")],
    output: Annotated[Path, typer.Option(*OUT, help="The page to write, .html.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Loss landscape report",
    overwrite: Overwrite = False,
) -> None:
    """Put results on one self-contained page with interactive plots."""
    check_free(output, overwrite)
    results = [ls.load(source) for source in sources]
    ls.report(results, output, title=title, overwrite=overwrite)
    out.print(f"wrote {output}")


@command
def inspect(
    source: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Say what a result file holds, how sure it is, and what made it."""
    result = ls.load(source)
    if as_json:
        facts = {"kind": result.kind, "status": result.status, "message": result.message}
        print(json.dumps({**facts, "summary": result.summary(), "provenance": result.provenance}, indent=1))
        return
    show(result, f"{result.of if isinstance(result, Family) else result.kind}: {result.status}")
    table = Table("array", "dimensions", "shape", box=None, header_style="dim")
    for name, variable in result.dataset.data_vars.items():
        table.add_row(str(name), ", ".join(map(str, variable.dims)), " x ".join(map(str, variable.shape)))
    out.print(table)
    for name, value in result.provenance.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        out.print(f"  [dim]{name:<12}[/dim] {plain(text)}")
