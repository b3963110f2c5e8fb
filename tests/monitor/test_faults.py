"""What can go wrong while a run is watched: training goes on as it would, and what was recorded can be read."""

from __future__ import annotations

import copy
import io
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.results.runlog import RunLog
from tests.harmless import snapshot
from tests.monitor.runs import Run, quiet

# -- optimizers that grow --------------------------------------------------------------------------


def growing(watch: bool) -> tuple[dict[str, Any], list[float], Any]:
    """Train the head, and from the fifth step on the rest at another rate."""
    torch.manual_seed(0)
    run = Run("sgd")
    run.optimizer = torch.optim.SGD(run.model.head.parameters(), lr=0.05, momentum=0.9)
    run.schedule = torch.optim.lr_scheduler.ConstantLR(run.optimizer, 1.0)
    rest = [*run.model.conv.parameters(), *run.model.norm.parameters()]
    ratios: list[float] = []
    weights: list[torch.Tensor] = []

    def flat() -> torch.Tensor:
        return torch.cat([p.detach().flatten() for group in run.optimizer.param_groups for p in group["params"]])

    def after(*_: Any) -> None:
        ratios.append(float((flat() - weights[-1]).norm() / weights[-1].norm()))

    run.optimizer.register_step_pre_hook(lambda *_: weights.append(flat().clone()))
    run.optimizer.register_step_post_hook(after)

    def stop(step: int) -> None:
        if step == 4:
            run.optimizer.add_param_group({"params": rest, "lr": 0.01})

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=4) if watch else None
    run.train(monitor, stop)
    found = {k: v for k, v in snapshot(run.model, run.optimizer).items() if "hooks" not in k and "version" not in k}
    return found, ratios, monitor


def test_parameter_groups_that_are_added_later_are_watched() -> None:
    plain, _, _ = growing(watch=False)
    watched, ratios, monitor = growing(watch=True)
    for key, value in plain.items():
        same = [v for v in value if isinstance(v, bytes)] if isinstance(value, tuple) else value
        other = watched[key]
        assert same == ([v for v in other if isinstance(v, bytes)] if isinstance(other, tuple) else other), key
    data = monitor.result().dataset
    assert np.allclose(data["update_ratio"], ratios, rtol=1e-4)
    rates = data["lr_1"].to_numpy()
    assert np.isnan(rates[:5]).all()
    assert (rates[5:] == 0.01).all()
    assert np.isfinite(data["sharpness"]).all()


# -- folders that cannot be written any more -------------------------------------------------------


@pytest.mark.parametrize("away", ["removed", "moved"])
@pytest.mark.parametrize("snapshots", [None, 2])
def test_a_folder_that_vanishes_ends_the_record_and_not_the_training(
    away: str, snapshots: int | None, tmp_path: Path
) -> None:
    run = Run(steps=80)
    out = tmp_path / "run"

    def stop(step: int) -> None:
        if step == 6:
            shutil.rmtree(out) if away == "removed" else shutil.move(out, tmp_path / "elsewhere")
        monitor.log(mine=step)

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=5, snapshots=snapshots, out=out)
    caught = quiet(run, monitor, stop)
    assert len(caught) == 1
    assert "nothing more of this run is recorded: the folder of the run must stay where it is" in caught[0]
    assert monitor.step == 80
    assert not run.optimizer._optimizer_step_post_hooks
    with pytest.raises(FileError, match=re.escape(str(out))):
        monitor.result()
    if away == "moved":
        data = ls.load(tmp_path / "elsewhere").dataset
        assert list(data["sharpness_step"].to_numpy()) == [0, 5]


@pytest.mark.parametrize("method", ["append", "snapshot", "write_header", "close"])
def test_a_full_disk_ends_the_record_and_not_the_training(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(steps=12)
    full = False
    write = getattr(RunLog, method)

    def failing(self: RunLog, *args: Any, **kwargs: Any) -> None:
        if method == "close" or not full:
            write(self, *args, **kwargs)
        if full:
            raise OSError(28, "No space left on device")

    def stop(step: int) -> None:
        nonlocal full
        full = full or step == 5

    monkeypatch.setattr(RunLog, method, failing)
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=4, snapshots=4, out=tmp_path / "a")
    caught = quiet(run, monitor, stop)
    assert len(caught) == 1
    assert caught[0].endswith("No space left on device")
    assert list(ls.load(tmp_path / "a").dataset["sharpness_step"].to_numpy())[:2] == [0, 4]


# -- copies of what is watched ---------------------------------------------------------------------


def _saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert b"landscape" not in file.getvalue()
    found: nn.Module = torch.load(file, weights_only=False)
    return found


def _pickled(model: nn.Module) -> nn.Module:
    data = pickle.dumps(model)
    assert b"landscape" not in data
    found: nn.Module = pickle.loads(data)
    return found


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled, _saved])
def test_copies_of_a_watched_criterion_are_not_watched(copied: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    whole = nn.ModuleDict({"net": nn.Linear(4, 3), "criterion": nn.CrossEntropyLoss()})
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    objective = ls.Objective(whole["net"], whole["criterion"], (x, y))
    optimizer = torch.optim.SGD(whole["net"].parameters(), lr=0.1)
    losses = []
    with ls.Monitor(objective, optimizer, metrics=["sharpness"], every=2) as monitor:
        for _ in range(3):
            other = copied(whole)
            assert torch.isfinite(other["criterion"](100 * other["net"](x), y))  # type: ignore[index]
            optimizer.zero_grad()
            loss = whole["criterion"](whole["net"](x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        copy.deepcopy(optimizer)
    assert np.allclose(monitor.result().dataset["loss"], losses)
    assert not whole["criterion"]._forward_hooks


# -- going on from a checkpoint --------------------------------------------------------------------


def recorded(out: Path, steps: int, **options: Any) -> Any:
    run = Run(steps=steps)
    run.train(ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=4, snapshots=4, out=out, **options))
    return ls.load(out)


@pytest.mark.parametrize(
    ("start", "steps", "sharpness"),
    [
        (None, [*range(1, 15)], [0, 4, 8, 10, 12, 14]),
        (6, [*range(1, 11)], [0, 4, 8, 10]),
        (4, [*range(1, 9)], [0, 4, 8]),
        (0, [*range(1, 5)], [0, 4]),
        (20, [*range(1, 11), *range(21, 25)], [0, 4, 8, 10, 24]),
    ],
)
def test_a_run_goes_on_from_the_step_of_the_checkpoint(
    start: int | None, steps: list[int], sharpness: list[int], tmp_path: Path
) -> None:
    before = recorded(tmp_path / "run", 10).dataset
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"step": 11, "val')  # what a kill leaves
    after = recorded(tmp_path / "run", 4, resume=True, start=start)
    assert list(after.dataset["step"].to_numpy()) == steps
    assert list(after.dataset["sharpness_step"].to_numpy()) == sharpness
    kept = min(10 if start is None else start, 10)
    assert np.array_equal(after.dataset["loss"][:kept], before["loss"][:kept])
    assert after.snapshots()[0] == sharpness
    assert after.status == "complete"


def test_a_new_run_may_start_at_the_step_of_a_checkpoint(tmp_path: Path) -> None:
    data = recorded(tmp_path / "run", 5, start=102).dataset
    assert list(data["step"].to_numpy()) == [103, 104, 105, 106, 107]
    assert list(data["sharpness_step"].to_numpy()) == [102, 104, 107]


@pytest.mark.parametrize("start", [-1, 2.0, "last", True])
def test_start_is_a_number_of_steps(start: Any) -> None:
    run = Run()
    with pytest.raises(InputError, match="start must be a number of steps, got"):
        ls.Monitor(run.objective, run.optimizer, start=start)
