"""The bound behind "none is missing": how likely random vectors are all nearly orthogonal to an eigenvector."""

from __future__ import annotations

import numpy as np
import pytest

from landscape.spectra.eigenpairs.certainty import within


@pytest.mark.parametrize("probes", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2, 4])
@pytest.mark.parametrize("size", [0.05, 0.5])
def test_the_bound_holds_and_is_sharp_for_small_ellipsoids(probes: int, directions: int, size: float) -> None:
    """400,000 normal vectors for each of three ellipsoids: h of least length with M h = z is no longer than 1."""
    rng = np.random.default_rng(probes * 10 + directions)
    for _ in range(3):
        M = size * rng.standard_normal((probes, directions))
        bound = within(M @ M.T, np.zeros(probes))
        if directions < probes:
            assert bound < 1e-6  # flat: it has no volume
            continue
        z = rng.standard_normal((400_000, probes))
        inside = np.mean(np.sum((z @ np.linalg.pinv(M).T) ** 2, axis=1) <= 1)
        error = 4 * (bound / len(z)) ** 0.5 + 1e-5
        assert inside <= bound + error
        if size < 0.1:
            assert inside >= 0.9 * bound - error


def test_a_probe_that_tells_nothing_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    one = within(np.array([[0.01**2]]), np.zeros(1))
    assert one == pytest.approx(np.sqrt(2 / np.pi) * 0.01)
    assert within(np.diag([1e8, 0.01**2, 1e4]), np.zeros(3)) == pytest.approx(one)
    assert within(axes @ np.diag([1e4, 0.01**2, 1e4]) @ axes.T, np.zeros(3)) == pytest.approx(one)


def test_what_rounding_took_makes_it_larger() -> None:
    """An interval of half-width a + b, a box of half-widths b, and an ellipse that is flat but for b."""
    lengthened = within(np.array([[0.01**2]]), np.array([1e-4]))
    assert np.sqrt(2 / np.pi) * (0.01 + 1e-4) <= lengthened <= 1.1 * np.sqrt(2 / np.pi) * (0.01 + 1e-4)
    assert within(np.zeros((2, 2)), np.array([1e-3, 2e-3])) >= 4 * 1e-3 * 2e-3 / (2 * np.pi)
    flat = np.outer([0.1, 0.2], [0.1, 0.2])
    assert within(flat, np.zeros(2)) < 1e-8 < within(flat, np.array([1e-4, 1e-4]))


def test_a_bound_is_a_chance_and_nothing_known_is_no_proof() -> None:
    assert within(np.array([[1e6]]), np.zeros(1)) == 1.0
    assert within(np.array([[np.inf]]), np.zeros(1)) == 1.0
    assert within(np.eye(2) * np.nan, np.zeros(2)) == 1.0
    assert within(np.eye(1), np.array([np.nan])) == 1.0
