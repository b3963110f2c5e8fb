"""Warm starts: old vectors save products and never hide a new direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from tests.spectra.matrices import with_spectrum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("crossing", [1.10, 1.20, 1.30, 1.50])
@pytest.mark.parametrize("seed", range(3))
def test_a_branch_that_has_crossed_is_followed_at_once(crossing: float, dtype: torch.dtype, seed: int) -> None:
    values = torch.cat([torch.tensor([1.0, 0.5, 0.3]), torch.linspace(-0.1, 0.2, 497)]).to(dtype)
    values[400] = crossing
    old = torch.zeros(500, 1, dtype=dtype)
    old[0] = 1  # exactly no overlap with the new direction
    found = ls.eigsh(torch.diag(values), 1, start=old, tol=1e-2, seed=seed)
    assert found.ok
    assert found.values[0] == pytest.approx(crossing, rel=1e-2)


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_little_change_takes_fewer_products(k: int, dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([10.0, 8, 6, 5, 4, 3]), torch.linspace(-1, 2, 494)])
    before, change = with_spectrum(values, dtype=dtype), with_spectrum(torch.randn(500), seed=3, dtype=dtype)
    after = before + 1e-3 * change
    cold, warm = ls.eigsh(after, k, tol=1e-3), ls.eigsh(after, k, tol=1e-3, start=ls.eigsh(before, k, tol=1e-3))
    assert warm.ok
    assert warm.matvecs <= cold.matvecs - (k > 1)  # a single pair takes few from nothing, too
    assert np.allclose(warm.values, cold.values, rtol=1e-5)
    assert warm.provenance["start_vectors"] == k


def test_any_guess_will_do() -> None:
    matrix = with_spectrum(torch.cat([torch.tensor([5.0, 4.0]), torch.linspace(-1, 1, 98)]))
    same = torch.ones(100, 3)  # three times the same vector
    for guess in (torch.ones(100), same, torch.randn(100, 8), torch.zeros(100, 2)):
        found = ls.eigsh(matrix, 2, start=guess)
        assert found.ok
        assert np.allclose(found.values, [5, 4], rtol=1e-5)


@pytest.mark.parametrize(
    ("start", "match"),
    [
        (torch.ones(99, 2), r"start must hold vectors of length n = 100 as columns, got shape \(99, 2\)"),
        (torch.ones(100, 2, 2), r"got shape \(100, 2, 2\)"),
        ("yesterday's", r"got str"),
        (torch.full((100, 1), float("nan")), r"start must be finite"),
    ],
)
def test_bad_starts_are_refused_in_words(start: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ls.eigsh(torch.eye(100), 2, start=start)
