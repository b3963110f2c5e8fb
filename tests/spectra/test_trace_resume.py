"""What was done is kept: after any end the same call goes on, to the same numbers, and finds another operator out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import landscape as ls
from landscape.errors import FileError
from landscape.results import Result, partial
from tests.spectra.estimates import Ending, Killed, matrix

#: name -> question, options, and products at which it ends: in the pilot, the basis, the probes
ASKED: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[int, ...]]] = {
    "hutchinson": (ls.trace, {"method": "hutchinson", "products": 60}, (8, 16, 40)),
    "hutch++": (ls.trace, {"method": "hutch++", "products": 60}, (8, 24, 54)),
    "xtrace": (ls.trace, {"method": "xtrace", "products": 60}, (9, 30, 55)),
    "deflated": (ls.trace, {"method": "deflated", "rtol": 0.01}, (8, 25, 50)),
    "auto": (ls.trace, {"rtol": 0.01}, (16, 25, 50)),
    "exact": (ls.trace, {"method": "exact"}, (8, 40)),
    "cube": (ls.trace, {"function": "cube", "products": 59, "method": "hutchinson"}, (20, 45)),
    "log": (ls.trace, {"function": "log", "products": 900, "method": "hutchinson"}, (300, 700)),
    "diagonal": (ls.diagonal, {"products": 50, "method": "deflated"}, (17, 40)),
    "norm": (ls.frobenius_norm, {"products": 50}, (17, 40)),
}


ENDS = (Killed, KeyboardInterrupt, Killed)


def answer(found: Result) -> dict[str, np.ndarray]:
    attrs = {k: np.array(found.dataset.attrs[k]) for k in ("matvecs", "method", "status")}
    return attrs | {str(k): v.to_numpy() for k, v in found.dataset.data_vars.items()}


def same(a: Result, b: Result) -> bool:
    first, second = answer(a), answer(b)
    return first.keys() == second.keys() and all(
        np.array_equal(first[k], second[k], equal_nan=first[k].dtype.kind == "f") for k in first
    )


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save at every chance."""
    monkeypatch.setattr(partial, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(partial, "SHARE", 0)


@pytest.mark.parametrize(
    ("name", "at", "end"),
    [(n, at, end) for n, (_, _, ends) in ASKED.items() for at, end in zip(ends, ENDS, strict=False)],
)
def test_the_same_call_goes_on(name: str, at: int, end: type[BaseException], tmp_path: Path) -> None:
    question, options, _ = ASKED[name]
    a, out = matrix("power law"), tmp_path / "found.nc"
    whole = question(Ending(a, -1), **options)
    broken = Ending(a, at, end)
    try:
        stopped = question(broken, out=out, **options)
        assert end is KeyboardInterrupt
        assert stopped.status == "interrupted"
        assert "goes on from here" in stopped.message
    except (Killed, KeyboardInterrupt):
        pass
    assert not out.exists()
    again = Ending(a, -1)
    found = question(again, out=out, **options)
    assert same(found, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["found.nc"]
    assert same(ls.load(out), whole)
    kept = at - 8 if name != "log" else at - 250  # a block of 8 is lost, and one product repeated
    assert again.products <= found.matvecs - kept + 1 + (8 if name == "cube" else 0)


@pytest.mark.parametrize(("method", "products"), [("hutchinson", 40), ("exact", 60)])
def test_what_another_operator_left_is_not_used(method: str, products: int, tmp_path: Path) -> None:
    a, out = matrix("power law"), tmp_path / "t.nc"
    with pytest.raises(Killed):
        ls.trace(Ending(a, 20, Killed), products=products, method=method, out=out)
    counted = Ending(1.1 * a, -1)
    found = ls.trace(counted, products=products, method=method, out=out)
    assert same(found, ls.trace(Ending(1.1 * a, -1), products=products, method=method))
    assert counted.products == products + 1


def test_other_questions_start_anew(tmp_path: Path) -> None:
    a, out = matrix("power law"), tmp_path / "t.nc"
    with pytest.raises(Killed):
        ls.trace(Ending(a, 20, Killed), products=40, method="hutchinson", out=out)
    counted = Ending(a, -1)
    assert same(
        ls.trace(counted, products=40, seed=1, method="hutchinson", out=out),
        ls.trace(Ending(a, -1), products=40, seed=1, method="hutchinson"),
    )
    assert counted.products == 40


def test_a_file_in_the_way_is_refused_before_the_work(tmp_path: Path) -> None:
    out = tmp_path / "t.nc"
    ls.trace(matrix("flat"), products=8, out=out)
    counted = Ending(matrix("flat"), -1)
    with pytest.raises(FileError, match="already there"):
        ls.trace(counted, products=8, out=out)
    assert counted.products == 0
    ls.trace(counted, products=8, out=out, overwrite=True)


SCRIPT = """
import os, signal, sys
import landscape as ls
from landscape.results import partial
from tests.spectra import estimates
partial.SAVE_EVERY, partial.SHARE = 0.0, 0

class Ending(estimates.Ending):
    def __matmul__(self, v):
        if self.products == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.products += 1
        return self.matrix @ v

ls.trace(Ending(estimates.matrix("network"), int(sys.argv[2])), products=55, method="deflated", out=sys.argv[1])
"""


def test_kill_9(tmp_path: Path) -> None:
    out = tmp_path / "t.nc"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(out), "47"], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    a = matrix("network")
    counted = Ending(a, -1)
    found = ls.trace(counted, products=55, method="deflated", out=out)
    assert same(found, ls.trace(Ending(a, -1), products=55, method="deflated"))
    assert counted.products <= 55 - 40 + 1
