"""A checkup as a sheet of paper: each check with its verdict, what was found, and what to do."""

from __future__ import annotations

from landscape.plots.sheets import Sheet, Table
from landscape.plots.style import GREEN, ORANGE, VERMILLION, check_size
from landscape.plots.titles import heading
from landscape.results.checkup import Checkup

#: verdict -> its mark, and its colour
MARKS = {"pass": ("✓", GREEN), "warning": ("!", ORANGE), "fail": ("✗", VERMILLION)}
LETTERS = 124


def checkup(result: Checkup, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """List every check: mark and name, what was found, and below it the remedy where there is one."""
    rows = [
        (f"{MARKS[row.verdict][0]} {row.check}", row.finding + (f"\n→ {row.remedy}" if row.remedy else ""))
        for row in result.rows
    ]
    table = Table(rows, letters=LETTERS, colours=[MARKS[row.verdict][1] for row in result.rows])
    good = sum(row.verdict == "pass" for row in result.rows)
    what = f"Checkup: {good} of {len(rows)} passed"
    return Sheet(*heading(result, what, title), [[table]], check_size(size, (11.0, 1.02 + 0.265 * table.height)))
