"""One progress display for all long work: rich in a terminal, tqdm in a notebook, silence elsewhere.

Nested work shares one display. ``landscape.progress.enabled(False)`` silences it for a block.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

_enabled = True
_display: Any = None  # the one rich display, shared by nested bars
_users = 0


@contextmanager
def enabled(on: bool) -> Iterator[None]:
    """Switch progress bars on or off for the block."""
    global _enabled
    before, _enabled = _enabled, on
    try:
        yield
    finally:
        _enabled = before


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class Bar:
    """A progress bar: ``with Bar("surface", total=625) as bar: ... bar.advance()``.

    Parameters
    ----------
    description : str
        What is being done.
    total : float or None
        The number of steps; ``None`` when it is not known beforehand.
    """

    def __init__(self, description: str, total: float | None = None) -> None:
        self.description, self.total = description, total
        self._task: Any = None
        self._tqdm: Any = None

    def __enter__(self) -> Bar:
        global _display, _users
        if not _enabled:
            return self
        if _in_notebook():
            from tqdm.auto import tqdm

            self._tqdm = tqdm(total=self.total, desc=self.description, leave=False)
        elif sys.stderr.isatty():
            if _display is None:
                _display = _rich_display()
                _display.start()
            _users += 1
            self._task = _display.add_task(self.description, total=self.total, note="")
        return self

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Count ``steps`` more as done and show ``note`` beside the bar."""
        if self._task is not None:
            _display.update(self._task, advance=steps, note=note)
        elif self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update(steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _display, _users
        if self._task is not None:
            _display.remove_task(self._task)
            self._task = None
            _users -= 1
            if _users == 0:
                _display.stop()
                _display = None
        elif self._tqdm is not None:
            self._tqdm.close()


def _rich_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
