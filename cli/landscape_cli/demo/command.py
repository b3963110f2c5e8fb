"""``landscape demo``."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import landscape as ls
from landscape.errors import FileError
from landscape.progress import Bar
from landscape_cli.commands.options import OUT
from landscape_cli.demo.data import arrays, digits
from landscape_cli.demo.settings import Settings
from landscape_cli.demo.study import Study
from landscape_cli.shell import INTERRUPTED, command, out

MARK = "demo.json"
OURS = (MARK, "report.html", "run-*", "*.nc", ".*.partial.npz", "*.png")


@command
def demo(
    folder: Annotated[Path, typer.Option(*OUT, help="Where everything is written.")] = Path("runs/demo"),
    data: Annotated[Path | None, typer.Option(help="Image arrays, .npz, instead of the handwritten digits.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller networks and grids.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo in the folder.")] = False,
) -> None:
    """Train two small networks, watch them, draw their landscapes, and write a report."""
    began = time.monotonic()
    settings = Settings.quick() if quick else Settings()
    found = digits() if data is None else arrays(data)
    _prepare(folder, overwrite)
    study = Study(found, settings, folder)
    (folder / MARK).write_text(json.dumps({"data": found.name, **asdict(settings)}, indent=1), encoding="utf-8")
    out.print(f"[bold]landscape demo[/bold]: {found.name}, {len(found.train[1])} training images; writing to {folder}/")
    stopped = False
    try:
        for done in study.stages():
            out.print(f"  {time.monotonic() - began:5.0f} s  {done}")
    except KeyboardInterrupt:
        stopped = True
    if not study.finished:
        out.print(f"stopped by Ctrl-C before anything was finished; {folder}/ holds the settings only")
        raise typer.Exit(INTERRUPTED)
    if stopped:
        out.print("stopped by Ctrl-C; drawing what was finished, which takes some seconds (Ctrl-C again leaves it out)")
    line = "landscape demo" + (" --quick" if quick else "") + (f" --data {data}" if data is not None else "")
    try:
        pictures = _pictures(study, folder)
        ls.report(
            _items(study),
            folder / "report.html",
            title="Two networks, watched from the first step",
            intro=_intro(study, stopped),
            commands=[line, f"# {study.described()}"],
        )
    except KeyboardInterrupt:
        out.print(f"stopped by Ctrl-C while drawing; the results are in {folder}/, and `landscape report` draws them")
        raise typer.Exit(INTERRUPTED) from None
    out.print(f"  {time.monotonic() - began:5.0f} s  {len(pictures)} pictures and the report")
    if stopped:
        out.print(f"what was finished is in {folder}/ and in {folder / 'report.html'}")
        raise typer.Exit(INTERRUPTED)
    out.print(f"open [bold]{folder / 'report.html'}[/bold] in a browser")


def _prepare(folder: Path, overwrite: bool) -> None:
    """Make the folder; remove an earlier demo's files from it when asked to, and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise FileError("the place to write to is a file", got=str(folder), fix="pass a folder with --out")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise FileError(
                "the folder holds other files", got=str(folder), fix="pass an empty or new folder with --out"
            )
        if not overwrite:
            raise FileError(
                "the folder already holds a demo",
                got=str(folder),
                why="its results would be lost",
                fix="pass --overwrite, or another folder with --out",
            )
        for pattern in OURS:
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _items(study: Study) -> list[Any]:
    """Return the report's sections: what was finished, the surfaces side by side before the paths."""
    runs = [item for item in study.finished if item[1].kind == "recording"]
    paths = [item for item in study.finished if item[1].kind in ("projection", "surface")]
    spectra = [item for item in study.finished if item not in runs and item not in paths]
    items: list[Any] = [*runs]
    if study.surfaces:
        items.append(("Loss surfaces on one scale", dict(study.surfaces)))
        items.append(("The same surfaces, to turn around", dict(study.surfaces), {"kind": "surface"}))
    items += [(heading, result, study.options(result)) for heading, result in paths]
    return items + spectra


def _pictures(study: Study, folder: Path) -> list[Path]:
    """Draw every finished result as a PNG."""
    wanted: list[tuple[str, Any, dict[str, Any]]] = [
        (_slug(heading), result, study.options(result)) for heading, result in study.finished
    ]
    if study.surfaces:
        wanted.append(("surfaces", study.surfaces, {}))
    pictures = []
    with Bar("drawing pictures", total=len(wanted)) as bar:
        for name, subject, options in wanted:
            pictures.append(ls.plots.render(subject, folder / f"{name}.png", **options))
            bar.advance()
    return pictures


def _slug(heading: str) -> str:
    kept = "".join(c if c.isalnum() else " " for c in heading.lower().replace("'s", ""))
    return "-".join(kept.split())


def _intro(study: Study, stopped: bool) -> str:
    count = sum(p.numel() for p in next(iter(study.models.values())).parameters())
    text = (
        f"A small residual network and its twin without skip connections ({count:,} parameters each) learn "
        f"{study.data.name} with momentum. Both were watched by one monitor line in a plain training loop, and "
        "then asked where they ended up."
    )
    return text + (" The run was stopped by Ctrl-C: this page holds what was finished." if stopped else "")
