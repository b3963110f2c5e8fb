"""Long work that is written to a file: what it has found so far is kept beside the file until it is whole."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from landscape.errors import FileError
from landscape.results.base import Result
from landscape.results.files import whole_file

SAVE_EVERY = 15.0  # seconds between two saves
SHARE = 20  # a save may take at most one part in so many of the time


class Partial:
    """The unfinished state of work whose result will be ``out``; with ``out=None`` it does nothing.

    ``found`` holds the arrays that an earlier, killed or interrupted, call with the same ``key`` left; empty
    when there are none. A state that another call left is not used, and is replaced at the first save.

    Parameters
    ----------
    out : path, optional
        The result file to be written, ``.nc``.
    key : mapping
        Everything that decides the numbers.
    overwrite : bool
        Whether ``out`` may be there already.
    """

    def __init__(self, out: str | Path | None, key: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.out = check_target(out, overwrite)
        self.key = hashlib.blake2b(json.dumps(key, default=str, sort_keys=True).encode(), digest_size=8).hexdigest()
        self._saved, self._pause = time.monotonic(), SAVE_EVERY
        self.found = self._read()

    @property
    def path(self) -> Path | None:
        """Where the state is kept."""
        return None if self.out is None else self.out.with_name(f".{self.out.stem}.partial.npz")

    def _read(self) -> dict[str, np.ndarray]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            with np.load(self.path) as file:
                if str(file["key"]) != self.key:
                    return {}
                return {name: file[name] for name in file.files if name != "key"}
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise FileError(
                "the partial file of earlier work cannot be read",
                got=str(self.path),
                why=" ".join(str(error).split()),
                fix="remove it to start anew",
            ) from error

    def save(self, state: Callable[[], Mapping[str, Any]], *, now: bool = False) -> None:
        """Keep the arrays that ``state()`` gives, if it is time to, or at once."""
        if self.path is None or not (now or time.monotonic() - self._saved > self._pause):
            return
        began = time.monotonic()
        with whole_file(self.path) as aside, aside.open("wb") as file:
            arrays: dict[str, Any] = {name: np.asarray(array) for name, array in state().items()}
            np.savez(file, key=np.array(self.key), **arrays)
        self._saved = time.monotonic()
        self._pause = max(SAVE_EVERY, SHARE * (self._saved - began))

    def finish(self, result: Result) -> None:
        """Write ``result`` and remove the state."""
        if self.out is not None and self.path is not None:
            result.save(self.out)
            self.path.unlink(missing_ok=True)


def check_target(out: str | Path | None, overwrite: bool) -> Path | None:
    """Return the path of a result file to be written; refuse it before the work, not after."""
    if out is None:
        return None
    target = Path(out)
    if target.suffix != ".nc":
        raise FileError("results are saved as netCDF files", got=str(out), fix=f"pass {target.with_suffix('.nc')}")
    if not target.parent.is_dir():
        raise FileError("the folder to write into does not exist", got=str(target.parent), fix="create it first")
    if target.exists() and not overwrite:
        raise FileError("the file is already there", got=str(out), fix="pass overwrite=True, or another name")
    return target
