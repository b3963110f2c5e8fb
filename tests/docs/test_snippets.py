"""Nothing is shown that is not executed: the snippets and command lines of every page."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import landscape_cli.commands  # registers every command
import landscape_cli.demo  # noqa: F401
from landscape import progress
from landscape_cli.shell import app
from tests.docs.given import given
from tests.docs.pages import PAGES, ROOT, blocks, commands, given_names, name_of

RUN_HERE = "<!-- commands run here -->"
WITH_PYTHON = [page for page in PAGES if page.exists() and blocks(page, "python")]
WITH_COMMANDS = [page for page in PAGES if page.exists() and commands(page)]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page run in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    ready = given()
    wanted = given_names(page)
    assert set(wanted) <= set(ready), f"tests/docs/given.py gives {', '.join(ready)}"
    namespace = {"__name__": "snippet"} | {name: ready[name] for name in wanted}
    try:
        with progress.enabled(False):
            for block in blocks(page, "python"):
                if not block.not_run:
                    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
                    exec(code, namespace)
    finally:
        if "matplotlib" in sys.modules:
            from matplotlib import pyplot

            pyplot.close("all")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_skipped_block_is_one(page: Path) -> None:
    """A comment that keeps a block from running stands right before a block of Python."""
    comments = page.read_text(encoding="utf-8").count("<!-- not run:") if page.exists() else 0
    assert comments == sum(bool(block.not_run) for block in blocks(page, "python")) if comments else True


def _landscape(*arguments: str) -> Result:
    """Run ``landscape`` in this process: a process for each would take seconds to load PyTorch."""
    return CliRunner(env={"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, arguments)


@cache
def _help(*command: str) -> str:
    """Return what ``landscape ... --help`` prints."""
    done = _landscape(*command, "--help")
    assert done.exit_code == 0, f"`landscape {' '.join(command)} --help` fails: {done.output}"
    return done.output


def _check_landscape(words: list[str]) -> str:
    """Return what is wrong with the command line ``landscape *words``, or nothing."""
    if not words or words[0].startswith("-"):
        command, options = (), words
    else:
        command, options = (words[0],), words[1:]
        if not re.search(rf"^\W*{re.escape(words[0])}\s", _help(), re.MULTILINE):
            return f"there is no command {words[0]!r}"
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", _help(*command)))
    unknown = [word for word in options if re.match(r"--?[A-Za-z]", word) and word.split("=")[0] not in known]
    return f"{' '.join(command)} has no option {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_command_lines_parse(page: Path) -> None:
    """Each ``landscape`` command, its options, and each ``make`` target exist."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    faults = []
    for line, command in commands(page):
        words = shlex.split(command)
        fault = ""
        if words[0] == "landscape":
            fault = _check_landscape(words[1:])
        elif words[0] == "make":
            unknown = [w for w in words[1:] if "=" not in w and not w.startswith("-") and w not in targets]
            fault = f"there is no target {', '.join(unknown)}" if unknown else ""
        if fault:
            faults.append(f"{name_of(page)}:{line}: {command}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("page", [p for p in WITH_COMMANDS if RUN_HERE in p.read_text("utf-8")], ids=name_of)
def test_command_lines_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of a page that says so run in order, beside the files that its Python blocks show and write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    namespace = {"__name__": "snippet"}
    for block in blocks(page, "python"):
        if named := re.match(r"# ([\w.]+\.py)\n", block.text):
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
        exec(block.text, namespace)
    for line, command in commands(page):
        program, *words = shlex.split(command)
        assert program == "landscape", f"{name_of(page)}:{line}: {program} is not run here"
        done = _landscape(*words)
        assert done.exit_code == 0, f"{name_of(page)}:{line}: {command}: {done.output} {done.exception!r}"


def test_planted_mistakes_are_found() -> None:
    assert _check_landscape(["demo", "--quick"]) == ""
    assert "no command" in _check_landscape(["spectrun"])
    assert "no option --quik" in _check_landscape(["demo", "--quik"])
