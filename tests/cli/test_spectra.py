"""``eigs``, ``trace`` and ``spectrum``: the public functions' numbers, by layer and by checkpoint, gone on with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape_cli.operators import OPERATORS
from tests.cli.given import TRAIN, run, start

TARGET = "train.py:make_objective"
QUICK = {
    "eigs": ("-k", "2"),
    "trace": ("--products", "24"),
    "spectrum": ("--probes", "2", "--steps", "6"),
}


def made(state: Any = None) -> ls.Objective:
    """Return what the target makes, with other weights if given."""
    namespace: dict[str, Any] = {}
    exec(TRAIN, namespace)
    objective: ls.Objective = namespace["make_objective"]()
    if state is not None:
        objective.model.load_state_dict(state)
    return objective


def expected(command: str, operator: Any) -> Any:
    """Return what a quick command must find."""
    if command == "eigs":
        return ls.eigsh(operator, 2)
    if command == "trace":
        return ls.trace(operator, products=24)
    return ls.spectral_density(operator, probes=2, steps=6)


def numbers(result: Any) -> list[float]:
    """Return what a result says, as numbers that rounding does not move."""
    if result.kind == "eigenpairs":
        return list(result.values)
    if result.kind == "trace":
        return [result.estimate, result.stderr]
    return [result.moment(degree) for degree in (1, 2, 3)]


def same(result: Any, other: Any) -> None:
    """Check that two results, or families of them, hold the same numbers."""
    if result.kind == "family":
        assert list(result) == list(other)
        for name in result:
            same(result[name], other[name])
    else:
        assert numbers(result) == pytest.approx(numbers(other), rel=1e-3, abs=1e-6)


@pytest.fixture
def checkpoints(folder: Path) -> Path:
    """Write four checkpoints of the target's model, in an order that only numbers tell."""
    (folder / "ckpt").mkdir()
    for step in (1, 2, 10, 100):
        model = made().model
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + step / 50)
        torch.save({"model_state_dict": model.state_dict()}, folder / "ckpt" / f"step-{step}.pt")
    return folder


def lines(printed: str) -> list[list[str]]:
    """Return the cells of each line of a table."""
    return [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]


@pytest.mark.parametrize("command", QUICK)
@pytest.mark.parametrize("name", OPERATORS)
def test_numbers_are_those_of_the_public_function(
    command: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, TARGET, "--operator", name, "--params", "2.*", "--out", "x.nc", *QUICK[command]) == 0
    printed = capsys.readouterr().out
    assert f": {OPERATORS[name][0]}" in printed
    assert "wrote x.nc; draw it with: landscape render x.nc -o x.png" in printed
    part = OPERATORS[name][1](made()).restrict("2.*")
    same(ls.load("x.nc"), expected(command, part))


def test_the_table_of_eigenpairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--which",
        "SA",
        "--count",
        "3",
        "--tol",
        "1e-3",
        "--seed",
        "4",
        "--max-products",
        "200",
        "--basis",
        "20",
    )
    assert run("eigs", TARGET, *options) == 0
    found = ls.load("eigs.nc")
    other = ls.eigsh(ls.Hessian(made()), 3, "SA", tol=1e-3, seed=4, max_matvecs=200)
    same(found, other)
    table = lines(capsys.readouterr().out)
    assert ["value", "residual", "relative"] in table
    for i, (value, residual, good) in enumerate(zip(found.values, found.residuals, found.converged, strict=True), 1):
        (row,) = [row for row in table if row[0] == f"λ{i}"]
        state = "converged" if good else "not converged"
        assert row[1:] == [f"{value:.6g}", f"{residual:.1e}", f"{residual / abs(value):.1e}", state]


def test_values_near_a_shift(folder: Path) -> None:
    every = torch.linalg.eigvalsh(ls.Hessian(made()).to_dense().double()).numpy()
    near = float(np.sort(every)[-5]) * 1.01
    assert run("eigs", TARGET, "-k", "2", "--which", "LM", f"--sigma={near}") == 0
    nearest = every[np.argsort(np.abs(every - near))[:2]]
    assert np.sort(ls.load("eigs.nc").values) == pytest.approx(np.sort(nearest), rel=1e-3)


def test_options_of_a_trace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--rtol", "0.3", "--method", "hutchinson", "--seed", "5", "--max-products", "500")
    assert run("trace", TARGET, *options) == 0
    other = ls.trace(ls.Hessian(made()), 0.3, method="hutchinson", seed=5, max_products=500)
    same(ls.load("trace.nc"), other)
    assert run("trace", TARGET, "--function", "square", "--operator", "ggn", "--out", "t2.nc") == 0
    square = torch.linalg.eigvalsh(ls.GGN(made()).to_dense().double()).square().sum()
    low, high = ls.load("t2.nc").interval(0.999)
    assert low * (1 - 1e-6) <= float(square) <= high * (1 + 1e-6)  # exact, to the rounding of float32
    assert "square" in capsys.readouterr().out


def test_a_trace_by_layer_is_printed_from_the_same_products(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", TARGET, "--by-layer", "--products", "30") == 0
    found = ls.load("trace.nc")
    assert found.kind == "trace"
    table = lines(capsys.readouterr().out)
    assert ["layer", "share", "95 % interval"] in table
    for layer in ("0", "2"):
        share = found.by_layer.sel(layer=layer)
        (row,) = [row for row in table if row[0] == layer]
        assert row[1] == f"{float(share['estimate']):.4g} ± {float(share['stderr']):.2g}"
        assert row[2] == f"[{float(share['low']):.4g}, {float(share['high']):.4g}]"


def test_densities_by_layer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", TARGET, "--by-layer", *QUICK["spectrum"]) == 0
    found = ls.load("spectrum.nc")
    assert (found.by, list(found)) == ("layer", ["0", "2"])
    for name, block in ls.Hessian(made()).blocks().items():
        same(found[name], expected("spectrum", block))
    assert [row[0] for row in lines(capsys.readouterr().out)][1:4] == ["layer", "0", "2"]


def test_eigenvalues_by_layer_with_what_layers_miss(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eigs", TARGET, "--by-layer") == 0
    found = ls.load("eigs.nc")
    assert list(found) == ["0", "2"]
    other = ls.eigsh_by_layer(ls.Hessian(made()))
    assert found.missed == pytest.approx(other.missed, rel=1e-3)
    for name in found:
        same(found[name], other[name])
    printed = capsys.readouterr().out
    assert "share of |A|_F² outside the blocks" in printed
    assert [row[0] for row in lines(printed)][1:4] == ["layer", "0", "2"]


@pytest.mark.parametrize("command", QUICK)
def test_several_checkpoints_are_a_family(
    command: str, checkpoints: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(command, TARGET, "--checkpoint", "ckpt/*.pt", "--out", "f.nc", *QUICK[command]) == 0
    printed = capsys.readouterr().out
    found = ls.load("f.nc")
    names = ["step-1", "step-2", "step-10", "step-100"]
    assert (found.by, list(found)) == ("checkpoint", names)
    assert [row[0] for row in lines(printed)][1:6] == ["checkpoint", *names]
    for name in names:
        state = torch.load(checkpoints / "ckpt" / f"{name}.pt")["model_state_dict"]
        same(found[name], expected(command, ls.Hessian(made(state))))
    for picture in ("f.png", "f.html"):
        assert run("render", "f.nc", "-o", picture) == 0
        assert (checkpoints / picture).stat().st_size > 5000
    assert run("report", "f.nc", "-o", "r.html") == 0
    assert "step-100" in (checkpoints / "r.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("inspect", "f.nc") == 0
    printed = capsys.readouterr().out
    assert [row[0] for row in lines(printed)][1:6] == ["checkpoint", *names]


def test_each_checkpoint_is_read_when_its_turn_comes(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "ckpt" / "step-10.pt").write_bytes(b"torn")
    arguments = ("trace", TARGET, "--checkpoint", "ckpt/*.pt", *QUICK["trace"])
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert "the checkpoint cannot be read, got ckpt/step-10.pt" in printed
    assert not (checkpoints / "trace.nc").exists()
    torch.save(made().model.state_dict(), checkpoints / "ckpt" / "step-10.pt")
    assert run(*arguments) == 0
    assert len(ls.load("trace.nc")) == 4


def test_one_checkpoint_is_one_answer(checkpoints: Path) -> None:
    for how in (("ckpt/step-10.pt",), ("ckpt/step-1?.pt",), ("ckpt/step-10.pt", "--checkpoint", "./ckpt/step-10.pt")):
        assert run("trace", TARGET, "--overwrite", *QUICK["trace"], "--checkpoint", *how) == 0
        assert ls.load("trace.nc").kind == "trace"


def test_traces_by_layer_of_checkpoints_side_by_side(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", TARGET, "--checkpoint", "ckpt/step-1*.pt", "--by-layer", *QUICK["trace"]) == 0
    table = lines(capsys.readouterr().out)
    assert ["layer", "step-1", "step-10", "step-100"] in table
    share = ls.load("trace.nc")["step-10"].by_layer.sel(layer="2")
    (row,) = [row for row in table if row[0] == "2"]
    assert row[2] == f"{float(share['estimate']):.4g} ± {float(share['stderr']):.2g}"


@pytest.mark.parametrize("command", QUICK)
def test_one_answer_for_each_class(command: str, folder: Path) -> None:
    assert run(command, TARGET, "--by-class", "-o", "x.nc", *QUICK[command]) == 0
    found = ls.load("x.nc")
    assert (found.by, list(found)) == ("class", ["0", "1", "2"])
    for label, objective in made().by_class().items():
        same(found[str(label)], expected(command, ls.Hessian(objective)))


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no checkpoint": (("--checkpoint", "no/*.pt"), "there is no such checkpoint, got no/*.pt; check the path, and put"),
    "a netCDF file": (("--out", "x.txt"), "results are saved as netCDF files, got x.txt; pass --out x.nc"),
    "a missing folder": (("-o", "no/x.nc"), "the folder to write into does not exist"),
    "an operator": (("--operator", "hesse"), "there is no such operator, got hesse"),
    "parameters": (("--params", "7.*"), "selects no parameter"),
}
OWN_BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no pairs": (("eigs", TARGET, "-k", "0"), "k must"),
    "an end": (("eigs", TARGET, "--which", "up"), "which must be"),
    "a tolerance": (("eigs", TARGET, "--tol", "0"), "tol must be positive"),
    "a shift by layer": (("eigs", TARGET, "--by-layer", "--sigma", "1"), "--by-layer has no --sigma"),
    "both stops": (("trace", TARGET, "--rtol", "0.1", "--products", "9"), "are two ways to say when to stop"),
    "a method": (("trace", TARGET, "--method", "luck"), "method"),
    "a function": (("trace", TARGET, "--function", "sine"), "function"),
    "no probes": (("spectrum", TARGET, "--probes", "0"), "probes and steps must be at least 1"),
}


def refused(arguments: tuple[str, ...], text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in folder.iterdir())
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert text in printed
    assert printed.startswith("landscape: ")
    assert printed.count("\n") == 1
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == before


@pytest.mark.parametrize("command", QUICK)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_of_all_is_one_sentence(
    command: str, case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused((command, TARGET, *BAD[case][0]), BAD[case][1], folder, capsys)


@pytest.mark.parametrize("case", OWN_BAD)
def test_bad_input_of_one_is_one_sentence(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(*OWN_BAD[case], folder, capsys)


@pytest.mark.parametrize("command", ["eigs", "spectrum"])
def test_layers_of_several_checkpoints_are_refused(
    command: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "--by-layer takes one checkpoint at a time, got step-1, step-2, step-10, step-100; ask for one"
    refused((command, TARGET, "--by-layer", "--checkpoint", "ckpt/*.pt"), text, checkpoints, capsys)


def test_classes_of_several_checkpoints_or_by_layer_are_refused(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "--by-class takes one checkpoint at a time, got step-1, step-2, step-10, step-100; ask for one"
    refused(("spectrum", TARGET, "--by-class", "--checkpoint", "ckpt/*.pt"), text, checkpoints, capsys)
    text = "--by-layer takes one class at a time, got 0, 1, 2; ask for one"
    refused(("spectrum", TARGET, "--by-class", "--by-layer"), text, checkpoints, capsys)


@pytest.mark.parametrize("command", QUICK)
def test_files_are_kept(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.nc").write_text("mine")
    refused((command, TARGET, "-o", "x.nc"), "the file is already there, got x.nc; pass --overwrite", folder, capsys)
    assert (folder / "x.nc").read_text() == "mine"
    assert run(command, TARGET, "-o", "x.nc", "--overwrite", *QUICK[command]) == 0
    assert ls.load("x.nc").ok


def test_an_error_names_the_checkpoint(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load("ckpt/step-2.pt")["model_state_dict"]
    state["2.bias"][0] = float("nan")
    torch.save(state, "ckpt/step-2.pt")
    assert run("eigs", TARGET, "--checkpoint", "ckpt/*.pt", "-k", "1") == 2
    printed = capsys.readouterr().err
    assert "is not finite" in printed
    assert "(checkpoint step-2)" in printed
    assert printed.count("\n") == 1


# -- ends of all kinds --------------------------------------------------------------------------------

#: A layer that kills the process, or interrupts it once, at a pass or as soon as a file is there: see "end".
ENDING = (
    TRAIN
    + """
import os, signal
from pathlib import Path

class Ending(nn.Module):
    passes = 0
    def forward(self, x):
        self.look()
        if x.requires_grad:
            x.register_hook(self.look)
        return x

    def look(self, gradient=None):
        Ending.passes += 1
        sign = Path("end")
        if sign.exists():
            how, when = sign.read_text().split()
            if Ending.passes >= int(when) if when.isdigit() else Path(when).exists():
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                sign.unlink()
                raise KeyboardInterrupt

def ending():
    torch.manual_seed(1)
    return make(make_model().append(Ending()), [(torch.randn(20, 4), torch.arange(20) % 3)])
"""
)


@pytest.mark.parametrize("command", QUICK)
def test_ctrl_c_among_checkpoints_and_the_same_command_goes_on(
    command: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "train.py").write_text(ENDING)
    arguments = (command, "train.py:ending", "--checkpoint", "ckpt/*.pt", *QUICK[command])
    assert run(*arguments, "-o", "whole.nc") == 0
    (checkpoints / "end").write_text("stop .f.partial/1.nc")
    capsys.readouterr()
    assert run(*arguments, "-o", "f.nc") == 130
    printed = capsys.readouterr().out
    assert "stopped by Ctrl-C after 2 of 4" in printed
    assert [row[0] for row in lines(printed)][2:4] == ["step-1", "step-2"]
    assert "f.nc was not written; the same command goes on from here" in printed
    assert not (checkpoints / "f.nc").exists()
    stamps = [(checkpoints / f".f.partial/{i}.nc").stat().st_mtime_ns for i in (0, 1)]
    (checkpoints / "end").write_text("stop .f.partial/2.nc")
    assert run(*arguments, "-o", "f.nc") == 130
    assert stamps == [(checkpoints / f".f.partial/{i}.nc").stat().st_mtime_ns for i in (0, 1)]
    assert run(*arguments, "-o", "f.nc") == 0
    same(ls.load("f.nc"), ls.load("whole.nc"))
    assert not list(checkpoints.glob(".f*"))


@pytest.mark.parametrize("command", QUICK)
def test_ctrl_c_within_one_answer_and_the_same_command_goes_on(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.py").write_text(ENDING)
    arguments = (command, "train.py:ending", *QUICK[command])
    assert run(*arguments, "-o", "whole.nc") == 0
    for call in (2, 12, 16):
        (folder / "end").write_text(f"stop {call}")
        capsys.readouterr()
        assert run(*arguments, "-o", "x.nc") == 130
        printed = capsys.readouterr()
        assert "stopped by Ctrl-C" in printed.out
        assert "x.nc was not written; the same command goes on from here" in printed.out
        assert not printed.err
        assert not (folder / "x.nc").exists()
    assert run(*arguments, "-o", "x.nc") == 0
    same(ls.load("x.nc"), ls.load("whole.nc"))
    assert not list(folder.glob(".x*"))


def test_a_killed_command_goes_on(checkpoints: Path) -> None:
    (checkpoints / "train.py").write_text(ENDING)
    arguments = ("trace", "train.py:ending", "--checkpoint", "ckpt/*.pt", *QUICK["trace"])
    assert run(*arguments, "-o", "whole.nc") == 0
    (checkpoints / "end").write_text("kill .f.partial/1.nc")
    process = start(checkpoints, *arguments, "-o", "f.nc")
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert not (checkpoints / "f.nc").exists()
    stamp = (checkpoints / ".f.partial/1.nc").stat().st_mtime_ns
    (checkpoints / "end").write_text("stop .f.partial/2.nc")
    assert run(*arguments, "-o", "f.nc") == 130
    assert stamp == (checkpoints / ".f.partial/1.nc").stat().st_mtime_ns
    assert run(*arguments, "-o", "f.nc") == 0
    same(ls.load("f.nc"), ls.load("whole.nc"))
    assert not list(checkpoints.glob(".f*"))
