"""The log of a run: a folder that is readable after any crash.

``run.json``       what was recorded, how, and of what (written whole at the start, updated whole)
``log.jsonl``      one line per record, appended and flushed; a torn last line is ignored
``snapshots/``     parameter vectors by step, one ``.npy`` each, for trajectories

A line is ``{"step": 12, "values": {...}}`` for what every step gives, and
``{"step": 50, "metric": "sharpness", "values": {...}, "status": "...", "seconds": 0.4}`` for a
scheduled metric. NaN and infinities are written as JSON strings so that any reader can parse the file.
"""

from __future__ import annotations

import json
import math
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import FileError
from landscape.results.files import whole_file

HEADER, LOG, SNAPSHOTS = "run.json", "log.jsonl", "snapshots"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


class RunLog:
    """Append-only writer of a run folder."""

    def __init__(self, folder: str | Path, header: dict[str, Any], *, resume: bool = False) -> None:
        self.folder = Path(folder)
        if (self.folder / HEADER).exists() and not resume:
            raise FileError(
                "the folder already holds a recorded run",
                got=str(self.folder),
                why="a second run would mix with it",
                fix="write to another folder, remove it, or pass resume=True to go on with it",
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise FileError(
                "a file is in the way", got=str(self.folder), fix="write to another folder, or remove the file"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.header = header
        self.write_header()
        path = self.folder / LOG
        _drop_torn_line(path)
        self._file: TextIOWrapper = path.open("a", encoding="utf-8")

    def write_header(self, **changes: Any) -> None:
        """Write the header again, whole, with ``changes``."""
        self.header |= changes
        with whole_file(self.folder / HEADER) as aside:
            aside.write_text(json.dumps(_plain(self.header), indent=1, default=str), encoding="utf-8")

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Append ``lines`` and hand them to the operating system, so that a killed process loses none."""
        text = "".join(json.dumps(_plain(line), allow_nan=False, default=str) + "\n" for line in lines)
        self._file.write(text)
        self._file.flush()

    def snapshot(self, step: int, vector: np.ndarray) -> None:
        """Store the parameter vector of ``step``."""
        folder = self.folder / SNAPSHOTS
        folder.mkdir(exist_ok=True)
        with whole_file(folder / f"{step:09d}.npy") as aside:
            np.save(aside, vector)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MemoryLog:
    """The same interface for a run that is written nowhere."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.header = header
        self.lines: list[dict[str, Any]] = []
        self.snapshots: list[tuple[int, np.ndarray]] = []

    def write_header(self, **changes: Any) -> None:
        """Change the header."""
        self.header |= changes

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Keep ``lines``."""
        self.lines += [_plain(line) for line in lines]

    def snapshot(self, step: int, vector: np.ndarray) -> None:
        """Keep the parameter vector of ``step``."""
        self.snapshots.append((step, vector))

    def close(self) -> None:
        """Do nothing: there is no file."""


def _drop_torn_line(path: Path) -> None:
    """Cut a last line that a crash left without its end, so that appending starts on a fresh one."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def read_log(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and every whole line of the log in ``folder``."""
    header_path = folder / HEADER
    if not header_path.is_file():
        raise FileError(
            "the folder holds no recorded run",
            got=str(folder),
            fix="pass the folder given to Monitor(out=...)",
        )
    try:
        header = json.loads(header_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(
            f"{HEADER} cannot be read",
            got=str(header_path),
            why=str(error),
            fix="restore it: landscape writes it whole",
        ) from error
    lines = []
    path = folder / LOG
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break  # a torn last line: the run was killed while writing it
    return header, lines


def read_snapshots(folder: Path) -> tuple[list[int], list[np.ndarray]]:
    """Return the steps and parameter vectors stored in ``folder``, in order."""
    paths = sorted(path for path in (folder / SNAPSHOTS).glob("*.npy") if path.stem.isdigit())
    return [int(path.stem) for path in paths], [np.load(path) for path in paths]
