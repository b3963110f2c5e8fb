"""The spectral density: exact moments, no lost mass, both bulk and outliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.seeds import rademacher
from tests.spectra.matrices import rank_ten, with_spectrum
from tests.spectra.test_eigsh import _Interrupting


def _trained_like(n: int = 400, scale: float = 1.0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    values = np.concatenate([[50, 30, 12, 6], rng.gamma(1.0, 0.05, n - 4) - 0.03]) * scale
    return with_spectrum(torch.from_numpy(values), dtype=torch.float64), np.sort(values)


def test_moments_of_each_probe_are_exact_to_degree_2m_minus_1() -> None:
    matrix, _ = _trained_like(60)
    steps = 5
    found = ls.spectral_density(matrix, probes=3, steps=steps)
    for probe in range(3):
        v = rademacher(60, 0, probe, dtype=torch.float64, device="cpu") / 60**0.5
        power = v
        for degree in range(2 * steps):
            exact = float(v @ power)
            quadrature = float((found.weights[probe] * found.nodes[probe] ** degree).sum())
            assert quadrature == pytest.approx(exact, rel=1e-9), (probe, degree)
            power = matrix @ power


def test_weights_sum_to_one_and_the_density_integrates_to_one() -> None:
    matrix, _ = _trained_like()
    found = ls.spectral_density(matrix, probes=4, steps=40)
    assert np.allclose(found.weights.sum(axis=1), 1)
    for width in (None, 0.5, 1e-6):
        grid = found.grid(300)
        density = found.density(grid, width=width)
        middles = (grid[1:] + grid[:-1]) / 2
        cells = np.diff(np.concatenate([[2 * grid[0] - middles[0]], middles, [2 * grid[-1] - middles[-1]]]))
        assert (density * cells).sum() == pytest.approx(1, abs=2e-3), width


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_cdf_is_close_to_the_true_one_at_any_scale(scale: float) -> None:
    matrix, truth = _trained_like(scale=scale)
    found = ls.spectral_density(matrix, probes=8, steps=60)
    grid = np.linspace(truth[0], truth[-1], 2000)
    exact = np.searchsorted(truth, grid, side="right") / len(truth)
    assert np.abs(found.cdf(grid) - exact).mean() < 0.01
    smooth = found.density(grid)
    assert (smooth >= 0).all()


def test_outliers_stay_sharp_and_the_bulk_is_not_smeared() -> None:
    matrix, truth = _trained_like()
    found = ls.spectral_density(matrix, probes=4, steps=60)
    for outlier in (50.0, 30.0, 12.0):
        near = np.abs(found.nodes - outlier) < 0.5
        assert near.sum() == 4  # once a probe: no ghosts
        assert found.widths[near].max() < 1e-3
        # the mean over probes is 1/n, within the spread of signs
        assert found.weights[near].mean() == pytest.approx(1 / len(truth), rel=2.5)
    bulk = np.abs(found.nodes) < 1
    assert found.widths[bulk].max() < 0.2


def test_bands_hold_the_truth_most_of_the_time() -> None:
    matrix, truth = _trained_like(200)
    at = np.array([0.0])
    exact = np.mean(truth <= 0)
    held = []
    for seed in range(120):
        found = ls.spectral_density(matrix, probes=8, steps=30, seed=seed)
        low, high = found.bands(at, cumulative=True)
        held.append(low[0] <= exact <= high[0])
    assert 0.88 <= np.mean(held) <= 1.0


def test_rank_deficient_operators_end_early_and_stay_right() -> None:
    found = ls.spectral_density(rank_ten(), probes=3, steps=40)
    assert found.cdf(np.array([0.5]))[0] == pytest.approx(290 / 300, abs=0.03)
    assert found.matvecs < 3 * 40
    assert np.isnan(found.nodes).any()
    assert np.allclose(found.weights.sum(axis=1), 1, atol=1e-6)


def test_more_probes_extend_fewer_and_the_trace_comes_free() -> None:
    matrix, truth = _trained_like(100)
    few, many = ls.spectral_density(matrix, probes=2, steps=20), ls.spectral_density(matrix, probes=5, steps=20)
    assert np.array_equal(few.nodes, many.nodes[:2])
    samples = ls.trace(matrix, products=5).estimate
    assert many.moment(1, atoms=False) * 100 == pytest.approx(samples, rel=1e-9)
    assert many.n == len(truth)


def test_one_probe_has_no_band() -> None:
    found = ls.spectral_density(_trained_like(50)[0], probes=1, steps=10)
    low, high = found.bands(found.grid(20))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_ctrl_c_keeps_whole_probes() -> None:
    matrix, _ = _trained_like(50)
    found = ls.spectral_density(_Interrupting(matrix, 25), probes=4, steps=10)
    assert found.status == "interrupted"
    assert found.nodes.shape == (2, 10)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="probes and steps must be at least 1"):
        ls.spectral_density(torch.eye(3), probes=0)
    found = ls.spectral_density(torch.eye(3), probes=1, steps=2)
    with pytest.raises(InputError, match="grid must hold at least two increasing"):
        found.density([1.0, 0.0])
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        found.bands([0.0, 1.0], level=95)
