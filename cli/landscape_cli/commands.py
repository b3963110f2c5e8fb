"""Every command but the demo: parse, call the public interface, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.results import Result
from landscape_cli.operators import OPERATORS, show_costs
from landscape_cli.operators import operator as operator_named
from landscape_cli.shell import INTERRUPTED, command, out, show
from landscape_cli.target import load_objective

Target = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns an Objective.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights to load into its model (a state dictionary).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are already there.")]
Seed = Annotated[int, typer.Option(help="Seeds every random choice.")]


@command
def surface(
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", help="Result file to write, .nc.")] = Path("surface.nc"),
    checkpoint: Checkpoint = None,
    dimensions: Annotated[int, typer.Option(help="1 for a line, 2 for a plane.")] = 2,
    points: Annotated[int, typer.Option(help="Grid points along each direction.")] = 51,
    span: Annotated[str, typer.Option(help="LOW,HIGH in multiples of the directions.")] = "-1,1",
    metrics: Annotated[str, typer.Option(help="Comma-separated: loss, accuracy, error.")] = "loss",
    normalize: Annotated[str, typer.Option(help="filter, layer or none.")] = "filter",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate the loss on a line or plane of random directions; interrupted work resumes."""
    objective = load_objective(target, checkpoint)
    directions = ls.directions.random(objective, n=dimensions, normalize=normalize, seed=seed)
    result = ls.surface(
        objective, directions, span=_pair(span), points=points, metrics=_words(metrics), out=output, overwrite=overwrite
    )
    _finish(result, "surface", output)


@command
def spectrum(
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", help="Result file to write, .nc.")] = Path("spectrum.nc"),
    checkpoint: Checkpoint = None,
    operator: Annotated[str, typer.Option(help=f"{', '.join(OPERATORS)}.")] = "hessian",
    params: Annotated[str | None, typer.Option(metavar="GLOB", help="Only these parameters, such as 'head.*'.")] = None,
    probes: Annotated[int, typer.Option(help="Random vectors.")] = 8,
    steps: Annotated[int, typer.Option(help="Lanczos steps for each.")] = 80,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Estimate the density of the eigenvalues of the Hessian, or of another operator."""
    _free(output, overwrite)
    words, made = operator_named(operator, load_objective(target, checkpoint), params)
    result = ls.spectral_density(made, probes=probes, steps=steps, seed=seed)
    result.save(output)
    _finish(result, f"spectral density: {words}", output)


@command
def cost(
    target: Target,
    checkpoint: Checkpoint = None,
    products: Annotated[int, typer.Option(help="How many products.")] = 20,
) -> None:
    """Say what products with each operator will take, from a short trial on the first batch."""
    show_costs(load_objective(target, checkpoint), products)


@command
def render(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A result file, or the folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .pdf, .svg or .html.")],
    quantity: Annotated[str | None, typer.Option(help="What to draw, where there are several things.")] = None,
    kind: Annotated[str | None, typer.Option(help="For surfaces: contour, heatmap or surface.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a result file; nothing is computed again."""
    _free(output, overwrite)
    result = ls.load(source)
    ls.plots.render(result, output, quantity=quantity, kind=kind)
    out.print(f"wrote {output}")


@command
def report(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES", help="Result files and folders of runs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, .html.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Loss landscape report",
    overwrite: Overwrite = False,
) -> None:
    """Put results on one self-contained page with interactive plots."""
    _free(output, overwrite)
    results = [ls.load(source) for source in sources]
    ls.report(results, output, title=title, overwrite=overwrite)
    out.print(f"wrote {output}")


@command
def inspect(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A result file, or the folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Say what a result file holds, how sure it is, and what made it."""
    result = ls.load(source)
    if as_json:
        facts = {"kind": result.kind, "status": result.status, "message": result.message}
        print(json.dumps({**facts, "summary": result.summary(), "provenance": result.provenance}, indent=1))
        return
    show(result, f"{result.kind}: {result.status}")
    table = Table("array", "dimensions", "shape", box=None, header_style="dim")
    for name, variable in result.dataset.data_vars.items():
        table.add_row(str(name), ", ".join(map(str, variable.dims)), " x ".join(map(str, variable.shape)))
    out.print(table)
    for name, value in result.provenance.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        out.print(f"  [dim]{name:<12}[/dim] {text}", markup=True)


def _finish(result: Result, title: str, output: Path) -> None:
    show(result, title)
    if result.status == "interrupted":
        # an unfinished surface is kept beside its place; other partial results are results
        written = f"{output} was not written; the same command goes on from here"
        out.print(written if result.kind == "surface" else f"wrote {output}")
        raise typer.Exit(INTERRUPTED)
    out.print(f"wrote {output}; draw it with: landscape render {output} -o {output.with_suffix('.png')}")


def _free(output: Path, overwrite: bool) -> None:
    """Refuse before the work, not after it."""
    if output.exists() and not overwrite:
        raise FileError("the file is already there", got=str(output), fix="pass --overwrite, or another name with -o")
    if not output.parent.is_dir():
        raise FileError("the folder to write into does not exist", got=str(output.parent), fix="create it first")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError("--span must be LOW,HIGH", got=text, fix="write for example --span=-1,1") from None
    return low, high
