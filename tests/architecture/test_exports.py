"""The public names: they exist, are described, and are listed in one way everywhere."""

from __future__ import annotations

import ast
import inspect
import types
from pathlib import Path

import pytest

import landscape

SOURCE = Path(landscape.__file__)
NAMES = [name for name in landscape.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_resolves_and_is_described(name: str) -> None:
    value = getattr(landscape, name)
    assert inspect.getdoc(value), f"landscape.{name} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name: str) -> None:
    value = getattr(landscape, name)
    if isinstance(value, types.ModuleType):
        functions = [f for f in vars(value).values() if inspect.isfunction(f) and not f.__name__.startswith("_")]
        described = [(f, inspect.getdoc(f) or "") for f in functions if f.__module__ == value.__name__]
    else:
        described = [(value, (inspect.getdoc(value) or "") + (inspect.getdoc(getattr(value, "__init__", None)) or ""))]
    for function, text in described:
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:
            continue
        missing = [p for p in parameters if p not in text]
        assert not missing, f"the docstring of {function.__qualname__} says nothing of {', '.join(missing)}"


def test_dir_is_all() -> None:
    assert dir(landscape) == sorted(landscape.__all__)


def test_all_is_sorted_and_without_doubles() -> None:
    assert list(dict.fromkeys(landscape.__all__)) == landscape.__all__


def test_type_checkers_see_what_is_loaded() -> None:
    """The block for type checkers and the table that loads on first use name the same things."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        for alias in node.names:
            assert alias.asname == alias.name, f"write `import {alias.name} as {alias.name}`: it is exported"
            seen[alias.name] = node.module
    assert seen == landscape._PUBLIC


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Hesian'"):
        _ = landscape.Hesian


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in SOURCE.parent.glob("*/__init__.py")))
def test_subpackage_lists_its_public_names(folder: str) -> None:
    module = __import__(f"landscape.{folder}", fromlist=["__all__"])
    assert module.__doc__, f"landscape.{folder} has no docstring"
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing, f"landscape.{folder}.__all__ names what is not there: {', '.join(missing)}"
