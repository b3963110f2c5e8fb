"""A thousand random cases: no wrong value is called converged, and what is missing is said to be missing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import landscape as ls
from tests.spectra.matrices import random_case, wanted, with_spectrum

GROUPS, EACH, DEFAULT = 20, 50, 4  # groups of so many cases; so many groups in the default suite


def _check(seed: int) -> None:
    """Solve one case and compare place by place with the dense spectrum."""
    kind, matrix, truth = random_case(seed)
    rng = np.random.default_rng([seed, 1])
    which, k = ("LA", "SA", "LM", "BE")[rng.integers(4)], int(rng.integers(1, 11))
    tol = (None, 1e-3, 1e-3, 1e-2)[rng.integers(4)]
    found = ls.eigsh(matrix, k, which, tol=tol, seed=seed)
    expected = wanted(truth, k, which)
    values, places = found.values, expected
    if which == "LM":  # of ± pairs either may come first
        values, places = np.abs(values), np.abs(expected)
    rounding = torch.finfo(matrix.dtype).eps * np.abs(truth).max()
    accepted = found.dataset.attrs["tol"] * np.abs(expected) + 20 * rounding
    wrong = found.converged & (np.abs(values - places) > accepted)
    assert not wrong.any(), f"case {seed}: {kind}, {which}, k = {k}: {found.values} for {expected}"
    # nothing is given up either: what is not called converged is zero, or below what float32 can resolve
    beyond = np.abs(expected) <= 50 * rounding / found.dataset.attrs["tol"]
    assert (found.converged | beyond).all(), f"case {seed}: {found.message}"
    assert found.ok == bool(found.converged.all())
    if not found.ok:
        assert "zero to rounding" in found.message or "as exact as" in found.message or "not converged" in found.message


@pytest.mark.parametrize(
    "group", [pytest.param(g, marks=[] if g < DEFAULT else pytest.mark.slow) for g in range(GROUPS)]
)
def test_never_a_wrong_value_called_converged(group: int) -> None:
    for seed in range(EACH * group, EACH * (group + 1)):
        _check(seed)


def test_a_value_missed_by_the_start_vector_is_found() -> None:
    values = torch.cat([torch.tensor([5.0, 4.0, 3.0]), torch.linspace(-1, 1, 197)]).double()
    blind = torch.ones(200, 1, dtype=torch.float64)
    blind[1] = 0  # orthogonal to the second eigenvector
    found = ls.eigsh(torch.diag(values), 3, tol=1e-3, start=blind)
    assert found.ok
    assert np.allclose(found.values, [5, 4, 3], rtol=1e-6)


@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_are_counted(copies: int, dtype: torch.dtype) -> None:
    values = torch.cat([torch.full((copies,), 7.0), torch.tensor([3.0]), torch.linspace(-1, 1, 300)])
    found = ls.eigsh(with_spectrum(values, dtype=dtype), copies + 1, tol=1e-3)
    assert found.ok
    assert np.allclose(found.values, [7.0] * copies + [3.0], rtol=1e-5)
    assert torch.allclose(found.vectors.T @ found.vectors, torch.eye(copies + 1, dtype=dtype), atol=1e-5)


def test_near_equal_and_opposite_values_do_not_stop_it() -> None:
    """Power iteration stops between a value and its opposite, and at the first pause between two close ones."""
    opposite = ls.eigsh(torch.diag(torch.cat([torch.tensor([2.0, -2.0]), torch.linspace(-1, 1, 98)])), 1)
    assert opposite.values[0] == pytest.approx(2.0, rel=1e-5)
    close = ls.eigsh(torch.diag(torch.cat([torch.tensor([1.0, 0.999]), torch.linspace(0, 0.9, 98)])), 2)
    assert np.allclose(close.values, [1.0, 0.999], rtol=1e-5)


def _network_like(n: int, ratio: float, gap: float, power: float) -> np.ndarray:
    """Return ten outliers that decay geometrically above a bulk that decays like a power."""
    top = 10 * ratio ** np.arange(10)
    bulk = gap * top[-1] * np.arange(1.0, n - 9) ** -power
    bulk[1::3] *= -0.3
    return np.concatenate([top, bulk])


class _Counted:
    dtype, device, symmetric = torch.float64, "cpu", True

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.count = torch.from_numpy(values), (len(values), len(values)), 0

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.values * v


@pytest.mark.parametrize(("ratio", "gap", "power"), [(0.9, 0.95, 0.5), (0.8, 0.8, 1.0), (0.9, 0.98, 0.3)])
def test_products_beside_arpack(ratio: float, gap: float, power: float) -> None:
    values = _network_like(4000, ratio, gap, power)
    foreign, ours = [], []
    for seed in range(3):
        operator = _Counted(values)
        as_scipy = scipy.sparse.linalg.LinearOperator(
            operator.shape, matvec=lambda v, op=operator: (op @ torch.from_numpy(v)).numpy(), dtype=np.float64
        )
        start = np.random.default_rng(seed).standard_normal(len(values))
        scipy.sparse.linalg.eigsh(as_scipy, 10, which="LA", tol=1e-3, v0=start)
        foreign.append(operator.count)
        found = ls.eigsh(counted := _Counted(values), 10, tol=1e-3, seed=seed)
        assert found.ok
        assert found.matvecs == counted.count
        assert np.allclose(found.values, values[:10], rtol=1e-3)
        ours.append(found.matvecs)
    # a few more than ARPACK, which checks neither the residuals nor that none is missing
    assert np.mean(ours) <= 1.1 * np.mean(foreign) + 5


NARROW = {
    "three above equal ones": lambda n, tol: (np.r_[np.full(3, 1 + 10 * tol), np.ones(n - 3)], 3),
    "one above equal ones": lambda n, tol: (np.r_[1 + 5 * tol, np.ones(n - 1)], 1),
    "four below three, above equal ones": lambda n, tol: (np.r_[10, 9, 8, np.full(4, 1 + 5 * tol), np.ones(n - 7)], 7),
}


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-6), (torch.float32, 1e-2)])
@pytest.mark.parametrize("kind", NARROW)
def test_values_that_every_vector_nearly_solves_for(kind: str, dtype: torch.dtype, tol: float) -> None:
    """Where the bulk is as narrow as the tolerance, any residual is small and proves next to nothing."""
    wrong = 0
    for seed in range(40):
        values, k = NARROW[kind](60 if seed % 2 else 300, tol)
        matrix = with_spectrum(torch.from_numpy(values), seed=seed, dtype=dtype)
        truth = np.sort(np.linalg.eigvalsh(matrix.double().numpy()))[::-1][:k]
        found = ls.eigsh(matrix, k, tol=tol, seed=seed)
        rounding = 30 * torch.finfo(dtype).eps * values.max()
        wrong += bool((found.converged & (np.abs(found.values - truth) > 2 * tol * truth + rounding)).any())
    assert wrong <= 4  # 5 % are promised; more has a chance of 5 % then


@pytest.mark.parametrize("which", ["LA", "BE"])
def test_what_rounding_hides_ends_the_search_and_is_said(which: str) -> None:
    """Two values above 198 equal ones, tolerance near float32's rounding: none tells whether one lies between."""
    values = torch.ones(200, dtype=torch.float64)
    values[:2] = 1 + 1e-3
    for seed in range(5):
        matrix = with_spectrum(values, seed=seed, dtype=torch.float32)
        found = ls.eigsh(matrix, 8, which, tol=1.8e-6, seed=seed)
        assert found.matvecs < 60
        assert np.allclose(found.values, np.where(found.values > 1.0005, 1.001, 1), atol=1e-5)
        assert found.ok or "rounding hides them: use float64, or loosen tol" in found.message
        assert ls.eigsh(matrix.double(), 8, which, tol=1.8e-6, seed=seed).ok


@pytest.mark.parametrize(("rank", "k", "which"), [(3, 6, "LA"), (3, 3, "SA")])
def test_a_damped_low_rank_in_float32_ends_soon(rank: int, k: int, which: str) -> None:
    """Any random vector brings another copy of the damping, and rounding hides what may lie just above it."""
    values = torch.ones(300, dtype=torch.float64)
    values[:rank] += torch.linspace(1, 5, rank)
    found = ls.eigsh(with_spectrum(values, dtype=torch.float32), k, which)
    assert found.matvecs <= 3 * k + 40
    expected = values.sort(descending=which == "LA").values[:k]
    assert np.allclose(found.values, expected, rtol=1e-5)
    assert found.ok or "others may be missing above them" in found.message
    assert ls.eigsh(with_spectrum(values, dtype=torch.float64), k, which).ok
