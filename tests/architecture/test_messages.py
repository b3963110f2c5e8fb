"""Every error says what to do, none is swallowed, and nothing is left undone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "landscape").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def _ours() -> set[str]:
    """Return the names of the package's own errors."""
    tree = ast.parse((ROOT / "landscape" / "errors.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _faults(source: str, ours: set[str]) -> Iterator[tuple[int, str]]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name | ast.Attribute):
            name = ast.unparse(node.exc).split(".")[-1]
            if name in ours:
                yield node.lineno, f"{name} is raised without a message"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            given = {keyword.arg for keyword in node.keywords}
            if name in ours and not given & {"fix", None}:
                yield node.lineno, f"{name} does not say what to do: pass fix="
        elif isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield node.lineno, "a bare except hides Ctrl-C and mistakes: name what is expected"
            elif ast.unparse(node.type) in ("Exception", "BaseException") and _does_nothing(node.body):
                yield node.lineno, f"except {ast.unparse(node.type)} swallows every mistake"
    for number, line in enumerate(source.splitlines(), 1):
        if found := UNDONE.search(line):
            yield number, f"{found[0]} is left in the code"


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(s, ast.Pass | ast.Continue) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in body
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_errors_say_what_to_do(path: Path) -> None:
    found = [f"{path.relative_to(ROOT)}:{line}: {fault}" for line, fault in _faults(path.read_text("utf-8"), _ours())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("raise InputError('x must be 1', got=2)", "does not say what to do"),
        ("raise errors.FileError('gone')", "does not say what to do"),
        ("raise InputError", "without a message"),
        ("try:\n    f()\nexcept:\n    g()", "a bare except"),
        ("try:\n    f()\nexcept Exception:\n    pass", "swallows every mistake"),
        ("for x in y:\n    try:\n        f()\n    except BaseException:\n        continue", "swallows every mistake"),
        ("x = 1  # TODO later", "TODO is left"),
        ("raise NotImplementedError", "NotImplementedError is left"),
    ],
)
def test_a_planted_fault_is_found(source: str, fault: str) -> None:
    found = [text for _, text in _faults(source, {"InputError", "FileError"})]
    assert len(found) == 1
    assert fault in found[0]


def test_sound_code_has_no_fault() -> None:
    sound = "try:\n    f()\nexcept OSError as e:\n    raise FileError('gone', fix='look') from e\nraise InputError(**k)"
    assert not list(_faults(sound, {"InputError", "FileError"}))
