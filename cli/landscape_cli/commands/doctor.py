"""``landscape doctor``: whether the numbers of an objective can be relied on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import landscape as ls
from landscape.results import Checkup
from landscape_cli.commands.options import OUT, Checkpoint, Operator, Overwrite, Seed, Target, check_free
from landscape_cli.operators import OPERATORS, words_of
from landscape_cli.shell import INTERRUPTED, command, out
from landscape_cli.target import load_objective

FAILED = 1
WIDEST = 110  # columns of the table: longer lines are hard to read
STYLES = {"pass": ("✓", "green"), "warning": ("!", "yellow"), "fail": ("✗", "red")}


@command
def doctor(
    target: Target,
    output: Annotated[Path | None, typer.Option(*OUT, metavar="FILE.nc", help="Write the checkup there, too.")] = None,
    checkpoint: Checkpoint = None,
    operator: Operator = "hessian",
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Check the loss, its data and its products on this very model; exit code 1 if a check fails."""
    if output is not None:
        check_free(output, overwrite, ".nc")
    words = words_of(operator)
    objective = load_objective(target, checkpoint)
    with ls.progress.enabled(not as_json):
        checkup = ls.doctor(objective, operator=OPERATORS[operator][1], seed=seed)
    if output is not None:
        checkup.save(output)
    if as_json:
        rows = [row._asdict() for row in checkup]
        facts = {"status": checkup.status, "message": checkup.message, "checks": rows}
        print(json.dumps({**facts, "provenance": checkup.provenance}, indent=1, ensure_ascii=False))
    else:
        _print(checkup, f"{words} of {objective}")
        if output is not None:
            out.print(f"wrote {output}; draw it with: landscape render {output} -o {output.with_suffix('.png')}")
    if checkup.status == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if not checkup.ok:
        raise typer.Exit(FAILED)


def _print(checkup: Checkup, of: str) -> None:
    """Print a line for each check, its remedy below it, and the sum of all."""
    width = min(out.width, WIDEST)
    out.print(Text(of, style="dim"), width=width, soft_wrap=False)
    out.print()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), width=width)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    said = ""
    for row in checkup:
        mark, style = STYLES[row.verdict]
        words = Text(row.finding, style="dim" if row.finding == said else "")
        if row.remedy and row.finding != said:  # one cause can stop many checks
            words.append(f"\n→ {row.remedy}", style=style)
        said = row.finding
        table.add_row(Text(f"{mark} {row.verdict}", style=f"bold {style}"), Text(row.check, style="bold"), words)
    out.print(table, soft_wrap=False)
    out.print()
    mark, style = STYLES["pass" if checkup.ok else "fail"]
    out.print(Text(f"{mark} {checkup.message}", style=f"bold {style}"))
