"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import landscape as ls
from landscape_cli.main import main
from landscape_cli.operators import OPERATORS
from tests.cli.given import TRAIN, run, start


def test_surface_then_render_then_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("surface", "train.py:make_objective", "-o", "s.nc", "--points", "5", "--metrics", "loss,accuracy") == 0
    assert "25 of 25 points evaluated" in capsys.readouterr().out
    found = ls.load("s.nc")
    assert found.dataset["loss"].shape == (5, 5)
    for name in ("s.png", "s.pdf", "s.svg", "s.html"):
        assert run("render", "s.nc", "-o", name) == 0
        assert (folder / name).stat().st_size > 1000
    capsys.readouterr()
    assert run("inspect", "s.nc") == 0
    printed = capsys.readouterr().out
    for text in ("surface: complete", "at the centre", "accuracy", "versions", "fingerprint", "eval"):
        assert text in printed
    assert run("inspect", "s.nc", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "surface"
    assert run("report", "s.nc", "-o", "r.html") == 0
    assert (folder / "r.html").stat().st_size > 1_000_000


def test_spectrum_equals_the_public_function(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", "train.py:make_objective", "-o", "d.nc", "--probes", "2", "--steps", "8", "--seed", "3") == 0
    assert "landscape render d.nc" in capsys.readouterr().out
    namespace: dict[str, Any] = {}
    exec(TRAIN, namespace)
    objective = namespace["make_objective"]()
    expected = ls.spectral_density(ls.Hessian(objective), probes=2, steps=8, seed=3)
    assert (ls.load("d.nc").dataset["nodes"].to_numpy() == expected.nodes).all()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_spectrum_of_each_operator(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--operator", name, "--params", "2.*", "--probes", "2", "--steps", "4")
    assert run("spectrum", "train.py:make_objective", "-o", "d.nc", *options) == 0
    assert f"spectral density: {OPERATORS[name][0]}" in capsys.readouterr().out
    namespace: dict[str, Any] = {}
    exec(TRAIN, namespace)
    part = OPERATORS[name][1](namespace["make_objective"]()).restrict("2.*")
    assert part.shape == (21, 21)
    expected = ls.spectral_density(part, probes=2, steps=4)
    assert (ls.load("d.nc").dataset["nodes"].to_numpy() == expected.nodes).all()


def lines(printed: str) -> list[list[str]]:
    """Return the cells of each line of a table."""
    return [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]


def test_costs_of_every_operator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cost", "train.py:make_objective", "--products", "7") == 0
    printed = capsys.readouterr().out
    table = lines(printed)
    assert table[0] == ["operator", "backend", "1 product", "7 products"]
    rows = [row for row in table if len(row) == 4][1:]
    hessians = ["autograd (auto)", "forward", "difference"]
    assert [row[1] for row in rows if row[0] == "Hessian"] == hessians
    assert {row[0] for row in rows} == {words for words, _ in OPERATORS.values()}
    for row in rows:
        assert all(re.fullmatch(r"[\d.]+ m?s, [\d.]+ [kM]?B", cell) for cell in row[2:]), row
    assert "GGN; Fisher, exact; Fisher, empirical; GradientCovariance: forward (tangents by dual numbers)" in printed


def test_costs_where_operators_are_not_defined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cost", "train.py:margin", "--products", "2") == 0
    printed = capsys.readouterr().out
    rows = lines(printed)
    assert ["Hessian", "autograd", "not defined"] in rows
    assert ["Fisher, exact", "not defined"] in rows
    assert any(row[:2] == ["Hessian", "difference (auto)"] for row in rows)
    assert "Fisher, exact: this Fisher information needs a loss that is" in printed
    assert "; autograd: no derivative of aten::multi_margin_loss_backward; forward: no" in printed
    assert "'auto'" not in next(line for line in printed.splitlines() if line.startswith("  GGN: "))


def test_a_checkpoint_is_used(folder: Path) -> None:
    state = {
        "0.weight": torch.ones(6, 4),
        "0.bias": torch.zeros(6),
        "2.weight": torch.ones(3, 6),
        "2.bias": torch.ones(3),
    }
    torch.save({"state_dict": state}, "last.pt")
    arguments = ("surface", "train.py:make_objective", "-o", "s.nc", "--points", "3", "--dimensions", "1")
    assert run(*arguments, "--checkpoint", "last.pt") == 0
    found = ls.load("s.nc")
    # equal scores for every class
    assert json.loads(found.dataset.attrs["centre"])["loss"] == pytest.approx(1.0986, abs=1e-3)


BAD = {
    "an empty loader": (("surface", "train.py:empty"), "the data holds no batch"),
    "reduction none": (("surface", "train.py:unreduced"), "reduction='none'"),
    "no trainable parameters": (("surface", "train.py:frozen"), "no trainable parameters"),
    "a selection of nothing": (("spectrum", "train.py:nothing"), "params= selects no parameter"),
    "a NaN loss": (("surface", "train.py:nan", "-o", "x.nc"), "the loss is not finite"),
    "a NaN loss in a spectrum": (("spectrum", "train.py:nan", "-o", "x.nc"), "the loss is not finite"),
    "an unknown metric": (
        ("surface", "train.py:make_objective", "--metrics", "los"),
        "there is no such metric, got los",
    ),
    "an unknown operator": (
        ("spectrum", "train.py:make_objective", "--operator", "hesse"),
        "there is no such operator, got hesse; use one of hessian, ggn, fisher",
    ),
    "a part of nothing": (("spectrum", "train.py:make_objective", "--params", "3.*"), "selects no parameter"),
    "an operator that is not defined": (
        ("spectrum", "train.py:margin", "--operator", "fisher"),
        "this Fisher information needs a loss that is the negative logarithm of a likelihood",
    ),
    "costs of a NaN loss": (("cost", "train.py:nan"), "the loss is not finite"),
    "costs of no product": (("cost", "train.py:make_objective", "--products", "0"), "products must be at least 1"),
    "a missing result": (("render", "no.nc", "-o", "x.png"), "there is no such result, got no.nc"),
    "a missing result to inspect": (("inspect", "no.nc"), "there is no such result"),
    "a missing file": (("surface", "no.py:make_objective"), "there is no such file, got no.py"),
    "a missing function": (("surface", "train.py:no"), "train.py has no function no"),
    "a target without a function": (("surface", "train.py"), "the target must be MODULE:FUNCTION"),
    "a function that fails": (("surface", "train.py:broken"), "ZeroDivisionError: mine"),
    "a function that returns something else": (("surface", "train.py:other"), "must return a landscape.Objective"),
    "a missing checkpoint": (("surface", "train.py:make_objective", "--checkpoint", "no.pt"), "no such checkpoint"),
    "a bad span": (("surface", "train.py:make_objective", "--span", "1"), "--span must be LOW,HIGH"),
    "a missing folder": (
        ("spectrum", "train.py:make_objective", "-o", "no/d.nc"),
        "the folder to write into does not exist",
    ),
    "demo data that are missing": (("demo", "--data", "no.npz"), "there is no such file, got no.npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, text = BAD[case]
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert text in printed
    assert printed.startswith("landscape: ")
    assert printed.count("\n") == 1
    assert "Traceback" not in printed
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["train.py"]


def test_debug_shows_the_traceback(folder: Path) -> None:
    with pytest.raises(ls.errors.InputError):
        main(["surface", "train.py:frozen", "--debug"])


def test_files_are_not_overwritten_silently(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "s.nc").write_text("mine")
    for arguments in (
        ("surface", "train.py:make_objective", "-o", "s.nc"),
        ("spectrum", "train.py:make_objective", "-o", "s.nc"),
    ):
        assert run(*arguments) == 2
        assert "the file is already there" in capsys.readouterr().err
    assert (folder / "s.nc").read_text() == "mine"


def test_usage_errors_exit_with_2_and_help_with_0(folder: Path) -> None:
    assert run("surface") == 2
    assert run("nonsense") == 2
    assert run("--help") == 0
    assert run("--version") == 0


def test_ctrl_c_leaves_a_partial_surface_that_the_same_command_finishes(folder: Path) -> None:
    slow = TRAIN.replace("torch.randn(20, 4), torch.arange(20)", "torch.randn(20000, 4), torch.arange(20000)")
    (folder / "train.py").write_text(slow)
    arguments = ("surface", "train.py:make_objective", "-o", "s.nc", "--points", "401")  # minutes
    process = start(folder, *arguments)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    if "stopped by Ctrl-C: " in out:  # the machine was fast enough to be stopped in the middle
        assert "s.nc was not written; the same command goes on from here" in out
        assert (folder / ".s.partial.npz").exists()
    assert not (folder / "s.nc").exists()
