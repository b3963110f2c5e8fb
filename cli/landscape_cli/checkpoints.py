"""The files that ``--checkpoint`` names, and short names for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from landscape.errors import FileError


def checkpoints(patterns: Sequence[str]) -> dict[str, Path]:
    """Return the files that paths and globs name, by name: globs in natural order, each file once."""
    found: dict[Path, Path] = {}  # where it is -> as it was named
    for pattern in patterns:
        literal = Path(pattern)
        paths = [literal] if literal.is_file() else [p for p in map(Path, glob(pattern, recursive=True)) if p.is_file()]
        if not paths:
            raise FileError(
                "there is no such checkpoint", got=pattern, fix="check the path, and put a glob between quotes"
            )
        for path in sorted(paths, key=natural):
            found.setdefault(path.resolve(), path)
    return dict(zip(short_names(list(found.values())), found.values(), strict=True))


def natural(path: Path) -> list[int | str]:
    """Return what sorts ``step-9`` before ``step-10``."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", str(path)))]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return what tells paths apart: without the folders before and after, and the ending, that all have."""
    parts = [path.parts for path in paths]
    while min(map(len, parts), default=0) > 1 and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    whole = parts
    while min(map(len, parts), default=0) > 1 and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    if parts is whole and len({path.suffix for path in paths}) == 1:
        parts = [(*p[:-1], Path(p[-1]).stem) for p in parts]
    return ["/".join(p) for p in parts]
