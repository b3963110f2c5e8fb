"""Flat vectors by name, dots in float64, and random vectors that are functions of (seed, index)."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch

from landscape import seeds
from landscape.errors import InputError
from landscape.space import Space, dot64
from tests.harmless import harmless, snapshot


def test_flatten_and_unflatten_are_inverse() -> None:
    tensors = {"a": torch.randn(2, 3), "b": torch.randn(()), "c": torch.randn(4, 1, 2)}
    space = Space.of(tensors)
    assert space.n == 15
    flat = space.flatten(tensors)
    back = space.unflatten(flat)
    assert all(torch.equal(back[name], t) for name, t in tensors.items())
    assert torch.equal(space.flatten(tensors.values()), flat)
    assert space.slices == {"a": slice(0, 6), "b": slice(6, 7), "c": slice(7, 15)}
    assert torch.equal(flat[space.slices["c"]], tensors["c"].reshape(-1))
    flat[0] = 7
    assert tensors["a"][0, 0] != 7  # a copy


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((torch.float32,), torch.float32),
        ((torch.bfloat16, torch.float16), torch.float32),
        ((torch.bfloat16, torch.float64), torch.float64),
    ],
)
def test_dtype_of_vectors(dtypes: tuple[torch.dtype, ...], expected: torch.dtype) -> None:
    space = Space.of({str(i): torch.zeros(2, dtype=d) for i, d in enumerate(dtypes)})
    assert space.dtype == expected
    assert space.flatten([torch.zeros(2, dtype=d) for d in dtypes]).dtype == expected


def test_dots_are_accumulated_in_float64() -> None:
    u = torch.full((100_003,), 0.1)
    exact = u.double().square().sum()
    assert dot64(u, u).dtype == torch.float64
    for chunk in (7919, 1 << 22):
        assert float(dot64(u, u, chunk)) == pytest.approx(float(exact), rel=1e-12)
    v = torch.tensor([1e8, 1.0, -1e8])
    assert float(dot64(v, torch.ones(3))) == 1.0


def test_random_vectors_are_functions_of_seed_and_index() -> None:
    with harmless():
        for draw in (seeds.rademacher, seeds.normal):
            a = draw(1001, 3, 5, dtype=torch.float32, device="cpu")
            assert torch.equal(a, draw(1001, 3, 5, dtype=torch.float32, device="cpu"))
            assert not torch.equal(a, draw(1001, 3, 6, dtype=torch.float32, device="cpu"))
            assert not torch.equal(a, draw(1001, 4, 5, dtype=torch.float32, device="cpu"))
            assert not torch.equal(a, draw(1001, 0, 5, dtype=torch.float32, device="cpu"))
            assert abs(float(a.mean())) < 0.15
            assert abs(float(a.var()) - 1) < 0.2
    signs = seeds.rademacher(1001, 3, 5, dtype=torch.float64, device="cpu")
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert torch.equal(signs.float(), seeds.rademacher(1001, 3, 5, dtype=torch.float32, device="cpu"))
    first = [seeds.rademacher(64, 0, i, dtype=torch.float64, device="cpu") for i in range(200)]
    gram = torch.stack(first) @ torch.stack(first).T / 64 - torch.eye(200)
    assert float(gram.abs().max()) < 0.65  # independent of each other


def test_the_same_bytes_on_every_machine() -> None:
    assert seeds.rademacher(8, 0, 0, dtype=torch.int8, device="cpu").tolist() == [1, -1, 1, -1, 1, -1, -1, 1]
    normals = seeds.normal(2, 1, 2, dtype=torch.float64, device="cpu").tolist()
    assert normals == pytest.approx([-0.6674154505589747, 1.0114901579809081], rel=1e-12)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "a", True])
def test_seeds_that_are_none(seed: object) -> None:
    with pytest.raises(InputError, match="seed must be a non-negative integer"):
        seeds.check_seed(seed)  # type: ignore[arg-type]
    assert seeds.check_seed(np.int64(3)) == 3


def test_generators_are_put_back() -> None:
    before = snapshot()
    with suppress(KeyboardInterrupt), seeds.preserved_rng():
        seeds.seed_all(5)
        torch.rand(2)
        raise KeyboardInterrupt
    assert snapshot() == before
    with seeds.preserved_rng():
        seeds.seed_all(5, 1)
        one = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        seeds.seed_all(5, 1)
        assert (torch.rand(1), random.random(), np.random.rand()) == one  # noqa: NPY002
        seeds.seed_all(5, 2)
        assert torch.rand(1) != one[0]
