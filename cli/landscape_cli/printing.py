"""How results are printed: a status in words, then the numbers a reader wants first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from landscape.results import EigenResult, Family, Result, TraceResult
from landscape_cli.shell import out, plain

MOST = 40  # rows of a table; the rest is in the file
FIRST = 3  # eigenvalues of each member of a family
LONG = ("known part", "resolved eigenvalues")  # what a line of a family has no room for


def show(result: Result, title: str) -> None:
    """Print a result's status and the few numbers a reader wants first."""
    title += f", by {result.by}" if isinstance(result, Family) else ""
    mark = "[green]✓[/green]" if result.ok else "[yellow]![/yellow]"
    out.print(f"{mark} [bold]{plain(title)}[/bold]  {plain(result.message)}")
    if isinstance(result, EigenResult):
        _eigenpairs(result)
    elif isinstance(result, Family):
        _family(result)
    else:
        _lines(result.summary())


def show_layers(result: Result) -> None:
    """Print what each layer has of a trace, or of each of several side by side."""
    members = result.members if isinstance(result, Family) else {"share": result}
    shares = {name: member.by_layer for name, member in members.items() if isinstance(member, TraceResult)}
    layers = [str(layer) for layer in next(iter(shares.values()))["layer"].to_numpy()]
    columns = [[f"{one['estimate']:.4g} ± {one['stderr']:.2g}" for one in _numbers(share)] for share in shares.values()]
    if len(shares) == 1:
        (share,) = shares.values()
        columns.append([f"[{one['low']:.4g}, {one['high']:.4g}]" for one in _numbers(share)])
    print_table(
        ["layer", *shares, *["95 % interval"][: len(columns) - len(shares)]], zip(layers, *columns, strict=True)
    )


def _numbers(dataset: Any) -> list[dict[str, float]]:
    """Return the rows of a table of numbers."""
    columns = {str(name): values.to_numpy() for name, values in dataset.data_vars.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _lines(summary: Mapping[str, str]) -> None:
    width = max([28, *map(len, summary)])
    for name, text in summary.items():
        out.print(f"  {plain(name):<{width}} {plain(text)}")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text, numbers to the right; the first column is of names."""
    table = Table(box=None, header_style="dim", pad_edge=True)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    every = list(rows)
    for row in every[:MOST]:
        table.add_row(*map(plain, row))
    # as wide as it is: a terminal folds or scrolls what a narrower table would lose
    table.width = out.measure(table, options=out.options.update(max_width=1000)).maximum
    out.print(table)
    if len(every) > MOST:
        out.print(f"  [dim]... and {len(every) - MOST} more[/dim]")


def _eigenpairs(result: EigenResult) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = result.residuals / np.abs(result.values)
    numbers = zip(result.values, result.residuals, relative, result.converged, strict=True)
    print_table(
        ["", "value", "residual", "relative", ""],
        (
            [f"λ{i}", f"{value:.6g}", f"{residual:.1e}", f"{share:.1e}", "converged" if good else "not converged"]
            for i, (value, residual, share, good) in enumerate(numbers, 1)
        ),
    )


def _family(result: Family) -> None:
    rows = {name: _row(member) for name, member in result.members.items()}
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    print_table(
        [result.by, *columns, "status"],
        (
            [name, *(cells.get(column, "") for column in columns), result.members[name].status]
            for name, cells in rows.items()
        ),
    )
    _lines({name: text for name, text in result.summary().items() if name not in rows})


def _row(member: Result) -> dict[str, str]:
    """Return what one line says of a member."""
    if isinstance(member, EigenResult):
        cells = {f"λ{i}": f"{value:.5g}" for i, value in enumerate(member.values[:FIRST], 1)}
        return cells | {
            "converged": f"{member.converged.sum()} of {len(member.values)}", "products": str(member.matvecs)
        }  # fmt: skip
    return {name: text for name, text in member.summary().items() if name not in LONG}
