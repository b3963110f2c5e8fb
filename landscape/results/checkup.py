"""What was found when an objective was looked over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from landscape.errors import InputError
from landscape.results.base import Result

#: Every verdict that a check can give, from good to bad.
VERDICTS = ("pass", "warning", "fail")


class Row(NamedTuple):
    """One check: its name, one of ``VERDICTS``, what was found, and what to do where something was."""

    check: str
    verdict: str
    finding: str
    remedy: str = ""


class Checkup(Result):
    """Checks of an objective and of its operator, one row each.

    The status is ``"complete"`` when no check failed, so ``ok`` says whether numbers of this objective can be
    relied on. ``checkup["symmetry"]`` is one row, and a checkup iterates over all of them.
    """

    kind = "checkup"

    @classmethod
    def make(cls, rows: Sequence[Row], *, interrupted: bool = False, provenance: dict[str, Any]) -> Checkup:
        """Label the rows, in the order in which they were found."""
        unknown = [row.verdict for row in rows if row.verdict not in VERDICTS]
        if unknown:
            raise InputError("a verdict must be a known one", got=unknown[0], fix=f"use one of {', '.join(VERDICTS)}")
        count = [sum(row.verdict == verdict for row in rows) for verdict in VERDICTS]
        failed = [row.check for row in rows if row.verdict == "fail"]
        words = f"{count[0]} passed, {count[1]} warning{'' if count[1] == 1 else 's'}, {count[2]} failed"
        message = words + (f": {', '.join(failed)}" if failed else "")
        columns = {name: np.array([getattr(row, name) for row in rows], dtype=object) for name in Row._fields}
        return cls._build(
            {name: ("check", column) for name, column in columns.items() if name != "check"},
            {"check": columns["check"]},
            status="interrupted" if interrupted else "failed" if failed else "complete",
            message=f"stopped by Ctrl-C: {message}" if interrupted else message,
            provenance=provenance,
        )

    @property
    def rows(self) -> list[Row]:
        """All checks, in the order in which they were made."""
        columns = (self.dataset[name].to_numpy() for name in Row._fields)
        return [Row(*(str(cell) for cell in cells)) for cells in zip(*columns, strict=True)]

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each check by its name."""
        return {row.check: row.verdict for row in self.rows}

    def __getitem__(self, check: str) -> Row:
        found = next((row for row in self.rows if row.check == check), None)
        if found is None:
            raise InputError("there is no such check", got=check, fix=f"checks are {', '.join(self.verdicts)}")
        return found

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of checks."""
        return len(self.rows)

    def summary(self) -> dict[str, str]:
        """Return verdict and finding of each check."""
        return {row.check: f"{row.verdict}: {row.finding}" for row in self.rows}
