"""``landscape cost``."""

from __future__ import annotations

from typing import Annotated

import typer

from landscape_cli.commands.options import Checkpoint, Target
from landscape_cli.operators import show_costs
from landscape_cli.shell import command
from landscape_cli.target import load_objective


@command
def cost(
    target: Target,
    checkpoint: Checkpoint = None,
    products: Annotated[int, typer.Option(help="How many products.")] = 20,
) -> None:
    """Say what products with each operator will take, from a short trial on the first batch."""
    show_costs(load_objective(target, checkpoint), products)
