"""Where records go, without ever stopping the training that they are of."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import FileError
from landscape.results.files import whole_file
from landscape.results.runlog import LOG, SNAPSHOTS, MemoryLog, RunLog, read_log


class Writer:
    """The log of a run; once it cannot be written, one warning says so and nothing more is recorded (``lost``)."""

    def __init__(self, log: RunLog | MemoryLog) -> None:
        self.log, self.lost = log, False

    @property
    def header(self) -> dict[str, Any]:
        """The header as it was last written."""
        return self.log.header

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Append ``lines``."""
        self._try(lambda: self.log.append(lines))

    def snapshot(self, step: int, vector: np.ndarray) -> None:
        """Store the parameter vector of ``step``."""
        self._try(lambda: self.log.snapshot(step, vector))

    def write_header(self, **changes: Any) -> None:
        """Write the header again, with ``changes``."""
        self._try(lambda: self.log.write_header(**changes))

    def close(self) -> None:
        """Close the file."""
        try:
            self.log.close()
        except OSError as error:  # what could not be written before is tried once more
            self._lose(error)

    def _try(self, write: Callable[[], None]) -> None:
        if self.lost:
            return
        try:
            if isinstance(self.log, RunLog) and not (self.log.folder / LOG).exists():  # writing to it would succeed
                raise FileError("the folder of the run must stay where it is", got=f"no {LOG} in {self.log.folder}",
                                fix="move it after training")  # fmt: skip
            write()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if not self.lost:
            self.lost = True
            warnings.warn(f"landscape: nothing more of this run is recorded: {error}", RuntimeWarning, stacklevel=2)


def last_step(folder: Path) -> int:
    """Return the last step that the run in ``folder`` has recorded."""
    return max((int(line["step"]) for line in read_log(folder)[1]), default=0)


def rewind(folder: Path, step: int) -> None:
    """Drop what the run in ``folder`` has recorded after ``step``: training goes on from an earlier state."""
    _, lines = read_log(folder)
    kept = [line for line in lines if int(line["step"]) <= step]
    if len(kept) < len(lines):
        with whole_file(folder / LOG) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    for path in (folder / SNAPSHOTS).glob("*.npy"):
        if path.stem.isdigit() and int(path.stem) > step:
            path.unlink()
