"""Which files ``--checkpoint`` names, in which order, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from landscape.errors import FileError
from landscape_cli.checkpoints import checkpoints, short_names

NAMES = {
    "numbers": (["c/step-9.pt", "c/step-10.pt"], ["step-9", "step-10"]),
    "folders": (["runs/small/last.pt", "runs/large/last.pt"], ["small", "large"]),
    "both": (["runs/a/step-1.pt", "runs/b/step-2.pt"], ["a/step-1", "b/step-2"]),
    "endings": (["a.pt", "a.bin"], ["a.pt", "a.bin"]),
    "dots": (["v1.5.pt", "v1.6.pt"], ["v1.5", "v1.6"]),
    "one inside the other": (["a/b.pt", "a/x/b.pt"], ["b", "x/b"]),
    "one": (["runs/a/last.pt"], ["last"]),
    "none": ([], []),
    "absolute": (["/r/1/m/last.pt", "/r/2/m/last.pt"], ["1", "2"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_what_tells_paths_apart(case: str) -> None:
    paths, names = NAMES[case]
    assert short_names([Path(path) for path in paths]) == names
    assert len(set(names)) == len(names)


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_globs_come_in_natural_order_and_paths_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, *(f"c/step-{n}.pt" for n in (100, 9, 10)), "c/last.pt", "c/notes.txt", "c/d/step-11.pt")
    assert list(checkpoints(["c/step-*.pt"])) == ["step-9", "step-10", "step-100"]
    assert list(checkpoints(["c/**/step-1?.pt"])) == ["d/step-11", "step-10"]
    assert list(checkpoints(["c/step-10.pt", "c/last.pt", "c/step-9.pt"])) == ["step-10", "last", "step-9"]
    assert list(checkpoints(["c/last.pt", "c/*.pt"])) == ["last", "step-9", "step-10", "step-100"]
    assert checkpoints(["./c/last.pt", "c/last.pt"]) == {"last": Path("c/last.pt")}
    assert checkpoints([]) == {}


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "lr[0.1].pt", "lr0.pt")
    assert list(checkpoints(["lr[0.1].pt"]).values()) == [Path("lr[0.1].pt")]
    assert list(checkpoints(["lr[0].pt"]).values()) == [Path("lr0.pt")]


@pytest.mark.parametrize("pattern", ["no.pt", "*.ckpt", "c"])
def test_nothing_found_is_refused(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "c/a.pt")
    with pytest.raises(FileError, match="there is no such checkpoint, got"):
        checkpoints(["c/a.pt", pattern])
