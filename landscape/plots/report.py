"""One self-contained page from many results: figures, captions, and what reproduces them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from landscape.errors import FileError, InputError
from landscape.plots.captions import caption
from landscape.plots.drawing import compare, draw
from landscape.plots.page import PAGE, SCRIPT, STYLE
from landscape.results import Surface
from landscape.results.base import Result
from landscape.results.store import load, whole_file
from landscape.version import __version__

_NAMES = {
    "conflict": "Gradient conflict",
    "density": "Spectral density",
    "eigenpairs": "Eigenvalues",
    "gradients": "Gradient statistics",
    "projection": "Training path",
    "recording": "Training run",
    "surface": "Loss surface",
    "trace": "Trace",
}


@dataclass(frozen=True)
class Section:
    """A heading and what is drawn below it: one result, or named surfaces to compare."""

    heading: str
    subject: Result | dict[str, Surface]

    @property
    def results(self) -> dict[str, Result]:
        """The results of the section by name; one result has the empty name."""
        return {"": self.subject} if isinstance(self.subject, Result) else dict(self.subject)


def report(
    items: Any,
    path: str | Path,
    *,
    title: str = "Loss landscape report",
    intro: str = "",
    commands: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write one HTML file with an interactive figure and a caption for each item; return its path.

    Parameters
    ----------
    items : list or dict
        Results, or paths of result files and run folders; each may stand in a pair (heading, result) or,
        in a dictionary, under its heading. A dictionary of named surfaces as the result of a pair is drawn
        as a comparison on one scale.
    path : path
        The file to write, ending in ``.html``. It needs no network and no other file.
    title, intro : str
        What stands at the head of the page.
    commands : sequence of str
        Shell lines to show as "How this was made".
    overwrite : bool
        Whether a file that is there already is replaced.

    Examples
    --------
    >>> ls.report([run, surf, ("Before and after", {"before": a, "after": b})], "report.html")
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            "a report is an HTML file", got=target.name, fix=f"write to {target.with_suffix('.html').name}"
        )
    if target.exists() and not overwrite:
        raise FileError(
            "the report is there already",
            got=str(target),
            why="it would be lost",
            fix="write to another file, or pass overwrite=True",
        )
    if isinstance(commands, str):
        raise InputError("commands must be a list of shell lines", got=commands, fix=f"pass [{commands!r}]")
    sections = list(read_items(items))
    if not sections:
        raise InputError("a report needs at least one result", got="none", fix="pass a list of results")
    page = _page(sections, title, intro, commands)
    with whole_file(target) as aside:
        aside.write_text(page, encoding="utf-8")
    return target


def read_items(items: Any) -> Iterator[Section]:
    """Return the sections that ``items`` ask for; raise for anything that cannot be drawn."""
    if isinstance(items, Result | str | Path):
        items = [items]
    if isinstance(items, Mapping):
        pairs = list(items.items())
    elif isinstance(items, Sequence):
        pairs = [_pair(item) for item in items]
    else:
        raise InputError("items must be a list or a dictionary", got=type(items).__name__, fix="pass [result, ...]")
    for heading, item in pairs:
        subject = _subject(item)
        yield Section(str(heading) if heading else _name(subject), subject)


def _pair(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple):
        if len(item) == 2 and isinstance(item[0], str):
            return item
        raise InputError(
            "a pair must be (heading, result)", got=f"a tuple of {len(item)}", fix="pass (heading, result)"
        )
    return (Path(item).name, item) if isinstance(item, str | Path) else ("", item)


def _subject(item: Any) -> Result | dict[str, Surface]:
    if isinstance(item, str | Path):
        return load(item)
    if isinstance(item, Result):
        return item
    if isinstance(item, Mapping) and item:
        found = {str(name): _subject(inner) for name, inner in item.items()}
        surfaces = {name: result for name, result in found.items() if isinstance(result, Surface)}
        if len(surfaces) == len(found):
            return surfaces
    raise InputError(
        "an item of the report cannot be drawn",
        got=type(item).__name__,
        fix="pass results, paths of result files, or a dictionary of named surfaces to compare",
    )


def _name(subject: Result | dict[str, Surface]) -> str:
    return _NAMES.get(subject.kind, subject.kind) if isinstance(subject, Result) else "Surfaces compared"


def _page(sections: list[Section], title: str, intro: str, commands: Sequence[str]) -> str:
    from plotly.offline import get_plotlyjs

    from landscape.plots.with_plotly.look import template

    looks = {"LIGHT": template(), "DARK": template(dark=True)}
    script = SCRIPT
    for name, look in looks.items():
        script = script.replace(name, json.dumps(look))
    contents = "".join(
        f'<li><a href="#section-{number}">{escape(section.heading)}</a></li>'
        for number, section in enumerate(sections, 1)
    )
    return PAGE.format(
        title=escape(title),
        style=STYLE,
        plotly=get_plotlyjs(),
        intro=f'<p class="intro">{escape(intro)}</p>' if intro else "",
        contents=f'<nav aria-label="Contents"><ol>{contents}</ol></nav>' if len(sections) > 1 else "",
        sections="\n".join(_section(number, section) for number, section in enumerate(sections, 1)),
        commands=_commands(commands),
        footer=f"Made by landscape {escape(__version__)}. Every figure is drawn from saved numbers alone.",
        script=script,
    )


def _section(number: int, section: Section) -> str:
    badges, messages, settings = [], [], []
    for name, result in section.results.items():
        prefix = f"{name}: " if name else ""
        if not result.ok:
            badges.append(f'<span class="badge">{escape(prefix + result.status)}</span>')
            if result.message:
                messages.append(f'<p class="message">{escape(prefix + result.message)}</p>')
        shown = json.dumps(result.provenance, indent=2, ensure_ascii=False, default=str)
        settings.append(f"{f'<p>{escape(name)}</p>' if name else ''}<pre>{escape(shown)}</pre>")
    figure, width = figure_json(section.subject)
    bounds = f"min-width:{int(0.8 * width)}px;max-width:{int(1.2 * width)}px"
    return f"""<section id="section-{number}">
<h2>{escape(section.heading)} {"".join(badges)}</h2>
{"".join(messages)}
<div class="plot"><div id="plot-{number}" style="{bounds}"></div></div>
<script type="application/json" class="figure" data-place="plot-{number}">{figure}</script>
<p class="caption">{escape(caption(section.subject))}</p>
<details><summary>Settings that reproduce it</summary>{"".join(settings)}</details>
</section>"""


def figure_json(subject: Result | dict[str, Surface]) -> tuple[str, int]:
    """Return the figure as JSON that may stand inside a script element, and its natural width."""
    figure = draw(subject, backend="plotly") if isinstance(subject, Result) else compare(subject, backend="plotly")
    width = int(figure.layout.width)
    figure.update_layout(width=None, autosize=True, template=None)
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"), width


def _commands(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    lines = escape("\n".join(str(line) for line in commands))
    return f"<section><h2>How this was made</h2><pre>{lines}</pre></section>"
