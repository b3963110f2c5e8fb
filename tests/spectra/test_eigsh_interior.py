"""Values inside the spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.spectra.eigenpairs.filtering import Filter
from landscape.spectra.operators import Operator
from tests.spectra.matrices import random_case, with_spectrum


def test_agrees_with_shift_and_invert() -> None:
    values = np.random.default_rng(0).standard_normal(300)
    foreign = scipy.sparse.linalg.eigsh(
        scipy.sparse.diags_array(values, format="csc"), 6, sigma=0.3, which="LM", return_eigenvectors=False
    )
    found = ls.eigsh(torch.diag(torch.from_numpy(values)), 6, "LM", sigma=0.3, tol=1e-4, max_matvecs=6000)
    assert found.ok
    assert np.allclose(np.sort(found.values), np.sort(foreign), rtol=1e-6)
    assert (np.diff(np.abs(found.values - 0.3)) >= 0).all()
    assert found.dataset.attrs["sigma"] == 0.3


def test_the_filter_is_a_polynomial_that_falls_with_the_distance() -> None:
    values = torch.linspace(-3, 5, 201, dtype=torch.float64)
    filtered = Filter(Operator(torch.diag(values)), 1.0, 0.8, 4.05)
    image = (filtered @ torch.ones(201, 1, dtype=torch.float64))[:, 0]
    distance = (values - 1).abs()
    inside = distance <= 0.8
    assert torch.allclose(image[inside], torch.from_numpy(filtered.value(distance[inside].numpy())), atol=1e-12)
    order = distance[inside].argsort(stable=True)
    assert (image[inside][order].diff() <= 1e-12).all()
    assert image[~inside].abs().max() <= filtered.edge * (1 + 1e-9)
    assert filtered.matvecs == 2 * filtered.degree


def test_never_a_wrong_value_called_converged() -> None:
    solved = 0
    for seed in range(24):
        kind, matrix, truth = random_case(seed)
        rng = np.random.default_rng(seed)
        sigma = float(rng.choice(truth[:8])) * 1.003 + 1e-3 * np.abs(truth).max() * rng.standard_normal()
        found = ls.eigsh(matrix, 3, "LM", sigma=sigma, tol=1e-3, max_matvecs=2000, seed=seed)
        expected = truth[np.argsort(np.abs(truth - sigma))][:3]
        rounding = 50 * torch.finfo(matrix.dtype).eps * np.abs(truth).max()
        off = np.abs(np.abs(found.values - sigma) - np.abs(expected - sigma))
        assert (off <= 1e-3 * np.abs(expected) + rounding)[found.converged].all(), (seed, kind)
        solved += found.ok
    assert solved >= 12


def test_a_budget_that_is_too_small_is_said_to_be() -> None:
    matrix = with_spectrum(torch.linspace(-1, 1, 400), dtype=torch.float64)
    found = ls.eigsh(matrix, 4, "LM", sigma=0.1, max_matvecs=300)
    assert found.status == "not converged"
    assert found.matvecs <= 300
    assert "raise max_matvecs" in found.message


def test_other_ends_beside_a_shift_are_refused() -> None:
    with pytest.raises(InputError, match=r"with sigma, which must be 'LM', got LA.*pass which='LM'"):
        ls.eigsh(torch.eye(5), 1, sigma=0.5)
    with pytest.raises(InputError, match="sigma must be finite"):
        ls.eigsh(torch.eye(5), 1, "LM", sigma=float("inf"))
