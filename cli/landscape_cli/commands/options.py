"""The options that several commands share, and where they may write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from landscape.errors import FileError, InputError
from landscape.results import Result
from landscape_cli.operators import OPERATORS
from landscape_cli.shell import INTERRUPTED, out

OUT = ("--out", "-o", "--output")

Target = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns an Objective.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights to load into its model (a state dictionary).")]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        metavar="PATH|GLOB",
        help="Weights to load into its model; a quoted glob, or the option again, for one answer each.",
    ),
]
Operator = Annotated[str, typer.Option(help=f"{', '.join(OPERATORS)}.")]
Params = Annotated[str | None, typer.Option(metavar="GLOB", help="Only these parameters, such as 'head.*'.")]
ByLayer = Annotated[bool, typer.Option("--by-layer", help="One answer for each layer.")]
ByClass = Annotated[bool, typer.Option("--by-class", help="One answer for the examples of each class.")]
Seed = Annotated[int, typer.Option(help="Seeds every random choice.")]
Output = Annotated[Path, typer.Option(*OUT, metavar="FILE.nc", help="Result file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are already there.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A result file, or the folder of a run.")]


def check_free(output: Path, overwrite: bool, suffix: str = "") -> None:
    """Refuse a place to write to before the work, not after it."""
    if suffix and output.suffix != suffix:
        raise FileError(
            "results are saved as netCDF files", got=str(output), fix=f"pass --out {output.with_suffix(suffix)}"
        )
    if output.exists() and not overwrite:
        raise FileError(
            "the file is already there", got=str(output), fix="pass --overwrite, or another name with --out"
        )
    if not output.parent.is_dir():
        raise FileError("the folder to write into does not exist", got=str(output.parent), fix="create it first")


@contextmanager
def resumable(output: Path) -> Iterator[None]:
    """Say how to go on where Ctrl-C comes before there is anything to show."""
    try:
        yield
    except KeyboardInterrupt:
        out.print(f"[yellow]![/yellow] stopped by Ctrl-C; {_goes_on(output)}")
        raise typer.Exit(INTERRUPTED) from None


def finish(result: Result, output: Path) -> None:
    """Say where the result lies; one that Ctrl-C stopped ends with the exit code of that."""
    if result.status == "interrupted":
        out.print(_goes_on(output))
        raise typer.Exit(INTERRUPTED)
    out.print(f"wrote {output}; draw it with: landscape render {output} -o {output.with_suffix('.png')}")


def _goes_on(output: Path) -> str:
    return f"{output} was not written; the same command goes on from here"


def words(text: str) -> list[str]:
    """Return the words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def pair(text: str, option: str) -> tuple[float, float]:
    """Return LOW,HIGH as numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} must be LOW,HIGH", got=text, fix=f"write for example {option}=-1,1") from None
    return low, high
