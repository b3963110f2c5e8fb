"""A folder with a user's file in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.given import TRAIN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path
