"""What can be recorded: numbers and arrays, each under a name of its own; the rest is refused at once, in words."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.monitor import Moment
from tests.monitor.runs import Given, Run, quiet

# -- what the loop logs ----------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"note": "warm-up"}, r"monitor\.log takes numbers, got 'warm-up' for note"),
    "nothing": ({"note": None}, r"takes numbers, got None for note"),
    "list": ({"accuracy": [1.0, 2.0]}, r"takes numbers, got a list for accuracy"),
    "array": ({"accuracy": np.ones(3)}, r"got an array of shape \(3,\) and dtype float64 for accuracy: .*log a mean"),
    "array of words": ({"note": np.array("a")}, r"got an array of shape \(\) and dtype <U1"),
    "tensor": ({"by_class": torch.ones(2, 3)}, r"got a tensor of shape \(2, 3\) for by_class"),
    "complex": ({"z": torch.ones((), dtype=torch.complex64)}, r"got a complex tensor of shape \(\) for z"),
    "number and text": ({"a": 1.0, "b": "x"}, r"takes numbers, got 'x' for b"),
    "a step's": (
        {"gradient_norm": 1.0},
        r"a name of its own, got 'gradient_norm', which the monitor, at each step rec",
    ),
    "a rate": ({"lr": 1.0}, r"got 'lr', which the monitor, at each step records: .*as own_lr"),
    "a later rate": ({"lr_3": 1.0}, r"got 'lr_3', which the monitor"),
    "the step": ({"step": 1.0}, r"got 'step', which the monitor"),
    "a metric": ({"given": 1.0}, r"got 'given', which given records"),
    "a metric's value": ({"edge": 1.0}, r"got 'edge', which given records"),
    "a metric's axis": ({"given_step": 1.0}, r"got 'given_step', which given records"),
    "a metric's status": ({"given_status": 1.0}, r"got 'given_status', which given records"),
    "slash": ({"train/accuracy": 1.0}, r"a name without slashes, got 'train/accuracy': .*write train_accuracy"),
    "no name": ({"": 1.0}, r"a name without slashes, got ''"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_refused_when_it_is_logged(name: str, tmp_path: Path) -> None:
    values, match = REFUSED[name]
    run = Run(steps=3)

    def stop(step: int) -> None:
        with pytest.raises(InputError, match=match):
            monitor.log(**values)
        monitor.log(mine=step)

    metric = Given(({"given": 1.0, "edge": 2.0}, "ok"))
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[metric], every=2, out=tmp_path / "run")
    assert not quiet(run, monitor, stop)
    data = monitor.result().dataset
    assert list(data["mine"].to_numpy()[1:]) == [0, 1]
    steps = {"loss", "lr", "gradient_norm", "update_ratio", "mine"}
    assert set(data.data_vars) == steps | {"given", "edge", "given_status", "given_seconds"}
    monitor.result().save(tmp_path / "run.nc")


def test_numbers_of_every_kind_are_recorded() -> None:
    run = Run("sgd", steps=2)
    given: dict[str, tuple[Any, float]] = {
        "a": (1, 1.0),
        "b": (np.float32(0.25), 0.25),
        "c": (np.array([3]), 3.0),
        "d": (np.bool_(True), 1.0),
        "e": (Fraction(1, 2), 0.5),
        "f": (float("nan"), float("nan")),
        "g": (torch.tensor([5]), 5.0),
        "h": (torch.tensor(True), 1.0),
        "i": (torch.ones(1, 1, dtype=torch.bfloat16), 1.0),
        "j": (torch.ones((), requires_grad=True) * 2, 2.0),
        "loss": (7.0, 7.0),
    }
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[])
    run.train(monitor, lambda step: monitor.log(**{name: value for name, (value, _) in given.items()}))
    data = monitor.result().dataset
    for name, (_, expected) in given.items():
        assert float(data[name][-1]) == pytest.approx(expected, nan_ok=True), name


def test_logging_outside_the_block_is_refused() -> None:
    run = Run("sgd", steps=2)
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[])
    for _ in range(2):
        with pytest.raises(InputError, match="a monitor records inside its with block, got log before or after it"):
            monitor.log(extra=1.0)
        if monitor.step == 0:
            run.train(monitor)


# -- what metrics return ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "match"),
    [
        (({"words": "high"}, "ok"), "a metric must return numbers or arrays of them, got a str for words"),
        (({"rows": [[1.0], [1.0, 2.0]]}, "ok"), "numbers or arrays of them, got a list for rows"),
        (({"z": torch.ones(2) * 1j}, "ok"), "numbers or arrays of them, got a Tensor for z"),
        (
            ({"update_ratio": 1.0}, "ok"),
            "a name of its own, got 'update_ratio', which the monitor, at each step records",
        ),
        (({"loss": 1.0}, "ok"), r"got 'loss', which monitor\.log records"),
        (({"a/b": 1.0}, "ok"), "a name without slashes"),
        (None, "TypeError"),
    ],
)
def test_a_metric_that_returns_what_cannot_be_read_has_failed(returned: Any, match: str, tmp_path: Path) -> None:
    run = Run(steps=6)
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Given(returned)], every=3, out=tmp_path / "run")
    caught = quiet(run, monitor)
    assert len(caught) == 1
    recording = monitor.result()
    for words in (caught[0], *recording.dataset["given_status"].to_numpy()):
        assert re.search(match, words)
    assert recording.dataset.sizes["step"] == 6
    recording.save(tmp_path / "run.nc")


def test_tensors_of_a_metric_are_recorded() -> None:
    run = Run(steps=4)
    values = {
        "one": torch.tensor(1.5),
        "row": torch.arange(3),
        "half": torch.ones(2, 2, dtype=torch.bfloat16),
        "none": None,
    }
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Given((values, 3))], every=2)
    assert not quiet(run, monitor)
    data = monitor.result().dataset
    assert list(data["one"].to_numpy()) == [1.5] * 3
    assert data["row"].to_numpy().tolist() == [[0, 1, 2]] * 3
    assert data["half"].shape == (3, 2, 2)
    assert np.isnan(data["none"]).all()
    assert set(data["given_status"].to_numpy()) == {"3"}


def test_a_name_that_the_loop_took_first_is_not_the_metrics() -> None:
    class Late(Given):
        def __call__(self, moment: Moment) -> Any:
            return ({"found": 1.0} if moment.step else {}), "ok"

    run = Run(steps=4)
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Late(None)], every=2)
    caught = quiet(run, monitor, lambda step: monitor.log(found=step))
    assert len(caught) == 1
    assert "got 'found', which monitor.log records" in caught[0]
    assert list(monitor.result().dataset["found"].to_numpy()[1:]) == [0, 1, 2]
