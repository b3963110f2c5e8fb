"""Reads pages: their fenced blocks, and the comments that speak to the tests.

``<!-- given: model, loader -->``   names that the page's snippets find ready; see ``given.py``
``<!-- not run: reason -->``        right before a block: it is shown and not executed
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "pages").rglob("*.md")])

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)")
_GIVEN = re.compile(r"<!-- given: (?P<names>[\w, ]+) -->")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line of text
    language: str
    text: str
    not_run: str  # the reason, or ""


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the page's fenced blocks in one of ``languages``."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    opened: tuple[int, str, str] | None = None  # line, language, indent
    for number, line in enumerate(lines):
        if opened is None and (fence := _FENCE.match(line)):
            opened = number, fence["language"], fence["indent"]
        elif opened is not None and line.strip() == "```":
            start, language, _ = opened
            text = textwrap.dedent("\n".join(lines[start + 1 : number]))
            before = next((above for above in reversed(lines[:start]) if above.strip()), "")
            skipped = _NOT_RUN.search(before)
            if language in languages:
                found.append(Block(page, start + 2, language, text, skipped["reason"] if skipped else ""))
            opened = None
    assert opened is None, f"{page}:{opened[0] + 1}: a fenced block is not closed"
    return found


def given_names(page: Path) -> list[str]:
    """Return the names that the page says its snippets find ready."""
    found = _GIVEN.search(page.read_text(encoding="utf-8"))
    return [name.strip() for name in found["names"].split(",")] if found else []


def commands(page: Path) -> list[tuple[int, str]]:
    """Return (line, command) for each command line of the page's console blocks."""
    found = []
    for block in blocks(page, "console", "sh", "bash"):
        for offset, line in enumerate(re.sub(r"\\\n", "  ", block.text).splitlines()):
            stripped = line.strip()
            if block.language == "console" and not stripped.startswith("$ "):
                continue  # output
            text = re.sub(r"\s#.*$", "", stripped.removeprefix("$ "))
            found += [(block.line + offset, part.strip()) for part in re.split(r"&&|;", text) if part.strip()]
    return found


def name_of(page: Path) -> str:
    """Return the page's path in the repository."""
    return page.relative_to(ROOT).as_posix()
