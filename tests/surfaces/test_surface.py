"""Surfaces: the centre is the objective, a quadratic is its closed form, and work that stops goes on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import FileError, InputError, NonFiniteError
from landscape.surfaces import Directions
from landscape.surfaces.surface import coarse_to_fine
from tests.harmless import harmless


def _network(dtype: torch.dtype = torch.float32) -> ls.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).to(dtype)
    x, y = torch.randn(20, 1, 6, 6, dtype=dtype), torch.arange(20) % 4
    model(x)  # running statistics that are not the initial ones
    return ls.Objective(model, nn.CrossEntropyLoss(), [(x[:12], y[:12]), (x[12:], y[12:])])


class Quadratic(nn.Module):
    """½ wᵀAw + bᵀw with an A that is not symmetric under a swap of the axes."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        root = torch.from_numpy(rng.standard_normal((5, 5)))
        self.register_buffer("A", root @ root.T)
        self.register_buffer("b", torch.from_numpy(rng.standard_normal(5)))
        self.w = nn.Parameter(torch.from_numpy(rng.standard_normal(5)))


def _energy(model: Quadratic, batch: Any) -> tuple[torch.Tensor, int]:
    return 0.5 * model.w @ model.A @ model.w + model.b @ model.w, 1


def test_a_quadratic_is_its_closed_form_with_axes_the_right_way_round() -> None:
    model = Quadratic()
    objective = ls.Objective(model, _energy, [torch.zeros(1)])
    d = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 5)))
    found = ls.surface(objective, Directions(d, ["a", "b"]), span=((-1, 2), (0, 3)), points=(4, 7))
    loss = found.dataset["loss"]
    assert loss.dims == ("y", "x")
    assert loss.shape == (7, 4)
    for x in found.dataset["x"].to_numpy():
        for y in found.dataset["y"].to_numpy():
            w = model.w.detach() + x * d[0] + y * d[1]
            exact = float(0.5 * w @ model.A @ w + model.b @ w)
            assert float(loss.sel(x=x, y=y)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("points", [5, 6])
def test_the_centre_is_the_objective(points: int) -> None:
    objective = _network()
    found = ls.surface(objective, ls.directions.random(objective), points=points, metrics=("loss", "accuracy"))
    assert found.centre["loss"] == float(objective.value())
    assert found.centre["accuracy"] == float(objective.evaluate(["accuracy"])["accuracy"])
    if points % 2:
        assert float(found.dataset["loss"].sel(x=0, y=0)) == float(objective.value())
    assert found.ok


def test_a_line_agrees_with_moving_the_model_by_hand() -> None:
    objective = _network()
    directions = ls.directions.random(objective, n=1)
    found = ls.surface(objective, directions, points=7, metrics=("loss", "error"))
    model = objective.model.eval()
    x = torch.cat([b[0] for b in objective.batches.held()])
    y = torch.cat([b[1] for b in objective.batches.held()])
    start = objective.vector()
    for alpha in found.dataset["x"].to_numpy():
        for name, value in objective.space.unflatten(start + alpha * directions.vectors[0]).items():
            objective.parameters[name].data.copy_(value)
        with torch.no_grad():
            scores = model(x)
        loss = float(nn.functional.cross_entropy(scores.double(), y))
        assert float(found.dataset["loss"].sel(x=alpha)) == pytest.approx(loss, rel=1e-5)
        assert float(found.dataset["error"].sel(x=alpha)) == pytest.approx(
            float((scores.argmax(1) != y).double().mean())
        )


def test_nan_points_stay_nan_and_are_counted() -> None:
    model = nn.Linear(2, 1).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(0.0)

    def loss(m: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, int]:
        return m.weight.sum().sqrt(), 1

    objective = ls.Objective(model, loss, [torch.ones(1, 2)])
    found = ls.surface(objective, Directions(torch.tensor([[1.0, 1, 0]]).double(), ["w"]), span=(-2, 2), points=9)
    values = found.dataset["loss"].to_numpy()
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2:]).all()
    assert found.dataset["evaluated"].all()
    assert "2 of them not finite" in found.message


def test_harmless_after_success_exception_and_ctrl_c() -> None:
    objective = _network()
    directions = ls.directions.random(objective)
    with harmless(objective.model):
        ls.surface(objective, directions, points=3)
    for error in (RuntimeError, KeyboardInterrupt):
        with harmless(objective.model), suppress(RuntimeError):
            _stop_after(objective, directions, 7, error)


def _stop_after(objective: ls.Objective, directions: Directions, calls: int, error: type, **kwargs: Any) -> Any:
    """Draw a surface whose loss raises ``error`` at the given evaluation."""
    count, plain = 0, objective.loss.__call__

    def loss(model: nn.Module, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise error("stopped on purpose")
        return plain(model, batch)

    before = objective._bound.loss
    objective._bound.loss = loss
    try:
        return ls.surface(objective, directions, points=5, **kwargs)
    finally:
        objective._bound.loss = before


def test_ctrl_c_gives_a_partial_surface_and_the_same_call_resumes(tmp_path: Path) -> None:
    objective = _network()
    directions = ls.directions.random(objective)
    path = tmp_path / "surf.nc"
    partial = _stop_after(objective, directions, 30, KeyboardInterrupt, out=path)
    assert partial.status == "interrupted"
    assert 0 < int(partial.dataset["evaluated"].sum()) < 25
    assert "goes on from here" in partial.message
    assert not path.exists()
    done = int(partial.dataset["evaluated"].sum())
    # the rest needs two passes over two batches for the centre, then only what is missing
    whole = _stop_after(objective, directions, 2 * (25 - done) + 4, KeyboardInterrupt, out=path)
    assert whole.ok
    fresh = ls.surface(objective, directions, points=5)
    assert np.array_equal(whole.dataset["loss"], fresh.dataset["loss"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["surf.nc"]
    assert np.array_equal(ls.load(path).dataset["loss"], fresh.dataset["loss"])


def test_a_partial_file_of_other_work_is_not_resumed(tmp_path: Path) -> None:
    objective = _network()
    path = tmp_path / "surf.nc"
    _stop_after(objective, ls.directions.random(objective, seed=1), 30, KeyboardInterrupt, out=path)
    found = ls.surface(objective, ls.directions.random(objective, seed=2), points=5, out=path)
    fresh = ls.surface(objective, ls.directions.random(objective, seed=2), points=5)
    assert np.array_equal(found.dataset["loss"], fresh.dataset["loss"])


def test_coarse_to_fine_visits_every_point_once_and_the_centre_early() -> None:
    for shape in ((25, 25), (7,), (2, 9), (1, 1), (51,)):
        order = list(coarse_to_fine(shape))
        assert sorted(order) == sorted(np.ndindex(*shape))
        assert tuple(n // 2 for n in shape) in order[: 9 ** len(shape)]


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_any_batching_gives_the_same_surface(batch: int) -> None:
    objective = _network(torch.float64)
    x = torch.cat([b[0] for b in objective.batches.held()])
    y = torch.cat([b[1] for b in objective.batches.held()])
    other = ls.Objective(objective.model, nn.CrossEntropyLoss(), list(zip(x.split(batch), y.split(batch), strict=True)))
    directions = ls.directions.random(objective)
    a, b = (ls.surface(o, directions, points=3).dataset["loss"] for o in (objective, other))
    assert np.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"points": 1}, r"points must be at least 2 along each direction, got 1"),
        ({"span": (1, -1)}, r"span must be a pair \(low, high\)"),
        ({"span": (0, float("nan"))}, r"span must be a pair"),
        ({"points": (3, 3, 3)}, r"given once, or for each of 2 directions"),
        ({"metrics": ("los",)}, r"there is no such metric, got los; did you mean 'loss'"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], match: str) -> None:
    objective = _network()
    with pytest.raises(InputError, match=match):
        ls.surface(objective, ls.directions.random(objective), **kwargs)


def test_bad_files_are_refused_before_the_work(tmp_path: Path) -> None:
    objective = _network()
    directions = ls.directions.random(objective)
    with pytest.raises(FileError, match="results are saved as netCDF files"):
        ls.surface(objective, directions, points=3, out=tmp_path / "surf.png")
    with pytest.raises(FileError, match="the folder to write into does not exist"):
        ls.surface(objective, directions, points=3, out=tmp_path / "no" / "surf.nc")
    path = tmp_path / "surf.nc"
    path.write_text("mine")
    with pytest.raises(FileError, match="the file is already there"):
        ls.surface(objective, directions, points=3, out=path)
    assert path.read_text() == "mine"
    assert ls.surface(objective, directions, points=3, out=path, overwrite=True).ok


def test_a_nan_centre_is_refused(tmp_path: Path) -> None:
    objective = _network()
    directions = ls.directions.random(objective)
    with torch.no_grad():
        objective.model[4].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="the loss is not finite at the parameters studied, got nan"):
        ls.surface(objective, directions, points=3, out=tmp_path / "surf.nc")
    assert not list(tmp_path.iterdir())


def test_too_many_directions() -> None:
    objective = _network()
    with pytest.raises(InputError, match="a surface has one or two directions, got 3"):
        ls.surface(objective, ls.directions.random(objective, n=3), points=3)
