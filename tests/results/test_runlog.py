"""The log of a run is readable after any crash, and a resumed run goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import FileError
from landscape.results import Recording
from landscape.results.runlog import HEADER, LOG, SNAPSHOTS, RunLog, read_log
from tests.results.test_store import LINES


def every(step: int, loss: Any = 1.0) -> dict[str, Any]:
    return {"step": step, "values": {"loss": loss, "lr": 0.1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "a"


def start(folder: Path, **options: Any) -> RunLog:
    return RunLog(folder, {"optimizer": "SGD", "provenance": {"seed": 1}}, **options)


def test_written_and_read(folder: Path) -> None:
    log = start(folder)
    log.append(LINES[:3])
    log.append(LINES[3:])
    log.snapshot(0, np.arange(3.0))
    log.snapshot(10, np.arange(3.0) * 2)
    log.write_header(status="complete", message="done")
    log.close()
    run = ls.load(folder)
    assert isinstance(run, Recording)
    assert run.status == "complete"
    assert run.message == "done"
    assert run.provenance == {"seed": 1}
    assert run.header["optimizer"] == "SGD"
    assert run.metrics == ["sharpness", "conflict"]
    np.testing.assert_array_equal(run.series("loss"), [2.0, np.nan, 1.0])
    np.testing.assert_array_equal(run.series("gradient_norm"), [np.nan, np.inf, np.nan])
    np.testing.assert_array_equal(run.series("sharpness"), [9.0, np.nan])
    np.testing.assert_array_equal(run.series("sharpness")["sharpness_step"], [1, 2])
    assert list(run.series("sharpness_status").to_numpy()) == ["converged", "failed: out of memory"]
    np.testing.assert_array_equal(run.series("cosine")[0], [[1.0, np.nan], [-np.inf, 1.0]])
    steps, vectors = run.snapshots()
    assert steps == [0, 10]
    np.testing.assert_array_equal(vectors[1], [0.0, 2.0, 4.0])
    with pytest.raises(KeyError, match="nothing called 'sharpnes' was recorded; there is"):
        run.series("sharpnes")


def test_saved_as_one_file_it_is_the_same(folder: Path, tmp_path: Path) -> None:
    log = start(folder)
    log.append(LINES)
    log.close()
    run = ls.load(folder)
    again = ls.load(run.save(tmp_path / "run.nc"))
    xr.testing.assert_identical(again.dataset, run.dataset)
    assert again.snapshots() == ([], [])


def test_not_finite_values_of_every_type(folder: Path) -> None:
    log = start(folder)
    values = {"a": float("nan"), "b": np.float32("inf"), "c": np.float64("-inf"), "d": np.int64(3), "e": np.bool_(True)}
    arrays = {"f": np.array([[1.0, np.nan]]), "g": (1, 2.5), "h": None}
    log.append([{"step": 0, "values": values}, {"step": 0, "metric": "m", "values": arrays}])
    log.close()
    text = (folder / LOG).read_text()
    for line in text.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    run = ls.load(folder)
    got = [float(run.series(name)[0]) for name in "abcde"]
    np.testing.assert_array_equal(got, [np.nan, np.inf, -np.inf, 3.0, 1.0])
    np.testing.assert_array_equal(run.series("f")[0], [[1.0, np.nan]])
    np.testing.assert_array_equal(run.series("g")[0], [1.0, 2.5])
    assert np.isnan(run.series("h")[0])


def test_killed_at_any_byte(folder: Path) -> None:
    """Whatever part of the last line was written, all lines before it are read."""
    log = start(folder)
    log.append([every(0), every(1), every(2, float("nan"))])
    log.close()
    whole = (folder / LOG).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        (folder / LOG).write_bytes(whole[:cut])
        run = ls.load(folder)
        complete = sum(end <= cut for end in ends)
        assert run.dataset.sizes["step"] in (complete, complete + (cut + 1 in ends))
        assert run.status == "interrupted"


def test_killed_before_the_first_record(folder: Path) -> None:
    start(folder).close()
    run = ls.load(folder)
    assert run.status == "interrupted"
    assert run.dataset.sizes["step"] == 0
    (folder / LOG).unlink()
    assert ls.load(folder).dataset.sizes["step"] == 0


def test_what_is_appended_is_there_at_once(folder: Path) -> None:
    log = start(folder)
    log.append([every(0)])
    assert len(read_log(folder)[1]) == 1  # without a close, as after kill -9
    log.close()


def test_resumed_after_a_torn_line(folder: Path) -> None:
    log = start(folder)
    log.append([every(0), every(1)])
    log.close()
    with (folder / LOG).open("a") as file:
        file.write('{"step": 2, "val')
    log = start(folder, resume=True)
    log.append([every(1, 5.0), every(2), every(3)])  # step 1 was made again: the later counts
    log.close()
    run = ls.load(folder)
    np.testing.assert_array_equal(run.series("step"), [0, 1, 2, 3])
    np.testing.assert_array_equal(run.series("loss"), [1.0, 5.0, 1.0, 1.0])
    assert all(json.loads(line) for line in (folder / LOG).read_text().splitlines())


def test_resumed_after_nothing_but_a_torn_line(folder: Path) -> None:
    start(folder).close()
    (folder / LOG).write_text('{"step"')
    log = start(folder, resume=True)
    log.append([every(0)])
    log.close()
    assert ls.load(folder).dataset.sizes["step"] == 1


def test_a_second_run_does_not_overwrite(folder: Path) -> None:
    log = start(folder)
    log.append([every(0)])
    log.close()
    before = (folder / LOG).read_bytes()
    with pytest.raises(FileError, match=r"already holds a recorded run, got .*runs/a: .*resume=True") as caught:
        start(folder)
    assert "\n" not in str(caught.value)
    assert (folder / LOG).read_bytes() == before


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(FileError, match=r"a file is in the way, got .*/a; write to another folder"):
        start(tmp_path / "a")


def test_killed_while_writing_aside(folder: Path) -> None:
    """What kill -9 leaves of a half-written snapshot or header does not stop the reading."""
    log = start(folder)
    log.append([every(0)])
    log.snapshot(0, np.arange(3.0))
    log.close()
    (folder / SNAPSHOTS / ".000000005-x8z1.npy").write_bytes(b"\x93NUM")
    (folder / ".run-abc.json").write_text("{")
    assert ls.load(folder).snapshots()[0] == [0]


def test_a_header_that_cannot_be_read(folder: Path) -> None:
    start(folder).close()
    (folder / HEADER).write_text('{"status": ')
    with pytest.raises(FileError, match=r"run\.json cannot be read, got ") as caught:
        ls.load(folder)
    assert "\n" not in str(caught.value)


def test_records_whose_length_changes() -> None:
    """As eigenvalues of which first two and then three are asked for: nothing is lost."""
    lines = [
        {"step": 1, "metric": "m", "values": {"values": [1.0, 2.0, 3.0]}},
        {"step": 2, "metric": "m", "values": {"values": [4.0, 5.0]}},
        {"step": 3, "metric": "m", "values": {"values": [6.0, 7.0, 8.0, 9.0]}},
        {"step": 4, "metric": "m", "values": {}},
    ]
    nan = np.nan
    expected = [[1, 2, 3, nan], [4, 5, nan, nan], [6, 7, 8, 9], [nan] * 4]
    np.testing.assert_array_equal(Recording.from_lines({}, lines).series("values"), expected)
