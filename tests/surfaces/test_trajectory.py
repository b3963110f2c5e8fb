"""Trajectories: exact projections, and what a random walk would have looked like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.surfaces import Directions
from landscape.surfaces.trajectory import random_walk_hidden_share
from tests.harmless import harmless


def _objective() -> ls.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 10), nn.BatchNorm1d(10), nn.Tanh(), nn.Linear(10, 3)).double()
    return ls.Objective(model, nn.CrossEntropyLoss(), (torch.randn(30, 4).double(), torch.randint(0, 3, (30,))))


def test_projection_is_exact_for_directions_of_any_length_and_angle() -> None:
    objective = _objective()
    rng = np.random.default_rng(0)
    d = torch.from_numpy(rng.standard_normal((2, objective.space.n)))
    d[1] = 3 * d[0] + 0.1 * d[1]
    at = rng.standard_normal((6, 2))
    at[-1] = 0
    points = objective.vector() + torch.from_numpy(at) @ d
    found = ls.Trajectory(range(6), list(points)).project(Directions(d, ["a", "b"]), objective)
    assert np.allclose(found.dataset["coordinates"], at, atol=1e-8)
    assert found.hidden_share < 1e-12
    assert found.dataset["loss"][-1] == float(objective.value())


def test_the_hidden_share_is_what_the_plane_does_not_show() -> None:
    objective = _objective()
    start = objective.vector()
    d = torch.eye(objective.space.n, dtype=torch.float64)[:3]
    snapshots = [start + 3 * d[0] + 4 * d[2], start + d[1], start]
    found = ls.Trajectory([0, 5, 9], snapshots).project(Directions(d[:2], ["a", "b"]), objective, loss=False)
    assert found.hidden_share == pytest.approx(16 / 26)
    assert np.allclose(found.dataset["off_plane"], [4, 0, 0], atol=1e-9)
    assert list(found.dataset["step"].to_numpy()) == [0, 5, 9]


def test_pca_agrees_with_a_dense_svd() -> None:
    rng = np.random.default_rng(0)
    path = torch.from_numpy(rng.standard_normal((12, 40)).cumsum(axis=0))
    found = ls.directions.pca(ls.Trajectory(range(12), list(path)))
    moves = path - path[-1]
    _, singular, rows = torch.linalg.svd(moves, full_matrices=False)
    for i in range(2):
        assert abs(float(found.vectors[i] @ rows[i])) == pytest.approx(1, abs=1e-9)
        assert float(found.vectors[i] @ moves[0]) >= 0
    shares = (singular**2 / (singular**2).sum())[:2]
    assert np.allclose(found.made["shares"], shares)
    assert torch.allclose(found.vectors @ found.vectors.T, torch.eye(2, dtype=torch.float64), atol=1e-10)


def test_a_random_walk_has_the_share_that_its_null_says() -> None:
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        walk = torch.from_numpy(rng.standard_normal((100, 5000)).cumsum(axis=0))
        shares.append(1 - sum(ls.directions.pca(ls.Trajectory(range(100), list(walk))).made["shares"]))
    assert np.mean(shares) == pytest.approx(random_walk_hidden_share(100, 2), rel=0.03)
    # the continuous limit: 1 - 8/π² (1 + 1/9)
    assert random_walk_hidden_share(3000, 2) == pytest.approx(1 - 8 / np.pi**2 * (1 + 1 / 9), rel=1e-3)


def test_checkpoints_are_read_by_name(tmp_path: Path) -> None:
    objective = _objective()
    paths, vectors = [], []
    for i in range(4):
        path = tmp_path / f"{i}.pt"
        state = objective.model.state_dict()
        torch.save({"model": state} if i % 2 else state, path)
        paths.append(path)
        vectors.append(objective.vector())
        with torch.no_grad():
            for p in objective.model.parameters():
                p.add_(torch.randn_like(p))
    trajectory = ls.Trajectory.from_checkpoints(paths)
    assert torch.equal(trajectory.vectors(objective.space), torch.stack(vectors))
    with pytest.raises(InputError, match=r"snapshots by name.*pass the objective too"):
        ls.directions.pca(trajectory)
    with harmless(objective.model):
        trajectory.project(ls.directions.pca(trajectory, objective), objective)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no such checkpoint"):
        ls.Trajectory.from_checkpoints([tmp_path / "no.pt"])
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(FileError, match="the checkpoint cannot be read"):
        ls.Trajectory.from_checkpoints([tmp_path / "text.pt"])
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FileError, match="holds no state dictionary, got list"):
        ls.Trajectory.from_checkpoints([tmp_path / "list.pt"])
    with pytest.raises(InputError, match="at least 3 snapshots, got 2"):
        ls.directions.pca(ls.Trajectory([0, 1], [torch.zeros(5), torch.ones(5)]))
    still = ls.Trajectory(range(4), [torch.ones(5)] * 4)
    with pytest.raises(InputError, match="does not span that many directions"):
        ls.directions.pca(still)
    with pytest.raises(InputError, match="one step for each"):
        ls.Trajectory([], [])
