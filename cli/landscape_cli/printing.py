"""How results are printed: a status in words, then the numbers a reader wants first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.table import Table

from landscape.results import EigenResult, Family, Result
from landscape_cli.shell import out, plain

MOST = 40  # rows of a table; the rest is in the file
FIRST = 3  # eigenvalues of each member of a family


def show(result: Result, title: str) -> None:
    """Print a result's status and the few numbers a reader wants first."""
    mark = "[green]✓[/green]" if result.ok else "[yellow]![/yellow]"
    out.print(f"{mark} [bold]{plain(title)}[/bold]  {plain(result.message)}")
    if isinstance(result, EigenResult):
        _eigenpairs(result)
    elif isinstance(result, Family):
        _family(result)
    else:
        for name, text in result.summary().items():
            out.print(f"  {name:<28} {plain(text)}")


def print_table(header: list[str], rows: Iterable[list[str]]) -> None:
    """Print rows of text, numbers to the right; the first column is of names."""
    table = Table(box=None, header_style="dim", pad_edge=True)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    every = list(rows)
    for row in every[:MOST]:
        table.add_row(*map(plain, row))
    out.print(table)
    if len(every) > MOST:
        out.print(f"  [dim]... and {len(every) - MOST} more[/dim]")


def _eigenpairs(result: EigenResult) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = result.residuals / np.abs(result.values)
    print_table(
        ["", "value", "residual", "relative", ""],
        (
            [f"λ{i + 1}", f"{value:.6g}", f"{residual:.1e}", f"{share:.1e}", "converged" if good else "not converged"]
            for i, (value, residual, share, good) in enumerate(
                zip(result.values, result.residuals, relative, result.converged, strict=True)
            )
        ),
    )


def _family(result: Family) -> None:
    found = {name: _row(member) for name, member in result.members.items()}
    header = list(dict.fromkeys(column for cells in found.values() for column in cells))
    statuses = {name: member.status for name, member in result.members.items()}
    print_table(
        [result.by, *header, "status"],
        ([name, *(cells.get(column, "") for column in header), statuses[name]] for name, cells in found.items()),
    )


def _row(member: Result) -> dict[str, str]:
    """Return what one line says of a member."""
    if not isinstance(member, EigenResult):
        return member.summary()
    first = {f"λ{i + 1}": f"{value:.5g}" for i, value in enumerate(member.values[:FIRST])}
    return first | {
        "converged": f"{int(member.converged.sum())} of {len(member.values)}",
        "products": str(member.matvecs),
    }
