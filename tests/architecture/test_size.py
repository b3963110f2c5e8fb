"""Files stay small enough to hold in the head: about 300 lines, 450 at most."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 450
FILES = sorted([*(ROOT / "landscape").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_is_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST, f"{path.relative_to(ROOT)} has {lines} lines: split it by what it does (goal: 300)"
