"""The operators that commands know by name, and the table of what their products cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.table import Table

import landscape as ls
from landscape.curvature import BACKENDS, LinearOperator
from landscape.errors import InputError
from landscape_cli.shell import out, plain

Make = Callable[..., LinearOperator]

#: name on the command line -> (name in words, what makes it of an objective)
OPERATORS: dict[str, tuple[str, Make]] = {
    "hessian": ("Hessian", ls.Hessian),
    "ggn": ("GGN", ls.GGN),
    "fisher": ("Fisher, exact", ls.Fisher),
    "empirical-fisher": ("Fisher, empirical", partial(ls.Fisher, kind="empirical")),
    "gradient-covariance": ("GradientCovariance", ls.GradientCovariance),
}


def words_of(name: str) -> str:
    """Return an operator's name in words; refuse a name that is none."""
    if name not in OPERATORS:
        raise InputError("there is no such operator", got=name, fix=f"use one of {', '.join(OPERATORS)}")
    return OPERATORS[name][0]


def make_operator(name: str, objective: ls.Objective, params: str | None = None) -> LinearOperator:
    """Return an operator by its name on the command line, of some parameters if asked."""
    made = OPERATORS[name][1](objective)
    return made if params is None else made.restrict(params)


def show_costs(objective: ls.Objective, products: int) -> None:
    """Print what products with each operator take, the Hessian's by each backend, and how they are made.

    What is not defined for the loss has a line that says why. Raises what is wrong with all of them.
    """
    table = Table("operator", "backend", "1 product", f"{products} products", box=None, header_style="dim")
    notes: dict[str, list[str]] = {}  # what is said -> of which operators
    errors: list[InputError] = []

    def add(words: str, make: Make, backend: str = "") -> str:
        """Add a line, and return the backend that was used."""
        options = {"backend": backend} if backend else {}
        try:
            one, many = (objective.estimate_cost(make(objective, **options), products=n) for n in (1, products))
        except InputError as error:
            table.add_row(words, backend, "[yellow]not defined[/yellow]", "")
            notes.setdefault(str(error), []).append(words)
            errors.append(error)
            return backend
        used = one.backend.split()[0]
        table.add_row(
            words, used if backend else f"{used} (auto)", *(f"{cost.time}, {cost.memory}" for cost in (one, many))
        )
        notes.setdefault(one.backend, []).append(words)
        return used

    for words, make in OPERATORS.values():
        used = add(words, make)
        if make is ls.Hessian:
            for backend in (name for name in BACKENDS if name != used):
                add(words, make, backend)
    if len(errors) == table.row_count:
        raise errors[0]
    out.print(table)
    for note, names in notes.items():
        out.print(f"  {'; '.join(names)}: [dim]{plain(note)}[/dim]")
