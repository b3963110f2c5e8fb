"""``landscape spectrum``: the questions asked of an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import landscape as ls
from landscape_cli.commands.options import (
    ByLayer,
    Checkpoints,
    Operator,
    Output,
    Overwrite,
    Params,
    Seed,
    Target,
    check_free,
    finish,
)
from landscape_cli.shell import command
from landscape_cli.subjects import subject


@command
def spectrum(
    target: Target,
    output: Output = Path("spectrum.nc"),
    checkpoint: Checkpoints = None,
    by_layer: ByLayer = False,
    operator: Operator = "hessian",
    params: Params = None,
    probes: Annotated[int, typer.Option(help="Random vectors.")] = 8,
    steps: Annotated[int, typer.Option(help="Lanczos steps for each.")] = 80,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Estimate the density of the eigenvalues of the Hessian, or of another operator."""
    check_free(output, overwrite, ".nc")
    asked = subject(target, checkpoint, operator, params)
    if by_layer:
        asked = asked.by_layer()
    result = asked.ask(ls.spectral_density, probes=probes, steps=steps, seed=seed)
    result.save(output)
    finish(result, f"spectral density: {asked.words}", output)
