"""Files: written aside and renamed, so that a file is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from landscape.errors import FileError
from landscape.results.base import KINDS, SCHEMA, Result


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` if the block succeeds, else remove it."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(
            "the folder to write into does not exist",
            got=str(target.parent),
            fix="create it first, or write elsewhere",
        )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)  # mkstemp makes private files
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def save(result: Result, path: str | Path) -> Path:
    """Write ``result`` to ``path`` (netCDF-4) and return the path."""
    target = Path(path)
    if target.suffix != ".nc":
        raise FileError(
            "results are saved as netCDF files",
            got=str(target),
            why="the ending tells other programs how to open it",
            fix=f"save to {target.with_suffix('.nc')}, and use `landscape render` for pictures",
        )
    dataset = result.dataset.copy()
    for name, variable in list(dataset.data_vars.items()):
        if variable.dtype == bool:  # netCDF has no booleans
            dataset[name] = dataset[name].astype("int8").assign_attrs(dtype="bool")
    with whole_file(target) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf")
    return target


def load(path: str | Path) -> Result:
    """Open a result file, or the folder of a recorded run.

    Returns the same kind of result that was saved. Raises :class:`~landscape.errors.FileError`
    when the path is missing, is not a result, or was written by a newer version.
    """
    source = Path(path)
    if source.is_dir():
        from landscape.results.recording import Recording

        return Recording.from_directory(source)
    if not source.is_file():
        raise FileError("there is no such result", got=str(source), fix="check the path")
    try:
        with xr.open_dataset(source, engine="h5netcdf") as opened:
            dataset = opened.load()
    except (OSError, ValueError) as error:
        raise FileError(
            "the file cannot be read as netCDF",
            got=str(source),
            why=" ".join(str(error).split()),
            fix="pass a file that `save` wrote",
        ) from error
    for name, variable in list(dataset.data_vars.items()):
        if variable.attrs.get("dtype") == "bool":
            dataset[name] = dataset[name].astype(bool)
    kind = dataset.attrs.get("landscape_kind")
    if kind not in KINDS:
        raise FileError(
            "the file holds no landscape result",
            got=str(source),
            fix=f"known kinds are {', '.join(sorted(KINDS))}",
        )
    schema = int(dataset.attrs.get("landscape_schema", 0))
    if schema > SCHEMA:
        raise FileError(
            "the file was written by a newer version",
            got=f"schema {schema}",
            why=f"this version reads up to schema {SCHEMA}",
            fix="upgrade torch-landscape",
        )
    return KINDS[str(kind)](dataset)
