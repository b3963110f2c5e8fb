"""``landscape demo``, as small as it gets, to its report; and how it behaves when it cannot go on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import landscape as ls
from landscape.results import Family, Recording, Surface
from landscape_cli.demo.settings import Settings
from landscape_cli.demo.study import Study
from tests.cli.given import run

TINY = Settings(
    width=4, blocks=1, epochs=1, record_every=15, snapshot_every=5, probe=30, examples=40, eigenvalues=3,
    trace_products=16, probes=2, steps=6, points=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "runs" / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "quick", classmethod(lambda cls: TINY))
        assert run("demo", "--quick", "--out", str(folder)) == 0
    return folder


def test_everything_is_there_and_loads(finished: Path) -> None:
    kinds = {
        "run-residual": Recording,
        "eigenvalues-top.nc": Family,
        "eigenvalues-bottom.nc": Family,
        "trace.nc": Family,
        "density.nc": Family,
        "surface-residual.nc": Surface,
        "trajectory-surface-plain.nc": Surface,
    }
    for name, kind in kinds.items():
        assert isinstance(ls.load(finished / name), kind), name
    assert list(ls.load(finished / "density.nc")) == ["residual", "plain"]
    assert len(list(finished.glob("*.png"))) == 11
    assert not list(finished.glob(".*"))


def test_the_report_is_one_page_that_needs_no_network(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    outside = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]*)"', page)
    assert not outside
    assert page.count("landscape demo --quick") >= 1
    for text in ("residual", "plain", "eigenvalues", "Trace", "surfaces", "path"):
        assert text in page


def test_the_recorded_run_is_of_training(finished: Path) -> None:
    data = ls.load(finished / "run-residual").dataset
    assert data.sizes["step"] == 23
    assert np.isfinite(data["loss"]).all()
    assert list(data["sharpness_step"].to_numpy()) == [0, 5, 10, 15, 20, 23]
    assert data["conflict_cosine"].shape[1:] == (9, 9)  # thirty images show nine of the digits
    assert float(data["threshold"][0]) == pytest.approx(38)


def test_a_second_run_does_not_overwrite(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "report.html").read_bytes()
    assert run("demo", "--quick", "--out", str(finished)) == 2
    assert "the folder already holds a demo" in capsys.readouterr().err
    assert (finished / "report.html").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run("demo", "--quick", "--overwrite", "--out", str(tmp_path)) == 2
    assert "the folder holds other files" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_ctrl_c_leaves_what_was_finished(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = Study.stages

    def stopped(self: Study) -> object:
        for i, done in enumerate(stages(self)):
            if i == after:
                raise KeyboardInterrupt
            yield done

    monkeypatch.setattr(Study, "stages", stopped)
    monkeypatch.setattr(Settings, "quick", classmethod(lambda cls: TINY))
    assert run("demo", "--quick", "--out", str(tmp_path / "demo")) == 130
    printed = capsys.readouterr().out
    assert printed.index("stopped by Ctrl-C; drawing what was finished") < printed.index("what was finished is in")
    assert (tmp_path / "demo" / "report.html").exists()


def test_other_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 3, 16, 16), dtype=np.uint8)
    np.savez(
        tmp_path / "images.npz", x_train=images, y_train=np.arange(80) % 4, x_test=images[:8], y_test=np.arange(8) % 4
    )
    monkeypatch.setattr(Settings, "quick", classmethod(lambda cls: TINY))
    out = tmp_path / "demo"
    assert run("demo", "--quick", "--out", str(out), "--data", str(tmp_path / "images.npz")) == 0
    assert "images, 80 training images" in capsys.readouterr().out
    np.savez(tmp_path / "bad.npz", x_train=images)
    assert run("demo", "--out", str(tmp_path / "b"), "--data", str(tmp_path / "bad.npz")) == 2
    assert "the file lacks arrays, got y_train, x_test, y_test" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
