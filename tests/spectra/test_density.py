"""The spectral density: exact moments, no lost mass, both bulk and outliers, at any scale."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm

import landscape as ls
from landscape.errors import InputError
from landscape.seeds import rademacher
from landscape.spectra.lanczos import Krylov
from tests.spectra.matrices import random_case, rank_ten, with_spectrum


def trained_like(
    n: int = 400, scale: float = 1.0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, np.ndarray]:
    """Return a matrix with four outliers above a bulk around zero, and its spectrum, ascending."""
    rng = np.random.default_rng(0)
    values = np.concatenate([[50, 30, 12, 6], rng.gamma(1.0, 0.05, n - 4) - 0.03]) * scale
    return with_spectrum(torch.from_numpy(values), dtype=dtype), np.sort(values)


@pytest.mark.parametrize("seed", range(16))  # twice each kind of case
def test_moments_of_each_probe_are_exact_to_degree_2m_minus_1(seed: int) -> None:
    _, matrix, truth = random_case(seed)
    steps, n = 6, len(truth)
    scale = np.abs(truth).max()
    tolerance = 1e-4 if matrix.dtype == torch.float32 else 1e-12
    found = ls.spectral_density(matrix, probes=3, steps=steps, seed=seed)
    assert np.allclose(found.weights.sum(axis=1), 1, atol=1e-12)
    starts = [rademacher(n, seed, i, dtype=torch.float64, device="cpu") / n**0.5 for i in range(3)]
    nodes = np.nan_to_num(found.nodes) / scale
    crossed = np.nan_to_num(found.dataset["crossed"].to_numpy())
    for probe, start in enumerate(starts):
        power = start
        for degree in range(2 * steps):
            exact = float(start @ power)
            assert (found.weights[probe] * nodes[probe] ** degree).sum() == pytest.approx(exact, abs=tolerance), degree
            for other in range(probe if degree < steps else 0):  # between two probes to degree m - 1
                moment = (crossed[probe, other] * nodes[probe] ** degree).sum()
                assert moment == pytest.approx(float(starts[other] @ power), abs=tolerance), (other, degree)
            power = matrix.double() @ power / scale


def test_the_density_integrates_to_one() -> None:
    found = ls.spectral_density(trained_like()[0], probes=4, steps=40)
    for width in (None, 0.5, 1e-6):
        for grid in (found.grid(300), found.grid(7)):
            cells = np.diff(np.concatenate([[grid[0]], (grid[1:] + grid[:-1]) / 2, [grid[-1]]]))
            cells[[0, -1]] *= 2
            assert (found.density(grid, width=width) * cells).sum() == pytest.approx(1, abs=2e-3), width
            rest = (found.density(grid, width=width, atoms=False) * cells).sum()
            assert rest == pytest.approx(1 - found.atoms.count / 400, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1.0, 1e8])
def test_nothing_depends_on_the_scale(scale: float, dtype: torch.dtype) -> None:
    """A constant added to each norm, or a width or margin that is absolute, loses all structure of a small loss."""
    unit, truth = ls.spectral_density(trained_like(dtype=dtype)[0], probes=3, steps=40), trained_like()[1]
    found = ls.spectral_density(trained_like(scale=scale, dtype=dtype)[0], probes=3, steps=40)
    assert found.nodes.max() == pytest.approx(50 * scale, rel=1e-5)
    assert list(found.atoms.values[-4:]) == pytest.approx([s * scale for s in (6, 12, 30, 50)], rel=1e-5)
    assert found.outliers().count == unit.outliers().count == 4
    grid = np.linspace(truth[0], truth[-1], 2000)
    exact = np.searchsorted(truth, grid, side="right") / len(truth)
    assert np.abs(found.cdf(grid * scale) - exact).mean() < 0.005
    fine = np.linspace(-0.1, 0.4, 50)
    for width in (None, 0.02):
        ours, theirs = (d.density(g, width=w) for d, g, w in (
            (unit, fine, width), (found, fine * scale, width and width * scale)))  # fmt: skip
        assert np.allclose(theirs * scale, ours, atol=2e-2 * ours.max())


def test_outliers_stay_sharp_and_the_bulk_is_not_smeared() -> None:
    """One width for all that is a share of the range, as others have it, covers the bulk many times over."""
    matrix, truth = trained_like()
    found = ls.spectral_density(matrix, probes=4, steps=60)
    for outlier in (50.0, 30.0, 12.0):
        near = np.abs(found.nodes - outlier) < 0.5
        assert near.sum() == 4  # once a probe: no ghosts
        assert found.widths[near].max() < 1e-3
    bulk = (np.abs(found.nodes) < 0.3) & (found.weights > 1e-3)
    assert found.widths[bulk].max() < 0.05
    grid = np.linspace(-0.05, 0.3, 200)
    smooth = norm.pdf(grid[:, None], truth, 0.01).mean(axis=1)
    assert np.abs(found.density(grid, width=0.01) - smooth).mean() < 0.1 * smooth.mean()


def test_a_peak_narrower_than_a_grid_cell_keeps_its_mass() -> None:
    """Of a range of 1e6, a grid of 10,000 points steps over a peak that is narrower."""
    values = torch.linspace(0, 1e6, 200, dtype=torch.float64)
    found = ls.spectral_density(with_spectrum(values, dtype=torch.float64), probes=2, steps=200)
    grid = np.linspace(-1e4, 1.01e6, 5000)
    for width in (None, 1e-3):
        assert (found.density(grid, width=width) * np.diff(grid)[0]).sum() == pytest.approx(1, abs=1e-6)


def test_cdf_needs_no_bandwidth_and_beats_the_bare_steps() -> None:
    for steps, share in ((25, 0.6), (50, 0.9)):
        rng = np.random.default_rng(steps)
        truth = np.sort(rng.standard_normal(600))
        found = ls.spectral_density(with_spectrum(torch.from_numpy(truth), dtype=torch.float64), probes=6, steps=steps)
        exact = np.arange(1, 601) / 600
        error, bare = (np.abs(found.cdf(truth, width=w) - exact).mean() for w in (None, 0.0))
        assert error < share * bare
        assert np.all(np.diff(found.cdf(np.linspace(-4, 4, 500))) >= -1e-15)
        assert found.cdf([-9.0, 9.0]) == pytest.approx([0, 1])


def test_rank_deficient_operators_end_early_and_stay_right() -> None:
    found = ls.spectral_density(rank_ten(), probes=3, steps=40)
    assert found.matvecs < 3 * 40
    assert np.isnan(found.nodes).any()
    assert list(found.atoms.values) == pytest.approx(range(1, 11), rel=1e-5)
    # what is left after ten known eigenvalues is known too
    assert found.cdf([-0.01, 0.5, 10.5]) == pytest.approx([0, 290 / 300, 1], abs=1e-6)
    low, high = found.bands([0.5], cumulative=True)
    assert low[0] <= 290 / 300 <= high[0]
    assert high[0] - low[0] < 1e-4


def test_an_accelerator_that_is_looked_at_once_a_probe_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions that die on the way are then rows of zeros until the probe is over."""
    for matrix in (trained_like(100)[0], rank_ten(80, dtype=torch.float64), torch.eye(6, dtype=torch.float64)):
        expected = ls.spectral_density(matrix, probes=3, steps=30)
        with monkeypatch.context() as patch:
            patch.setattr("landscape.spectra.density.Krylov", partial(Krylov, lazy=True))
            found = ls.spectral_density(matrix, probes=3, steps=30)
        for name in ("nodes", "weights"):
            ours, theirs = (d.dataset[name].to_numpy() for d in (found, expected))
            assert np.allclose(ours, theirs, atol=1e-12 * np.nanmax(found.nodes), equal_nan=True)
        assert np.array_equal(found.atoms.multiplicities, expected.atoms.multiplicities)


@pytest.mark.parametrize("matrix", [torch.tensor([[2.0, 1], [1, 3]]), torch.eye(6), torch.tensor([[4.0]])])
def test_small_matrices_are_exact(matrix: torch.Tensor) -> None:
    truth = np.linalg.eigvalsh(matrix.numpy())
    found = ls.spectral_density(matrix, probes=8)
    assert found.cdf(truth + 1e-3) == pytest.approx(np.searchsorted(truth, truth + 1e-3) / len(truth), abs=1e-6)
    assert found.moment(2) == pytest.approx((truth**2).mean())
    assert "resolved eigenvalues" in repr(found)
    assert found.outliers().count is None


def test_more_probes_extend_fewer_and_the_trace_comes_free() -> None:
    matrix, truth = trained_like(100)
    few, many = ls.spectral_density(matrix, probes=2, steps=20), ls.spectral_density(matrix, probes=5, steps=20)
    assert np.array_equal(few.nodes, many.nodes[:2])
    samples = ls.trace(matrix, products=5, method="hutchinson").estimate
    assert many.moment(1, atoms=False) * 100 == pytest.approx(samples, rel=1e-9)
    assert many.moment(1) == pytest.approx(truth.mean(), abs=4 * many.moment_stderr(1))
    assert many.n == len(truth)


def test_one_probe_has_no_band() -> None:
    found = ls.spectral_density(trained_like(50)[0], probes=1, steps=10)
    for cumulative in (False, True):
        low, high = found.bands(found.grid(20), cumulative=cumulative)
        assert np.isnan(low).all()
        assert np.isnan(high).all()
    assert np.isnan(found.moment_stderr(2))
    assert np.isnan(found.moment_interval(2)).all()


def test_parts_of_an_operator_add_up() -> None:
    """With common probes the first moments add up, probe by probe."""
    whole, part = trained_like(80)[0], rank_ten(80, dtype=torch.float64)
    found = ls.each(
        ls.spectral_density, {"Hessian": whole, "GGN": part, "remainder": whole - part}, by="part", probes=3, steps=10
    )
    sums = {name: (d.weights * np.nan_to_num(d.nodes)).sum(axis=1) for name, d in found.members.items()}
    assert sums["Hessian"] == pytest.approx(sums["GGN"] + sums["remainder"], rel=1e-9)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="probes and steps must be at least 1"):
        ls.spectral_density(torch.eye(3), probes=0)
    found = ls.spectral_density(torch.eye(3), probes=1, steps=2)
    with pytest.raises(InputError, match="grid must hold at least two increasing"):
        found.density([1.0, 0.0])
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        found.bands([0.0, 1.0], level=95)
