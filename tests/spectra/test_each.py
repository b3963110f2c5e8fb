"""One question asked of several operators: the answers of one by one, and whatever ended the call, gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import landscape as ls
from landscape.errors import FileError, InputError, NonFiniteError
from tests.spectra.matrices import with_spectrum

N = 40
NAMES = ["a", "b", "c"]

#: question -> what is asked, and the array that is the answer
QUESTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "eigsh": (ls.eigsh, {"k": 3, "tol": 1e-8}, "values"),
    "trace": (ls.trace, {"products": 24, "method": "hutchinson"}, ""),
    "density": (ls.spectral_density, {"probes": 3, "steps": 8}, "nodes"),
}


class Killed(BaseException):
    """What cannot be caught: it stands for kill -9."""


class Counted:
    """A matrix that counts its products and ends with ``end`` at one of them."""

    shape, dtype, device = (N, N), torch.float64, torch.device("cpu")

    def __init__(self, scale: float, log: list[float], at: int = -1, end: type[BaseException] = Killed) -> None:
        self.matrix = scale * with_spectrum(torch.linspace(0.1, 4, N, dtype=torch.float64) ** 2, dtype=torch.float64)
        self.scale, self.log, self.at, self.end = scale, log, at, end

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        if len(self.log) == self.at:
            self.at = -1
            raise self.end
        self.log.append(self.scale)
        return self.matrix @ v


def makers(log: list[float], scales: tuple[float, ...] = (1.0, 2.0, 3.0), **options: Any) -> dict[str, Any]:
    return {name: lambda s=s: Counted(s, log, **options) for name, s in zip(NAMES, scales, strict=True)}


def answer(family: Any, name: str, array: str) -> torch.Tensor:
    member = family[name]
    return torch.as_tensor(getattr(member, array) if array else member.estimate)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_answer_is_that_of_one_alone(name: str, tmp_path: Path) -> None:
    question, options, array = QUESTIONS[name]
    family = ls.each(question, makers([]), by="checkpoint", out=tmp_path / "f.nc", **options)
    stored = ls.load(tmp_path / "f.nc")
    assert (family.by, stored.by, list(stored)) == ("checkpoint", "checkpoint", NAMES)
    for scale, one in zip((1.0, 2.0, 3.0), NAMES, strict=True):
        alone = question(Counted(scale, []), **options)
        expected = torch.as_tensor(getattr(alone, array) if array else alone.estimate)
        assert torch.equal(answer(family, one, array), expected)
        assert torch.equal(answer(stored, one, array), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["f.nc"]


@pytest.mark.parametrize("end", [Killed, KeyboardInterrupt])
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_same_call_goes_on_after_any_end(name: str, end: type[BaseException], tmp_path: Path) -> None:
    question, options, array = QUESTIONS[name]
    out, whole = tmp_path / "f.nc", ls.each(question, makers([]), **options)
    log: list[float] = []
    ls.each(question, makers(log), **options)
    first: list[float] = []
    at = len(log) // 2 + 3  # within the second
    try:
        stopped = ls.each(question, makers(first, at=at, end=end), out=out, **options)
        assert stopped.status == "interrupted"
        assert "stopped by Ctrl-C after 1 of 3; the same call with out= goes on" in stopped.message
        assert torch.equal(answer(stopped, "a", array), answer(whole, "a", array))
    except Killed:
        assert end is Killed
    assert not out.exists()
    second: list[float] = []
    family = ls.each(question, makers(second), out=out, **options)
    assert second.count(1.0) == 1  # to know it again, and no more
    for one in NAMES:
        assert torch.allclose(answer(family, one, array), answer(whole, one, array), rtol=1e-9, atol=0, equal_nan=True)
    assert torch.equal(answer(family, "a", array), answer(whole, "a", array))
    assert [path.name for path in tmp_path.iterdir()] == ["f.nc"]


def test_answers_of_other_operators_or_options_are_not_used(tmp_path: Path) -> None:
    out, log = tmp_path / "f.nc", []
    with pytest.raises(Killed):
        ls.each(ls.trace, makers(log, at=40), out=out, products=24, method="hutchinson")
    changed = ls.each(ls.trace, makers([], (1.0, 5.0, 3.0)), out=out, products=24, method="hutchinson")
    alone = ls.trace(Counted(5.0, []), products=24, method="hutchinson")
    assert changed["b"].estimate == alone.estimate
    with pytest.raises(Killed):
        ls.each(ls.trace, makers([], at=40), out=out, products=24, method="hutchinson", overwrite=True)
    log.clear()
    other = ls.each(ls.trace, makers(log), out=out, products=24, method="hutchinson", seed=1, overwrite=True)
    assert log.count(1.0) == 25
    assert other["a"].estimate == ls.trace(Counted(1.0, []), products=24, method="hutchinson", seed=1).estimate


def test_operators_are_made_when_their_turn_comes() -> None:
    alive: list[str] = []

    def maker(name: str) -> Callable[[], Counted]:
        def make() -> Counted:
            alive.append(name)
            return Counted(1.0, log)

        return make

    log: list[float] = []
    seen: list[list[str]] = []

    def question(op: Any, **options: Any) -> Any:
        seen.append(list(alive))
        return ls.trace(op, products=4)

    ls.each(question, {name: maker(name) for name in NAMES})
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_an_error_says_of_which_it_is() -> None:
    broken = makers([]) | {"b": lambda: torch.full((N, N), float("nan"))}
    with pytest.raises(NonFiniteError) as found:
        ls.each(ls.trace, broken, by="checkpoint", products=4)
    assert found.value.__notes__ == ["checkpoint b"]


def test_bad_input_is_refused_before_the_first_product(tmp_path: Path) -> None:
    log: list[float] = []
    with pytest.raises(InputError, match="each needs operators by name"):
        ls.each(ls.trace, [torch.eye(3)])
    with pytest.raises(InputError, match="each needs operators by name"):
        ls.each(ls.trace, {})
    (tmp_path / "f.nc").write_text("mine")
    with pytest.raises(FileError, match="the file is already there"):
        ls.each(ls.trace, makers(log), out=tmp_path / "f.nc")
    with pytest.raises(FileError, match="results are saved as netCDF"):
        ls.each(ls.trace, makers(log), out=tmp_path / "f.txt")
    assert not log
    assert (tmp_path / "f.nc").read_text() == "mine"
