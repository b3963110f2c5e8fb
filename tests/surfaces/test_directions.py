"""Directions: filter normalisation exactly as published, layer type by layer type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.surfaces.filters import FILTERS, filters
from tests.harmless import harmless

X, Y = torch.randn(12, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class Zoo(nn.Module):
    """Every kind of layer that has a filter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.transposed = nn.ConvTranspose2d(6, 4, 3, padding=1, groups=2)
        self.layer_norm = nn.LayerNorm([6, 6])
        self.embedding = nn.Embedding(5, 4)
        self.gru = nn.GRU(6, 3, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.token = nn.Parameter(torch.randn(1, 3, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer_norm(self.transposed(torch.relu(self.norm(self.grouped(self.conv(x))))))
        h = h.mean(dim=3).transpose(1, 2) + self.embedding(torch.zeros(6, dtype=torch.long))
        h, _ = self.attention(h, h, h)
        h = torch.cat([h, self.token.expand(len(x), 3, 4)], dim=1)
        scores: torch.Tensor = self.head(h.mean(dim=1)) + self.gru(h.transpose(1, 2)[..., :6])[0].mean(dim=1)
        return scores


def _zoo() -> ls.Objective:
    torch.manual_seed(0)
    return ls.Objective(Zoo(), nn.CrossEntropyLoss(), (X, Y))


def _slow_filters(name: str, p: torch.Tensor) -> list[torch.Tensor] | None:
    """Return the filters of a parameter of the zoo one by one, written out; None if it must not move."""
    if p.ndim < 2 or name.startswith(("norm", "layer_norm")):
        return None
    if name == "transposed.weight":  # (in 6, out / groups 2, 3, 3), two groups of three inputs
        return [p[3 * g : 3 * g + 3, o] for g in range(2) for o in range(2)]
    if name == "token":
        return [p[0, i] for i in range(3)]
    return [p[i] for i in range(p.shape[0])]


def test_every_filter_gets_the_norm_of_its_parameters() -> None:
    objective = _zoo()
    directions = ls.directions.random(objective, n=2, seed=3)
    for vector in directions.vectors:
        moved = objective.space.unflatten(vector)
        for name, p in objective.parameters.items():
            expected, found = _slow_filters(name, p.detach()), _slow_filters(name, moved[name])
            if expected is None or found is None:
                assert not moved[name].any(), name
                continue
            for theta, d in zip(expected, found, strict=True):
                assert float(d.norm()) == pytest.approx(float(theta.norm()), rel=1e-5, abs=1e-9), name


def test_norm_is_that_of_the_weights() -> None:
    objective = _zoo()
    a = ls.directions.random(objective, n=1).vectors[0]
    weights = [p for name, p in objective.parameters.items() if _slow_filters(name, p) is not None]
    norm = torch.cat([w.detach().flatten() for w in weights]).norm()
    assert float(a.norm()) == pytest.approx(float(norm), rel=1e-5)


def test_directions_are_nearly_orthogonal() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 100), nn.ReLU(), nn.Linear(100, 3))
    objective = ls.Objective(model, nn.CrossEntropyLoss(), (X, Y))
    a, b = ls.directions.random(objective, n=2).vectors
    assert abs(float(a @ b / (a.norm() * b.norm()))) < 4 / len(a) ** 0.5


def test_registry_views_cover_every_entry_once() -> None:
    objective = _zoo()
    for name, p in objective.parameters.items():
        entries = torch.arange(p.numel()).view(p.shape)
        view = filters(objective.model, name, entries)
        if view is not None:
            assert sorted(view.reshape(-1).tolist()) == list(range(p.numel())), name
    assert FILTERS[-1][0] == (nn.Module,)  # a parameter of an unknown layer still has a filter


def test_rescaling_a_relu_network_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    batch = (torch.randn(30, 4).double(), torch.randint(0, 3, (30,)))

    def curve(normalize: str) -> torch.Tensor:
        objective = ls.Objective(model, nn.CrossEntropyLoss(), batch)
        directions = ls.directions.random(objective, n=1, normalize=normalize)
        return torch.from_numpy(ls.surface(objective, directions, points=9).dataset["loss"].to_numpy())

    before = {kind: curve(kind) for kind in ("filter", "none")}
    with torch.no_grad():
        model[0].weight.mul_(7.0)
        model[2].weight.div_(7.0)
    assert torch.allclose(curve("filter"), before["filter"], rtol=1e-9)
    assert not torch.allclose(curve("none"), before["none"], rtol=1e-2)


def test_layer_normalisation_goes_tensor_by_tensor() -> None:
    objective = _zoo()
    moved = objective.space.unflatten(ls.directions.random(objective, n=1, normalize="layer").vectors[0])
    assert float(moved["conv.weight"].norm()) == pytest.approx(
        float(objective.parameters["conv.weight"].detach().norm()), rel=1e-5
    )
    assert not moved["conv.bias"].any()


def test_direction_i_is_a_function_of_seed_and_i() -> None:
    objective = _zoo()
    one, three = ls.directions.random(objective, n=1, seed=5), ls.directions.random(objective, n=3, seed=5)
    assert torch.equal(one.vectors[0], three.vectors[0])
    assert not torch.equal(one.vectors[0], ls.directions.random(objective, n=1, seed=6).vectors[0])
    assert one.describe()["fingerprint"] != three.describe()["fingerprint"]


def test_zero_filters_stay_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    with torch.no_grad():
        model[1].weight[1] = 0
    objective = ls.Objective(model, nn.CrossEntropyLoss(), (X, Y))
    moved = objective.space.unflatten(ls.directions.random(objective, n=1).vectors[0])["1.weight"]
    assert not moved[1].any()
    assert torch.isfinite(moved).all()


def test_harmless_and_bad_input() -> None:
    objective = _zoo()
    with harmless(objective.model):
        ls.directions.random(objective)
    with pytest.raises(InputError, match="there is no such normalisation, got filters; use one of filter, layer, none"):
        ls.directions.random(objective, normalize="filters")
    with pytest.raises(InputError, match="n must be at least 1"):
        ls.directions.random(objective, n=0)
    biases = ls.Objective(objective.model, nn.CrossEntropyLoss(), (X, Y), params="*.bias")
    with pytest.raises(InputError, match=r"does not move anything.*select weights too"):
        ls.directions.random(biases)
