"""``landscape doctor``: a table in words, and an exit code that a script can ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

import landscape as ls
from landscape.diagnosis import CHECKS
from landscape_cli.main import main

TRAIN = """
import torch
from torch import nn
from torch.nn import functional
import landscape as ls

def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

X, Y = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 3

def make_objective():
    return ls.Objective(make_model(), nn.CrossEntropyLoss(), [(X, Y)])

def miscounted(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1], ignore_index=0), len(batch[0])

def sick():
    return ls.Objective(make_model(), miscounted, [(X, Y)])

def broken():
    raise ZeroDivisionError("mine")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return int(ended.value.code or 0)


def test_a_healthy_objective(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train.py:make_objective", "--out", "checkup.nc") == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("✓ pass ")]
    assert [line.split()[2] for line in lines] == list(CHECKS)
    assert f"✓ {len(CHECKS)} passed, 0 warnings, 0 failed" in printed
    assert "landscape render checkup.nc -o checkup.png" in printed
    stored = ls.load("checkup.nc")
    assert stored.kind == "checkup"
    assert list(stored.verdicts) == list(CHECKS)


@pytest.mark.parametrize("width", [80, 120])
def test_a_sick_objective_fails_with_the_remedy(
    width: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("train.py:sick") == 1
    printed = capsys.readouterr().out
    assert max(cell_len(line) for line in printed.splitlines()) <= width
    words = " ".join(printed.split())
    assert "✗ fail weights the mean divides by 20 examples; value or gradient change by" in words
    assert "→ return (loss, weight), weight being what the loss's mean divides by" in words
    assert "1 failed: weights" in words


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train.py:sick", "--json", "--seed", "2") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "failed"
    assert [row["check"] for row in found["checks"]] == list(CHECKS)
    assert set(found["checks"][0]) == {"check", "verdict", "finding", "remedy"}
    assert {row["check"]: row["verdict"] for row in found["checks"]}["weights"] == "fail"
    assert found["provenance"]["checkup_seed"] == 2


def test_one_cause_is_printed_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"0.weight": torch.full((6, 4), float("nan")), **_rest()}, "last.pt")
    assert run("train.py:make_objective", "--checkpoint", "last.pt") == 1
    printed = capsys.readouterr().out
    assert "0.weight holds NaN or infinity" in printed
    assert printed.count("not looked at, because loss failed") == len(CHECKS) - 2
    assert printed.count("→ mend loss first") == 1


def _rest() -> dict[str, torch.Tensor]:
    return {"0.bias": torch.zeros(6), "2.weight": torch.ones(3, 6), "2.bias": torch.zeros(3)}


def test_another_operator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train.py:make_objective", "--operator", "empirical-fisher", "--out", "a.nc") == 0
    assert "Fisher, empirical of Objective(" in capsys.readouterr().out
    assert ls.load("a.nc").provenance["operator"] == "Fisher"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train.py:nothing",), "has no function nothing"),
        (("train.py:broken",), "ZeroDivisionError: mine"),
        (("train.py:make_objective", "--operator", "hesian"), "there is no such operator, got hesian"),
        (("train.py:make_objective", "--out", "train.py"), "netCDF"),
        (("train.py:make_objective", "--checkpoint", "none.pt"), "none.pt"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1


def test_ctrl_c_prints_what_was_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from landscape.diagnosis.registry import Check

    def stop(subject: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(CHECKS, "weights", Check(stop))  # type: ignore[arg-type]
    assert run("train.py:make_objective") == 130
    printed = capsys.readouterr().out
    assert "✓ pass" in printed
    assert "✗ stopped by Ctrl-C: 3 passed" in printed
