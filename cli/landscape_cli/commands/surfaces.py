"""``landscape surface``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import landscape as ls
from landscape_cli.commands.options import (
    Checkpoint,
    Output,
    Overwrite,
    Seed,
    Target,
    check_free,
    finish,
    pair,
    resumable,
    words,
)
from landscape_cli.printing import show
from landscape_cli.shell import command
from landscape_cli.target import load_objective


@command
def surface(
    target: Target,
    output: Output = Path("surface.nc"),
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
    check_free(output, overwrite, ".nc")
    objective = load_objective(target, checkpoint)
    directions = ls.directions.random(objective, n=dimensions, normalize=normalize, seed=seed)
    with resumable(output):
        result = ls.surface(
            objective,
            directions,
            span=pair(span, "--span"),
            points=points,
            metrics=words(metrics),
            out=output,
            overwrite=overwrite,
        )
    show(result, "surface")
    finish(result, output)
