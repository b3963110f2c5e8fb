"""Resolved eigenvalues: the right values with the right multiplicities, or none; and how many are outliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.results import SpectralDensity
from landscape.results.outliers import count_outliers
from tests.spectra.matrices import random_case, rank_ten, with_spectrum
from tests.spectra.test_density import trained_like


def _wrong(seed: int) -> tuple[int, list[str]]:
    """Return how many atoms a random case has, and what is wrong with them."""
    kind, matrix, truth = random_case(seed)
    probes, steps = (2, 4, 8)[seed % 3], (20, 40, 80)[seed // 3 % 3]
    atoms = ls.spectral_density(matrix, probes=probes, steps=steps, seed=seed).atoms
    rounding = 50 * torch.finfo(matrix.dtype).eps * np.abs(truth).max()
    wrong = []
    for value, error, times in zip(atoms.values, atoms.errors, atoms.multiplicities, strict=True):
        near = int((np.abs(truth - value) <= max(3 * error, rounding)).sum())
        if near != times:
            wrong.append(f"{kind}, seed {seed}: {value} is called {times}-fold and is {near}-fold")
    return len(atoms), wrong


def test_no_random_case_has_a_wrong_atom() -> None:
    found = [_wrong(seed) for seed in range(24)]
    assert not [words for _, wrong in found for words in wrong]
    assert sum(count for count, _ in found) > 150


@pytest.mark.slow
def test_no_case_of_a_thousand_has_a_wrong_atom() -> None:
    assert not [words for seed in range(1000) for words in _wrong(seed)[1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_multiplicities_are_told_by_more_probes(dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([5.0, 5, 5, 3, 2, 2]), torch.randn(294) * 0.1])
    matrix = with_spectrum(values, dtype=dtype)
    for probes in (2, 3, 8):
        atoms = ls.spectral_density(matrix, probes=probes, steps=40).atoms
        found = {round(float(v), 3): int(m) for v, m in zip(atoms.values, atoms.multiplicities, strict=True) if v > 1}
        known = {5.0: 3, 3.0: 1, 2.0: 2}
        assert found == {v: m for v, m in known.items() if m < probes}
    few = ls.spectral_density(matrix, probes=2, steps=40)
    assert few.outliers().count is None
    assert "not all of them resolved" in repr(few.outliers())
    assert ls.spectral_density(matrix, probes=8, steps=40).outliers().count == 6


@pytest.mark.parametrize("probes", [1, 2, 8])
@pytest.mark.parametrize("apart", [1e-9, 1e-7, 1e-5, 1e-3])
def test_errors_of_atoms_reach_the_truth_where_two_are_close(apart: float, probes: int) -> None:
    """A pair that looks like one node has no gap of its own: 10000 errors away it was."""
    values = torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.1
    values[:4] = torch.tensor([10, 10 * (1 + apart), 20, 20 * (1 + apart)], dtype=torch.float64)
    truth = values.numpy()
    for seed in range(8):
        atoms = ls.spectral_density(
            with_spectrum(values, dtype=torch.float64), probes=probes, steps=10, seed=seed
        ).atoms
        for value, error, times in zip(atoms.values, atoms.errors, atoms.multiplicities, strict=True):
            assert (np.abs(truth - value) <= error).sum() >= times


def test_one_probe_takes_a_value_for_simple_unless_its_weight_is_too_large() -> None:
    found = ls.spectral_density(trained_like()[0], probes=1, steps=60)
    assert list(found.atoms.values[-4:]) == pytest.approx([6, 12, 30, 50])
    assert list(ls.spectral_density(rank_ten(), probes=1, steps=40).atoms.values) == pytest.approx(
        range(1, 11), rel=1e-5
    )


def test_atoms_have_their_share_exactly_and_take_their_variance_away() -> None:
    matrix, truth = trained_like()
    found = ls.spectral_density(matrix, probes=4, steps=60)
    between = (truth[-5:-1] + truth[-4:]) / 2
    assert found.cdf(between) == pytest.approx(1 - np.arange(4, 0, -1) / 400, abs=1e-12)
    low, high = found.bands(between, cumulative=True)
    assert (high - low).max() < 1e-12
    assert found.moment(4) == pytest.approx((truth**4).mean(), rel=1e-6)
    plain = [abs(ls.spectral_density(matrix, probes=4, steps=60, seed=s).moment(4, atoms=False)) for s in range(3)]
    assert max(np.abs(np.array(plain) / (truth**4).mean() - 1)) > 0.1
    for value in (50, 30, 12, 6):  # one cell holds the whole mass
        cell = np.array([value - 0.1, value, value + 0.1])
        assert found.density(cell)[1] * 0.1 == pytest.approx(1 / 400, rel=1e-9)


def test_results_without_weights_between_probes_go_by_the_size_of_the_weights() -> None:
    nodes, residuals = np.tile([0.0, 1.0, 5.0], (4, 1)), np.full((4, 3), 1e-9)
    weights = np.tile([0.69, 0.3, 0.01], (4, 1))
    made = SpectralDensity.make(
        nodes, weights, residuals, n=100, matvecs=12, status="complete", message="", provenance={}
    )
    assert list(made.atoms.values) == [5.0]
    assert made.cdf([0.5, 2.0, 6.0]) == pytest.approx([0.69, 0.99, 1])


# -- outliers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("kind", ["pareto", "exponential", "gaussian", "even"])
def test_outliers_are_counted_where_a_gap_stands_out(kind: str, scale: float) -> None:
    rng = np.random.default_rng(5)
    bulk = {
        "pareto": rng.pareto(1.5, 500),
        "exponential": rng.exponential(1, 500),
        "gaussian": rng.standard_normal(500),
        "even": np.linspace(-1, 1, 500),
    }[kind]
    for count in (2, 4, 10):
        beyond = np.geomspace(60, 200, count) if kind == "pareto" else np.geomspace(10, 30, count)
        values = np.concatenate([bulk, np.max(bulk) * beyond]) * scale
        found = count_outliers(np.sort(values)[-40:])
        assert found.count == count
        assert found.edge == pytest.approx(bulk.max() * scale)
        assert sorted(found.values) == pytest.approx(sorted(values)[-count:])
        assert str(count) in repr(found)
        lower = count_outliers(-np.sort(values)[-60:], "lower")
        assert lower.count == count
        assert lower.edge == -found.edge


@pytest.mark.parametrize("kind", ["pareto", "exponential", "gaussian", "uniform", "matrix", "rank 30"])
def test_a_spectrum_without_outliers_has_none(kind: str) -> None:
    """The chance of a count where there is nothing to count is at most 5 %."""
    counted = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        if kind == "matrix":  # a symmetric random matrix, whose eigenvalues keep apart
            square = rng.standard_normal((80, 80))
            values = np.linalg.eigvalsh(square + square.T)
        elif kind == "rank 30":  # as the GGN of few examples: the gap down to zero is no gap of outliers
            factor = rng.standard_normal((80, 30))
            values = np.linalg.eigvalsh(factor @ factor.T)
        else:
            values = getattr(rng, {"gaussian": "standard_normal"}.get(kind, kind))(*([1.5] if kind == "pareto" else []),
                                                                                 size=500)  # fmt: skip
        counted += count_outliers(np.sort(values)[-40:]).count is not None
    assert counted <= 200 * 0.05 + 6  # two standard deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rank_is_not_a_number_of_outliers(dtype: torch.dtype) -> None:
    rank = torch.linspace(1, 2, 12, dtype=torch.float64)
    values = torch.cat([torch.zeros(88, dtype=torch.float64), rank, torch.tensor([50.0, 60.0]).double()])
    for outliers in (0, 2):
        matrix = with_spectrum(values[: 100 + outliers], dtype=dtype)
        found = ls.spectral_density(matrix, probes=4, steps=20).outliers()
        assert found.count == (outliers or None), found


def test_a_number_expected_beforehand_is_looked_for_only_there() -> None:
    leading = [14.32, 12.86, 11.18, 10.09, 9.391, 8.744, 7.236, 6.268, 5.568]  # of a trained network, ten classes
    values = np.array([*leading, 2.925, 2.489, 2.327, 2.009, 1.893, 1.796, 1.642, 1.55, 1.48, 1.41, 1.35, 1.3, 1.26])
    assert count_outliers(values).count is None
    assert count_outliers(values, expected=10).count == 9
    assert count_outliers(values, expected=4).count is None
    assert count_outliers(values, expected=40).count is None
    counted = sum(
        count_outliers(np.sort(np.random.default_rng(seed).pareto(1.5, 500))[-40:], expected=10).count is not None
        for seed in range(400)
    )
    assert counted <= 400 * 0.05 + 9  # two standard deviations
    with pytest.raises(InputError, match="expected must be a positive number"):
        count_outliers(values, expected=0)


def test_too_few_values_have_no_gap_to_compare_with() -> None:
    for values in ([], [1.0], [2.0, 1.0], [-1.0, -2.0, -3.0]):
        found = count_outliers(np.array(values))
        assert found.count is None
        assert "too few" in repr(found)
    with pytest.raises(InputError, match="end must be 'upper' or 'lower'"):
        count_outliers(np.ones(3), "top")


def test_outliers_of_densities_and_of_eigenpairs_agree() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(np.concatenate([np.linspace(20, 60, 10), [-30, -20], rng.standard_normal(288)]))
    matrix = with_spectrum(values, dtype=torch.float64)
    density = ls.spectral_density(matrix, probes=4, steps=60)
    assert density.outliers().count == 10
    assert density.outliers("lower").count == 2
    assert "outliers: 10 above" in repr(density)
    assert ls.eigsh(matrix, 30, tol=1e-6).outliers().count == 10
    assert ls.eigsh(matrix, 30, which="LM", tol=1e-6).outliers().count == 10
    assert ls.eigsh(matrix, 25, which="SA", tol=1e-6).outliers().count == 2
    both = ls.eigsh(matrix, 50, which="BE", tol=1e-6)
    assert both.outliers().count == 10
    assert both.outliers("lower").count == 2
    with pytest.raises(InputError, match="the lower end of the spectrum is not among these eigenvalues"):
        ls.eigsh(matrix, 3, tol=1e-6).outliers("lower")


def test_values_that_have_not_converged_do_not_count() -> None:
    from landscape.results.outliers import among_pairs

    values = np.array([9.0, 8.0, *np.linspace(1, 0.5, 12)])
    good = np.ones(14, bool)
    assert among_pairs(values, good, "LA", None).count == 2
    good[2] = False
    assert among_pairs(values, good, "LA", None).count is None
