"""Opening any result, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from landscape.errors import FileError
from landscape.results.base import KINDS, SCHEMA, Result
from landscape.results.files import read
from landscape.results.recording import Recording


def load(path: str | Path) -> Result:
    """Open a result file, or the folder of a recorded run.

    Returns the same kind of result that was saved. Raises :class:`~landscape.errors.FileError`
    when the path is missing, is not a result, or was written by a newer version.
    """
    source = Path(path)
    if source.is_dir():
        return Recording.from_directory(source)
    if not source.is_file():
        raise FileError("there is no such result", got=str(source), fix="check the path")
    try:
        dataset = read(source)
    except (OSError, ValueError) as error:
        raise FileError(
            "the file cannot be read as netCDF",
            got=str(source),
            why=" ".join(str(error).split()),
            fix="pass a file that `save` wrote",
        ) from error
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
