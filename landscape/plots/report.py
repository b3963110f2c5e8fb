"""One self-contained page from many results: figures, captions, and what reproduces them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from landscape.errors import FileError, InputError
from landscape.plots.captions import caption
from landscape.plots.drawing import sheet_of
from landscape.plots.narrow import stacked
from landscape.plots.page import PAGE, SCRIPT, STYLE
from landscape.plots.registry import painter
from landscape.plots.sheets import Matrix, Plane, Sheet, Space
from landscape.plots.style import PIXELS
from landscape.plots.titles import wrap
from landscape.progress import Bar
from landscape.results import Family, Surface, load
from landscape.results.base import Result
from landscape.results.files import whole_file
from landscape.version import __version__

_NAMES = {
    "checkup": "Checkup",
    "conflict": "Gradient conflict",
    "density": "Spectral density",
    "diagonal": "Diagonal",
    "eigenpairs": "Eigenvalues",
    "estimate": "Estimate",
    "gradients": "Gradient statistics",
    "layers": "Curvature by layer",
    "projection": "Training path",
    "recording": "Training run",
    "subspace": "Subspaces",
    "surface": "Loss surface",
    "trace": "Trace",
}


@dataclass(frozen=True)
class Section:
    """A heading and what is drawn below it, and how: one result, or named surfaces to compare."""

    heading: str
    subject: Result | dict[str, Surface]
    options: dict[str, Any] = field(default_factory=dict)

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
        Results, or paths of result files and run folders; each may stand in a pair (heading, result), in a
        triple (heading, result, options) or, in a dictionary, under its heading. The options are those of
        :func:`landscape.plots.draw`, for example ``{"trajectory": projection}`` or ``{"kind": "surface"}``.
        A dictionary of named surfaces as the result of a pair or triple is drawn as a comparison on one scale.
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
    >>> ls.report([run, ("The path", surf, {"trajectory": path}), ("Both", {"a": a, "b": b})], "report.html")
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
        triples: list[tuple[str, Any, dict[str, Any]]] = [(str(heading), item, {}) for heading, item in items.items()]
    elif isinstance(items, Sequence):
        triples = [_triple(item) for item in items]
    else:
        raise InputError("items must be a list or a dictionary", got=type(items).__name__, fix="pass [result, ...]")
    for heading, item, options in triples:
        subject = _subject(item)
        yield Section(heading or _name(subject), subject, options)


def _triple(item: Any) -> tuple[str, Any, dict[str, Any]]:
    if isinstance(item, tuple):
        options = item[2] if len(item) == 3 else {}
        if len(item) in (2, 3) and isinstance(item[0], str) and isinstance(options, Mapping):
            return item[0], item[1], dict(options)
        raise InputError(
            "an item in a tuple must be (heading, result) or (heading, result, options)",
            got=f"a tuple of {len(item)}",
            fix='pass for example ("The path", surf, {"trajectory": path})',
        )
    return (Path(item).name, item, {}) if isinstance(item, str | Path) else ("", item, {})


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
    if not isinstance(subject, Result):
        return "Surfaces compared"
    if isinstance(subject, Family):
        return f"{_NAMES.get(subject.of, subject.of)} by {subject.by}"
    return _NAMES.get(subject.kind, subject.kind)


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
    long = ' class="long"' if len(sections) > 8 else ""
    drawn = []
    with Bar("drawing the report", total=len(sections)) as bar:
        for number, section in enumerate(sections, 1):
            drawn.append(_section(number, section))
            bar.advance()
    return PAGE.format(
        title=escape(title),
        style=STYLE,
        plotly=get_plotlyjs(),
        intro=f'<p class="intro">{escape(intro)}</p>' if intro else "",
        contents=f'<nav aria-label="Contents"><ol{long}>{contents}</ol></nav>' if len(sections) > 1 else "",
        sections="\n".join(drawn),
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
    options = dict(section.options)
    quantity = options.pop("quantity", None) or options.pop("metric", None)
    sheet = sheet_of(section.subject, quantity, options)
    title = f'<p class="title">{escape(sheet.title)}</p>' if sheet.title else ""
    facts = f'<p class="facts">{escape(sheet.subtitle)}</p>' if sheet.subtitle else ""
    head = (0.36 if sheet.title else 0.0) + 0.2 * len(wrap(sheet.subtitle, sheet.size[0]))
    bare = replace(sheet, title="", subtitle="", size=(sheet.size[0], max(1.6, sheet.size[1] - head)))
    words = caption(section.subject, **section.options)
    return f"""<section id="section-{number}">
<h2>{escape(section.heading)} {"".join(badges)}</h2>
{"".join(messages)}{title}{facts}
<div class="plot" id="plot-{number}" style="max-width:{_most_width(bare)}"></div>
<script type="application/json" class="figure" data-place="plot-{number}">{figure_json(bare)}</script>
<script type="application/json" class="narrow" data-place="plot-{number}">{figure_json(stacked(bare))}</script>
<p class="caption">{escape(words)}</p>
<details><summary>Settings that reproduce it</summary>{"".join(settings)}</details>
</section>"""


def figure_json(sheet: Sheet) -> str:
    """Return the figure of ``sheet`` as JSON that may stand inside a script element, as wide as the page lets it."""
    figure = painter("plotly")(sheet)
    figure.update_layout(width=None, autosize=True, template=None)
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _most_width(sheet: Sheet) -> str:
    """Return how wide the figure may become: one whose panels keep their shape gains nothing from more."""
    shaped = any(isinstance(panel, Plane | Space | Matrix) for panel in sheet.rows[0])
    return f"{int(sheet.size[0] * PIXELS)}px" if shaped else "100%"


def _commands(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    lines = escape("\n".join(str(line) for line in commands))
    return f"<section><h2>How this was made</h2><pre>{lines}</pre></section>"
