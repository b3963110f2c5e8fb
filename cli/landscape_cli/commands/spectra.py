"""``landscape eigs``, ``trace`` and ``spectrum``: the questions asked of an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import landscape as ls
from landscape.errors import InputError
from landscape.results import Result
from landscape_cli.commands.options import (
    ByClass,
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
    resumable,
)
from landscape_cli.printing import show, show_layers
from landscape_cli.shell import command
from landscape_cli.subjects import subject


@command
def eigs(
    target: Target,
    output: Output = Path("eigs.nc"),
    checkpoint: Checkpoints = None,
    by_layer: ByLayer = False,
    by_class: ByClass = False,
    operator: Operator = "hessian",
    params: Params = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-k", help="How many eigenpairs: 10; with --by-layer 1 of each layer, and of all."),
    ] = None,
    which: Annotated[str, typer.Option(help="LA largest, SA smallest, LM largest magnitude, BE both ends.")] = "LA",
    sigma: Annotated[float | None, typer.Option(help="With --which LM: the values nearest to this one.")] = None,
    tol: Annotated[float | None, typer.Option(help="Relative residual of a converged pair.")] = None,
    max_products: Annotated[int, typer.Option(help="Most products to make (max_matvecs).")] = 1000,
    basis: Annotated[int | None, typer.Option(help="Most vectors to hold: 3 k + 30.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Find eigenvalues of the Hessian, or of another operator, with true residuals."""
    check_free(output, overwrite, ".nc")
    asked = subject(target, checkpoint, operator, params, by_class)
    options: dict[str, Any] = {"which": which, "tol": tol, "max_matvecs": max_products, "basis": basis, "seed": seed}
    result: Result
    with resumable(output):
        if by_layer:
            if sigma is not None:
                raise InputError("--by-layer has no --sigma", got=sigma, fix="leave one of them out")
            whole = asked.one("--by-layer")
            result = ls.eigsh_by_layer(whole, 1 if count is None else count, out=output, overwrite=overwrite, **options)
        else:
            options |= {"k": 10 if count is None else count} | ({} if sigma is None else {"sigma": sigma})
            result = asked.ask(ls.eigsh, out=output, overwrite=overwrite, **options)
    show(result, f"eigenvalues: {asked.words}")
    finish(result, output)


@command
def trace(
    target: Target,
    output: Output = Path("trace.nc"),
    checkpoint: Checkpoints = None,
    by_layer: ByLayer = False,
    by_class: ByClass = False,
    operator: Operator = "hessian",
    params: Params = None,
    rtol: Annotated[float | None, typer.Option(help="Half the 95 % interval, relative to the trace.  [0.02]")] = None,
    products: Annotated[int | None, typer.Option(help="So many products instead.")] = None,
    max_products: Annotated[int, typer.Option(help="Most products to make for --rtol.")] = 1000,
    method: Annotated[str, typer.Option(help="auto, hutchinson, hutch++, xtrace, deflated or exact.")] = "auto",
    function: Annotated[str | None, typer.Option(help="Of the eigenvalues: log, square or cube.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Estimate the trace of the Hessian, or of another operator, with an interval."""
    check_free(output, overwrite, ".nc")
    if rtol is not None and products is not None:
        raise InputError("--rtol and --products are two ways to say when to stop", got="both", fix="pass one of them")
    asked = subject(target, checkpoint, operator, params, by_class)
    with resumable(output):
        result = asked.ask(ls.trace, rtol=0.02 if rtol is None else rtol, products=products, max_products=max_products,
                           method=method, function=function, seed=seed, out=output, overwrite=overwrite)  # fmt: skip
    show(result, f"trace: {asked.words}")
    if by_layer:
        show_layers(result)
    finish(result, output)


@command
def spectrum(
    target: Target,
    output: Output = Path("spectrum.nc"),
    checkpoint: Checkpoints = None,
    by_layer: ByLayer = False,
    by_class: ByClass = False,
    operator: Operator = "hessian",
    params: Params = None,
    probes: Annotated[int, typer.Option(help="Random vectors.")] = 8,
    steps: Annotated[int, typer.Option(help="Lanczos steps for each.")] = 80,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Estimate the density of the eigenvalues of the Hessian, or of another operator."""
    check_free(output, overwrite, ".nc")
    asked = subject(target, checkpoint, operator, params, by_class)
    if by_layer:
        asked = asked.by_layer()
    with resumable(output):
        result = asked.ask(ls.spectral_density, probes=probes, steps=steps, seed=seed, out=output,
                           overwrite=overwrite)  # fmt: skip
    show(result, f"spectral density: {asked.words}")
    finish(result, output)
