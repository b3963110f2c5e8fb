"""The layers of the package, and a walk over all imports that says where one points the wrong way.

Every import counts: at the top of a file, inside functions, under ``TYPE_CHECKING``, relative ones, and
module names in strings (``import_module("landscape.x")``). ``test_layers.py`` runs it on this package
and on planted mistakes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

PACKAGE, COMMAND = "landscape", "landscape_cli"

#: Low to high. A member may import members of lower layers. Members of a set do not import each other;
#: members of a tuple may import those before them.
LAYERS: tuple[frozenset[str] | tuple[str, ...], ...] = (
    ("errors", "version", "seeds", "progress"),
    frozenset({"space", "results", "distributed"}),
    frozenset({"objective"}),
    frozenset({"curvature", "gradients"}),
    frozenset({"spectra"}),
    frozenset({"surfaces"}),
    frozenset({"monitor", "plots", "compat", "diagnosis"}),
    frozenset({"integrations"}),
    frozenset({PACKAGE}),  # landscape/__init__.py: public names, loaded on first use
    frozenset({COMMAND}),
)

_GROUND = {"errors", "version", "progress"}

#: Members that may import less than their layer allows.
ONLY = {
    "spectra": _GROUND | {"seeds", "results", "space"},  # linear algebra: never sees a network
    "plots": _GROUND | {"results"},  # drawn from results alone
}

#: Other packages that a member must not import anywhere.
NEVER = {"plots": {"torch"}}

#: Strings that name an upper module on purpose: (file, string).
BY_NAME = {("landscape/results/base.py", "landscape.plots:draw")}

_MODULE_NAME = re.compile(rf"(?:{PACKAGE}|{COMMAND})(?:\.[a-z_]\w*)+(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """One import of a module of ours or of another package, and where it stands."""

    file: str
    line: int
    module: str  # dotted name of what is imported
    at_top: bool  # runs when the file is imported

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def violations(root: Path) -> list[str]:
    """Return one sentence for each import below ``root`` that breaks a rule."""
    package, command = root / PACKAGE, root / "cli" / COMMAND
    found = list(_unknown_members(package))
    graph: dict[str, list[Import]] = {}
    for path in sorted(package.rglob("*.py")):
        name = _module_name(path, root)
        imports = list(_imports(path, root, name, package))
        graph[name] = imports
        found += [sentence for i in imports if (sentence := _judge(_member(name), i))]
    for path in sorted(command.rglob("*.py")):
        name = _module_name(path, root / "cli")
        imports = list(_imports(path, root, name, package))
        graph[name] = imports
        found += [sentence for i in imports if (sentence := _private(i, package))]
    return found + list(_cycles(graph))


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _member(module: str) -> str | None:
    """Return which member of the layers ``module`` belongs to; ``None`` for another package."""
    parts = module.split(".")
    if parts[0] == COMMAND:
        return COMMAND
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 else PACKAGE


def _place(member: str) -> tuple[int, int]:
    """Return (layer, position in it); the position is 0 throughout a set."""
    for index, layer in enumerate(LAYERS):
        if member in layer:
            return index, layer.index(member) if isinstance(layer, tuple) else 0
    raise LookupError(member)


def _unknown_members(package: Path) -> Iterator[str]:
    known = {member for layer in LAYERS for member in layer}
    for path in sorted(package.iterdir()):
        is_module = path.suffix == ".py" and path.stem != "__init__"
        is_member = is_module or (path / "__init__.py").exists()
        if is_member and path.stem not in known:
            yield f"{PACKAGE}/{path.name} is in no layer: say where it stands in tests/architecture/layers.py"


def _judge(member: str | None, found: Import) -> str | None:
    """Return what is wrong with ``member`` importing ``found``, if anything."""
    if member is None or member not in {m for layer in LAYERS for m in layer}:
        return None
    other = _member(found.module)
    if other is None:
        foreign = found.module.split(".")[0]
        if foreign in NEVER.get(member, ()):
            return f"{found.where}: {member} must not import {foreign}"
        return None
    if other == member:
        return None
    try:
        here, there = _place(member), _place(other)
    except LookupError:
        return f"{found.where}: {member} imports {found.module}, which is in no layer"
    if there[0] > here[0]:
        return f"{found.where}: {member} imports {found.module}, which is in a layer above it"
    if there[0] == here[0] and there[1] >= here[1]:
        return f"{found.where}: {member} imports {found.module}, which stands beside it in the same layer"
    if other not in ONLY.get(member, {other}):
        return f"{found.where}: {member} imports {found.module}, but may import {', '.join(sorted(ONLY[member]))} only"
    return None


# -- the command line sees public names only -------------------------------------------------------------


def _private(found: Import, package: Path) -> str | None:
    if _member(found.module) in (None, COMMAND):
        return None
    parts = found.module.split(".")[1:]
    if not parts:
        return None
    public = _literal(package / "__init__.py", "__all__", "_PUBLIC")
    folder = package / parts[0] / "__init__.py"
    known = parts[0] in public or folder.exists()
    if not known or (parts[0].startswith("_") and parts[0] not in public):
        return f"{found.where}: {COMMAND} uses {found.module}, which is not public"
    if len(parts) > 1 and parts[0] not in public and parts[1] not in _literal(folder, "__all__"):
        return f"{found.where}: {COMMAND} uses {found.module}, which is not in {PACKAGE}.{parts[0]}.__all__"
    if any(part.startswith("_") and part not in public for part in parts):
        return f"{found.where}: {COMMAND} uses {found.module}, which is private"
    return None


def _literal(path: Path, *names: str) -> set[str]:
    """Return the strings in the lists, or the keys of the dictionaries, that ``path`` assigns to ``names``."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id in names for t in targets):
            value = node.value  # type: ignore[union-attr]
            items = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
            found |= {i.value for i in items if isinstance(i, ast.Constant) and isinstance(i.value, str)}
    return found


# -- reading a file ----------------------------------------------------------------------------------------


def _imports(path: Path, root: Path, module: str, package: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    file = path.relative_to(root).as_posix()
    base = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    aliases: set[str] = set()  # names that stand for the package itself
    for node, at_top in _walk(tree, at_top=True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, at_top)
                if alias.name == PACKAGE:
                    aliases.add(alias.asname or PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            source = ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])
            source = source if node.level else node.module or ""
            for alias in node.names:
                yield Import(file, node.lineno, _imported(source, alias.name, module, package), at_top)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield Import(file, node.lineno, f"{PACKAGE}.{node.attr}", at_top=False)
        elif module != PACKAGE and _is_module_name(node) and (file, node.value) not in BY_NAME:
            yield Import(file, node.lineno, node.value.split(":")[0], at_top=False)


def _is_module_name(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_MODULE_NAME.fullmatch(node.value))


def _imported(source: str, name: str, importer: str, package: Path) -> str:
    """Return what ``from source import name`` imports: a module where there is one, else a name of it."""
    if source.split(".")[0] not in (PACKAGE, COMMAND):
        return source
    if importer.split(".")[0] == COMMAND or source == COMMAND:
        return f"{source}.{name}"
    folder = package.joinpath(*source.split(".")[1:])
    is_module = (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()
    return f"{source}.{name}" if is_module else source


def _walk(node: ast.AST, *, at_top: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or typing_only
        yield child, at_top
        yield from _walk(child, at_top=at_top and not inside)


def _cycles(graph: dict[str, list[Import]]) -> Iterator[str]:
    """Yield one sentence for each circle of files that import each other when they are imported."""
    edges = {
        name: [(i, i.module) for i in imports if i.at_top and i.module in graph and i.module != name]
        for name, imports in graph.items()
    }
    done: set[str] = set()
    for start in graph:
        path: list[str] = []

        def visit(name: str, path: list[str] = path) -> Iterator[str]:
            path.append(name)
            for found, other in edges[name]:
                if other in path:
                    circle = " -> ".join([*path[path.index(other) :], other])
                    yield f"{found.where}: circular import {circle}"
                elif other not in done:
                    yield from visit(other)
            path.pop()
            done.add(name)

        if start not in done:
            yield from visit(start)
