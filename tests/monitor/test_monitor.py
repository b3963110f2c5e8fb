"""The monitor: training is bit-identical with it and without it, and what it records is right."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.monitor import METRICS, Moment, Sharpness
from landscape.monitor.metrics import as_metric
from tests.harmless import harmless, snapshot
from tests.monitor.runs import OPTIMIZERS, Run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_watched_training_is_bit_identical(optimizer: str, tmp_path: Path) -> None:
    plain, watched = Run(optimizer), Run(optimizer)
    losses = plain.train()
    expected = snapshot(plain.model, plain.optimizer, plain.loader)
    torch.manual_seed(0)
    watched = Run(optimizer)
    monitor = ls.Monitor(
        watched.objective,
        watched.optimizer,
        metrics=list(METRICS),
        every=4,
        snapshots=3,
        probe=30,
        out=tmp_path / "run",
    )
    assert watched.train(monitor) == losses
    found = snapshot(watched.model, watched.optimizer, watched.loader)
    for key in expected:
        if "parameter" in key or "buffer" in key or "grad" in key:  # other objects, the same numbers
            assert _numbers(expected[key]) == _numbers(found[key]), key
        elif "generator" in key:
            assert expected[key][1] == found[key][1], key
        elif not key.startswith(("version", "hooks")):
            assert expected[key] == found[key], key


def _numbers(value: Any) -> Any:
    return [part for part in value if isinstance(part, bytes)] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_harmless_and_says_its_status(name: str) -> None:
    run = Run()
    run.train()
    metric = as_metric(name)
    with harmless(run.model, run.optimizer, run.loader):
        values, status = metric(Moment(run.objective, run.optimizer, 12, 0))
        again, _ = metric(Moment(run.objective, run.optimizer, 12, 0))
    assert name in values or any(key.startswith(name.removeprefix("gradient_")) for key in values)
    assert status
    for key, value in values.items():
        assert np.array_equal(np.asarray(value), np.asarray(again[key]), equal_nan=True), key


def test_what_every_step_gives_is_right() -> None:
    run = Run("momentum")
    rates, norms, ratios, weights = [], [], [], []

    def flat(tensors: Any) -> torch.Tensor:
        return torch.cat([t.detach().flatten() for t in tensors]).clone()

    def before(*_: Any) -> None:
        weights.append(flat(run.model.parameters()))
        norms.append(float(flat(p.grad for p in run.model.parameters()).norm()))
        rates.append(run.optimizer.param_groups[0]["lr"])

    def after(*_: Any) -> None:
        ratios.append(float((flat(run.model.parameters()) - weights[-1]).norm() / weights[-1].norm()))

    run.optimizer.register_step_pre_hook(before)
    run.optimizer.register_step_post_hook(after)
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[], every=1)
    losses = run.train(monitor)
    data = monitor.result().dataset
    assert list(data["step"].to_numpy()) == list(range(1, 13))
    assert np.allclose(data["loss"], losses, rtol=1e-6)
    assert np.allclose(data["lr"], rates)
    assert np.allclose(data["gradient_norm"], norms, rtol=1e-5)
    assert np.allclose(data["update_ratio"], ratios, rtol=1e-4)


def test_sharpness_is_the_dense_top_eigenvalue_and_the_threshold_that_of_the_optimizer() -> None:
    run = Run("momentum")
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Sharpness(tol=1e-4)], every=4)
    run.train(monitor)
    data = monitor.result().dataset
    assert list(data["sharpness_step"].to_numpy()) == [0, 4, 8, 12]
    top = torch.linalg.eigvalsh(ls.Hessian(run.objective).to_dense())[-1]
    assert float(data["sharpness"][-1]) == pytest.approx(float(top), rel=1e-4)
    assert set(data["sharpness_status"].to_numpy()) == {"converged"}
    for i, step in enumerate(data["sharpness_step"].to_numpy()):
        rate = 0.05 * 0.95 ** max(step - 1, 0)  # the scheduler sets the next rate after the record
        expected = 3.8 / rate - 1e-3
        assert float(data["threshold"][i]) == pytest.approx(expected, rel=1e-6)
        edge = (float(data["sharpness"][i]) + 1e-3) * rate / 3.8
        assert float(data["edge"][i]) == pytest.approx(edge, rel=1e-5)


def test_gradient_descent_crosses_its_edge_where_it_diverges() -> None:
    """On a quadratic of curvature 10, the edge is exactly at a rate of 0.2."""
    for rate, stable in ((0.19, True), (0.21, False)):
        model = nn.Linear(1, 1, bias=False).double()
        with torch.no_grad():
            model.weight.fill_(1.0)
        batch = (torch.full((1, 1), 5**0.5).double(), torch.zeros(1, 1).double())
        objective = ls.Objective(model, nn.MSELoss(), batch)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with ls.Monitor(objective, optimizer, metrics=["sharpness"], every=10) as monitor:
            for _ in range(40):
                optimizer.zero_grad()
                objective.loss.criterion(model(batch[0]), batch[1]).backward()  # type: ignore[misc]
                optimizer.step()
        edge = monitor.result().dataset["edge"].to_numpy()
        assert np.allclose(edge, rate * 10 / 2)
        assert (abs(float(model.weight.detach())) < 1) == stable == (edge[-1] < 1)


class Crossing(nn.Module):
    """Curvature 10 - s along one direction and 5 + s along another, where s moves by one a step; and a bulk below."""

    def __init__(self, n: int = 200) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("turn", torch.linalg.qr(torch.randn(n, n, generator=generator).double())[0])
        self.register_buffer("bulk", torch.linspace(-3, 3, n - 2).double())
        self.s, self.w = nn.Parameter(torch.zeros(1).double()), nn.Parameter(torch.zeros(n).double())

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        z = self.turn @ self.w
        moving = (10 - self.s) * z[0] ** 2 + (5 + self.s) * z[1] ** 2
        return scale * (0.5 * (moving + (self.bulk * z[2:] ** 2).sum()) - self.s.sum())


def test_a_sharper_direction_that_crosses_the_old_one_is_followed_at_the_first_record() -> None:
    """The old eigenvector stays one, orthogonal to the new: an iteration from it alone would never leave it."""
    model = Crossing()
    objective = ls.Objective(model, lambda m, batch: (m(batch[0]).sum(), 1), (torch.ones(1).double(),))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    vectors = []
    monitor = ls.Monitor(objective, optimizer, metrics=[Sharpness(tol=1e-2)], every=1)
    with monitor:
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.ones(1).double()).sum().backward()
            optimizer.step()
            vectors.append(monitor._memory["sharpness"].vectors[1:, 0])
    data = monitor.result().dataset
    s = np.arange(9.0)
    assert np.allclose(data["sharpness"], np.maximum(10 - s, 5 + s), rtol=1e-3)
    assert set(data["sharpness_status"].to_numpy()) == {"converged"}
    along = np.array([(model.turn @ v).abs().numpy()[:2] for v in vectors])
    assert (along[:2, 0] > 0.99).all()
    assert (along[2:, 1] > 0.99).all()
    assert not monitor._memory  # nothing is held on to after the run


def test_records_do_not_depend_on_what_a_metric_has_seen_in_another_run() -> None:
    metric, records = Sharpness(tol=1e-4), []
    for name in ("momentum", "adam", "momentum"):
        run = Run(name)
        monitor = ls.Monitor(run.objective, run.optimizer, metrics=[metric], every=3)
        run.train(monitor)
        records.append(monitor.result().dataset["sharpness"].to_numpy())
    assert np.array_equal(records[0], records[2])
    cold = ls.eigsh(ls.Hessian(run.objective), 1, tol=1e-4)
    assert records[2][-1] == pytest.approx(cold.values[0], rel=1e-6)


def test_adam_has_no_edge_before_its_first_step_and_one_after() -> None:
    run = Run("adam")
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=6)
    run.train(monitor)
    data = monitor.result().dataset
    assert math.isnan(float(data["edge"][0]))
    assert "no step yet" in str(data["sharpness_status"][0].values)
    assert np.isfinite(data["edge"][1:]).all()
    assert np.isnan(data["threshold"]).all()
    run.optimizer.param_groups[0]["lr"] /= 0.95  # the rate that the last step used
    dense = ls.preconditioned(ls.Hessian(run.objective), run.optimizer).to_dense()
    top = float(torch.linalg.eigvalsh((dense + dense.T) / 2)[-1])
    assert float(data["edge"][-1]) == pytest.approx(top / 38, rel=1e-3)


def test_an_optimizer_without_a_rule_still_has_its_sharpness() -> None:
    run = Run("rprop")
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=12)
    run.train(monitor)
    data = monitor.result().dataset
    assert np.isfinite(data["sharpness"]).all()
    assert "no stability threshold is known for this optimizer, got Rprop" in str(data["sharpness_status"][-1].values)


def test_accumulated_losses_are_averaged_and_validation_is_not_training() -> None:
    run = Run("sgd")
    batches = list(run.batches())
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[])
    expected = []
    run.model.train()
    with monitor:
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            run.optimizer.zero_grad()
            parts = []
            for x, y in (first, second):
                loss = run.criterion(run.model(x), y)
                loss.backward()
                parts.append(float(loss.detach()))
            with torch.no_grad():
                run.criterion(run.model(first[0]) * 100, first[1])
            monitor.log(extra=sum(parts))
            run.optimizer.step()
            expected.append(sum(parts) / 2)
    data = monitor.result().dataset
    assert np.allclose(data["loss"], expected, rtol=1e-6)
    assert np.allclose(data["extra"], 2 * np.array(expected), rtol=1e-6)


def test_logged_tensors_keep_the_value_of_their_step() -> None:
    run = Run("sgd", steps=4)
    running = torch.zeros(())

    def stop(step: int) -> None:
        running.add_(1)
        monitor.log(running=running)

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[])
    run.train(monitor, stop)
    assert list(monitor.result().dataset["running"].to_numpy()[1:]) == [1, 2, 3]


def test_a_loss_that_was_not_seen_is_said_to_be_missing() -> None:
    run = Run("sgd")
    other = ls.Objective(run.model, nn.functional.cross_entropy, run.loader)
    monitor = ls.Monitor(other, run.optimizer, metrics=[])
    run.train(monitor)
    recording = monitor.result()
    assert "loss" not in recording.dataset
    assert "record it with monitor.log(loss=loss)" in recording.message
    assert "not seen" not in _trained_message(Run("sgd"))


def _trained_message(run: Run) -> str:
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[])
    run.train(monitor)
    return monitor.result().message


class Failing:
    """A metric that raises, first this and then that."""

    name = "failing"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
        raise self.error


def test_a_failing_metric_is_loud_once_and_training_goes_on() -> None:
    run, plain = Run(), Run()
    losses = plain.train()
    torch.manual_seed(0)
    run = Run()
    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Failing(ValueError("broken")), "sharpness"], every=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run.train(monitor) == losses
    assert [str(w.message) for w in caught] == ["landscape: failing at step 0 failed: ValueError: broken"]
    recording = monitor.result()
    assert list(recording.dataset["failing_status"].to_numpy()) == ["failed: ValueError: broken"] * 5
    assert np.isfinite(recording.dataset["sharpness"]).all()


def test_a_nan_loss_in_training_is_recorded_as_such() -> None:
    run = Run("sgd")

    def poison(step: int) -> None:
        if step == 5:
            with torch.no_grad():
                run.model.head.bias.fill_(float("nan"))

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=4)
    with pytest.warns(RuntimeWarning, match="sharpness at step 8 failed: NonFiniteError"):
        run.train(monitor, poison)
    data = monitor.result().dataset
    assert np.isfinite(data["loss"][:6]).all()
    assert np.isnan(data["loss"][7:]).all()
    assert np.isnan(data["sharpness"][2:]).all()


def test_ctrl_c_inside_a_metric_reaches_the_loop(tmp_path: Path) -> None:
    run = Run()

    class Interrupted:
        name = "slow"

        def __call__(self, moment: Moment) -> tuple[dict[str, Any], str]:
            return {"slow": 1.0}, "interrupted" if moment.step == 4 else "converged"

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=[Interrupted()], every=4, out=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.train(monitor)
    recording = ls.load(tmp_path / "run")
    assert recording.status == "interrupted"
    assert recording.message == "stopped by Ctrl-C after 4 steps"
    assert list(recording.dataset["slow_step"].to_numpy()) == [0, 4]
    assert list(recording.dataset["step"].to_numpy()) == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), KeyboardInterrupt()])
def test_after_an_exception_everything_is_detached_and_written(error: BaseException, tmp_path: Path) -> None:
    run = Run()
    hooks = snapshot(run.model)
    criterion_hooks = len(run.criterion._forward_hooks)

    def stop(step: int) -> None:
        if step == 6:
            raise error

    monitor = ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=5, out=tmp_path / "run")
    with pytest.raises(type(error)):
        run.train(monitor, stop)
    assert len(run.criterion._forward_hooks) == criterion_hooks
    assert not run.optimizer._optimizer_step_pre_hooks
    assert not run.optimizer._optimizer_step_post_hooks
    assert {k: v for k, v in snapshot(run.model).items() if "hooks" in k} == {
        k: v for k, v in hooks.items() if "hooks" in k
    }
    recording = ls.load(tmp_path / "run")
    assert recording.dataset.sizes["step"] == 7
    assert recording.status == ("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")


def test_kill_minus_nine_leaves_a_readable_run(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            import landscape as ls
            from tests.monitor.runs import Run
            run = Run(steps=400)
            def stop(step):
                if step == 205:
                    os.kill(os.getpid(), signal.SIGKILL)
            run.train(ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=100, out=sys.argv[1]), stop)
            """
        )
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")], env=environment, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    recording = ls.load(tmp_path / "run")
    assert recording.status == "interrupted"
    assert list(recording.dataset["sharpness_step"].to_numpy()) == [0, 100, 200]
    # at most the steps since the last transfer are lost
    assert 205 - 64 <= recording.dataset["step"].to_numpy().max() <= 206


def test_resume_goes_on_and_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    run = Run(steps=5)
    run.train(ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=5, out=tmp_path / "run"))
    with pytest.raises(FileError, match="the folder already holds a recorded run"):
        run.train(ls.Monitor(run.objective, run.optimizer, out=tmp_path / "run"))
    run.train(
        ls.Monitor(run.objective, run.optimizer, metrics=["sharpness"], every=5, out=tmp_path / "run", resume=True)
    )
    data = ls.load(tmp_path / "run").dataset
    assert list(data["step"].to_numpy()) == list(range(1, 11))
    assert list(data["sharpness_step"].to_numpy()) == [0, 5, 10]


def test_snapshots_make_a_trajectory(tmp_path: Path) -> None:
    run = Run()
    start = run.objective.vector()
    run.train(ls.Monitor(run.objective, run.optimizer, metrics=[], snapshots=5, out=tmp_path / "run"))
    recording = ls.load(tmp_path / "run")
    assert isinstance(recording, ls.results.Recording)
    trajectory = ls.Trajectory.from_run(recording)
    assert trajectory.steps == [0, 5, 10, 12]
    vectors = trajectory.vectors()
    assert torch.equal(vectors[0], start)
    assert torch.equal(vectors[-1], run.objective.vector())


def test_the_run_says_what_it_is_of_and_what_it_cost(tmp_path: Path) -> None:
    run = Run()
    run.train(ls.Monitor(run.objective, run.optimizer, metrics=["gradient_conflict"], every=6, out=tmp_path / "run"))
    recording = ls.load(tmp_path / "run")
    assert isinstance(recording, ls.results.Recording)
    assert recording.header["labels"]["conflict_cosine"] == ["class 0", "class 1", "class 2"]
    assert recording.dataset["conflict_cosine"].shape == (3, 3, 3)
    assert recording.provenance["optimizer"]["name"] == "SGD"
    assert recording.provenance["data"]["examples"] == 48
    assert 0 < recording.header["monitor_seconds"] < recording.header["seconds"]
    json.dumps(recording.header)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"metrics": ["sharpnes"]}, "there is no such metric, got sharpnes; did you mean 'sharpness'"),
        ({"every": 0}, "every must give a positive number of steps for sharpness, got 0"),
        (
            {"every": {"sharpnes": 5}},
            "every names a metric that is not watched, got sharpnes; did you mean 'sharpness'",
        ),
        ({"every": {"loss": 5}}, "not watched, got loss; watched are sharpness, gradient_coherence"),
        ({"every": {"sharpness": 5}}, "every must give a positive number of steps for gradient_coherence"),
        ({"metrics": ["sharpness", Sharpness(tol=0.1)]}, "metrics must have different names, got sharpness, sharpness"),
        ({"snapshots": 0}, "snapshots must be at least 1 step apart"),
        ({"resume": True}, "resume needs the folder of the run"),
        ({"seed": 1.5}, "seed must be a non-negative integer"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], match: str) -> None:
    run = Run()
    with pytest.raises(InputError, match=match):
        ls.Monitor(run.objective, run.optimizer, **kwargs)


def test_an_optimizer_of_another_model_is_refused() -> None:
    run = Run()
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(InputError, match="the optimizer trains none of the objective's parameters"):
        ls.Monitor(run.objective, other)
