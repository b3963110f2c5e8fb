"""State dictionaries saved by ``torch.save``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from landscape.errors import FileError


def load_state(path: str | Path) -> Mapping[str, Any]:
    """Return the state dictionary in ``path``: the file's content, or what it has under a usual key.

    Weights only are loaded: no code in the file is run. Raises :class:`~landscape.errors.FileError` when the
    file is missing or holds something else.
    """
    source = Path(path)
    if not source.is_file():
        raise FileError("there is no such checkpoint", got=str(source), fix="check the path")
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise FileError(
            "the checkpoint cannot be read",
            got=str(source),
            why=str(error)[:300],
            fix="save it with torch.save(model.state_dict(), path)",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        raise FileError(
            "the checkpoint holds no state dictionary",
            got=type(found).__name__,
            fix="save it with torch.save(model.state_dict(), path)",
        )
    return found
