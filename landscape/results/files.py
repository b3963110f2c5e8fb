"""Files: written aside and renamed, so that a file is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from landscape.errors import FileError


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


def write(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write ``dataset`` to ``path`` (netCDF-4) and return the path."""
    target = Path(path)
    if target.suffix != ".nc":
        raise FileError(
            "results are saved as netCDF files",
            got=str(target),
            why="the ending tells other programs how to open it",
            fix=f"save to {target.with_suffix('.nc')}, and use `landscape render` for pictures",
        )
    dataset = dataset.copy()
    for name, variable in list(dataset.data_vars.items()):
        if variable.dtype == bool:  # netCDF has no booleans
            dataset[name] = dataset[name].astype("int8").assign_attrs(dtype="bool")
    with whole_file(target) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf")
    return target


def read(path: Path) -> xr.Dataset:
    """Read a whole dataset that :func:`write` wrote; the file is closed again."""
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        dataset: xr.Dataset = opened.load()
    for name, variable in list(dataset.data_vars.items()):
        if variable.attrs.get("dtype") == "bool":
            dataset[name] = dataset[name].astype(bool)
    return dataset
