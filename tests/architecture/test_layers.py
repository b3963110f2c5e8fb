"""Imports point down only, and the walk that says so finds every planted mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.layers import LAYERS, violations

ROOT = Path(__file__).parents[2]


def test_imports_point_down_only() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_each_member_stands_in_one_layer() -> None:
    members = [member for layer in LAYERS for member in layer]
    assert len(members) == len(set(members))


def _house(root: Path, **files: str) -> Path:
    """Write a small package with every member and ``files`` (``path__to__file`` -> source) into ``root``."""
    sources = {
        "landscape/__init__.py": '_PUBLIC = {"Objective": "landscape.objective"}\n__all__ = ["__version__"]\n',
        "landscape/errors.py": "",
        "landscape/seeds.py": "from landscape.errors import E\n",
        "landscape/results/__init__.py": 'from landscape.results.base import R\n__all__ = ["R"]\n',
        "landscape/results/base.py": 'from landscape.errors import E\n_DRAW = "landscape.plots:draw"\n',
        "landscape/space.py": "import torch\n",
        "landscape/objective/__init__.py": "from landscape.space import Space\n",
        "landscape/curvature/__init__.py": "from landscape.objective import Objective\n",
        "landscape/gradients/__init__.py": "from landscape import errors\n",
        "landscape/spectra/__init__.py": "from ..results import R\n",
        "landscape/plots/__init__.py": "from landscape.results import R\n",
        "cli/landscape_cli/__init__.py": "",
        "cli/landscape_cli/main.py": "import landscape as ls\nfrom landscape.results import R\nls.Objective\n",
    }
    for path, source in (sources | files).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source, encoding="utf-8")
    return root


def test_a_sound_house_has_no_violation(tmp_path: Path) -> None:
    assert violations(_house(tmp_path)) == []


@pytest.mark.parametrize(
    ("path", "source", "sentence"),
    [
        (
            "landscape/space.py",
            "\nfrom landscape.curvature import Hessian",
            "landscape/space.py:2: space imports landscape.curvature, which is in a layer above it",
        ),
        (
            "landscape/objective/pass.py",
            "def f():\n    from landscape.spectra import eigsh",
            "landscape/objective/pass.py:2: objective imports landscape.spectra, which is in a layer above it",
        ),
        (
            "landscape/objective/pass.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import landscape.monitor",
            "landscape/objective/pass.py:3: objective imports landscape.monitor, which is in a layer above it",
        ),
        (
            "landscape/gradients/noise.py",
            "from ..curvature import Hessian",
            "landscape/gradients/noise.py:1: gradients imports landscape.curvature, which stands beside it",
        ),
        (
            "landscape/errors.py",
            "from landscape import seeds",
            "landscape/errors.py:1: errors imports landscape.seeds, which stands beside it",
        ),
        (
            "landscape/curvature/hessian.py",
            "from landscape import Objective",
            "landscape/curvature/hessian.py:1: curvature imports landscape, which is in a layer above it",
        ),
        (
            "landscape/results/base.py",
            '_MONITOR = "landscape.monitor:Monitor"',
            "landscape/results/base.py:1: results imports landscape.monitor, which is in a layer above it",
        ),
        (
            "landscape/spectra/lanczos.py",
            "from landscape.curvature import Hessian",
            "landscape/spectra/lanczos.py:1: spectra imports landscape.curvature, but may import errors,",
        ),
        (
            "landscape/plots/surface.py",
            "def draw():\n    import torch.nn as nn",
            "landscape/plots/surface.py:2: plots must not import torch",
        ),
        ("landscape/plots/surface.py", "from landscape.space import Space", "but may import errors,"),
        ("landscape/utils.py", "", "landscape/utils.py is in no layer"),
        (
            "cli/landscape_cli/main.py",
            "from landscape.results.base import R",
            "cli/landscape_cli/main.py:1: landscape_cli uses landscape.results.base.R, which is not in",
        ),
        (
            "cli/landscape_cli/main.py",
            "from landscape.objective import _secret",
            "landscape_cli uses landscape.objective._secret, which is not in",
        ),
        ("cli/landscape_cli/main.py", "from landscape import space", "landscape.space, which is not public"),
        (
            "cli/landscape_cli/main.py",
            "import landscape\nlandscape._hidden()",
            "cli/landscape_cli/main.py:2: landscape_cli uses landscape._hidden, which is not public",
        ),
        (
            "landscape/results/base.py",
            "from landscape.results import R",
            "circular import landscape.results -> landscape.results.base -> landscape.results",
        ),
    ],
)
def test_a_planted_mistake_is_named(tmp_path: Path, path: str, source: str, sentence: str) -> None:
    found = violations(_house(tmp_path, **{path: source}))
    assert any(sentence in named for named in found), found
