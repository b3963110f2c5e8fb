"""``train.py:make_objective``: the user's own function that returns an objective."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from landscape.errors import FileError, InputError
from landscape.objective import Objective
from landscape.surfaces import load_state


def load_objective(target: str, checkpoint: Path | None = None) -> Objective:
    """Return the objective that ``MODULE:FUNCTION`` makes, with the weights of ``checkpoint`` if given.

    MODULE is a path to a Python file or a dotted module name; both are looked up from the present folder.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise InputError(
            "the target must be MODULE:FUNCTION", got=target, fix="write for example train.py:make_objective"
        )
    function = getattr(_module(where), name, None)
    if not callable(function):
        raise InputError(f"{where} has no function {name}", got=target, fix="check its name")
    try:
        objective = function()
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{target} failed", got=f"{type(error).__name__}: {error}", fix="run it by itself, or add --debug"
        ) from error
    if not isinstance(objective, Objective):
        raise InputError(
            f"{target} must return a landscape.Objective",
            got=type(objective).__name__,
            fix="return ls.Objective(model, loss, data)",
        )
    if checkpoint is not None:
        load_weights(objective, checkpoint)
    return objective


def _module(where: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    path = Path(where)
    try:
        if path.suffix != ".py":
            return importlib.import_module(where)
        if not path.is_file():
            raise FileError("there is no such file", got=where, fix="check the path")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # classes defined there must be findable, for example to unpickle
        spec.loader.exec_module(module)
        return module
    except FileError:
        raise
    except Exception as error:
        raise InputError(
            f"{where} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            fix="run it by itself, or add --debug",
        ) from error


def load_weights(objective: Objective, checkpoint: Path) -> None:
    """Load ``checkpoint`` into the objective's model."""
    try:
        objective.model.load_state_dict(load_state(checkpoint))
    except RuntimeError as error:
        raise FileError(
            "the checkpoint does not fit the model",
            got=str(checkpoint),
            why=str(error)[:300],
            fix="load it into the model that it was saved from",
        ) from error
