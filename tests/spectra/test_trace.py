"""The trace: unbiased, with an interval that means what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from tests.spectra.matrices import with_spectrum
from tests.spectra.test_eigsh import _Interrupting

SEEDS = 300


def _matrix() -> torch.Tensor:
    return with_spectrum(torch.linspace(-0.5, 3, 60), dtype=torch.float64)


def test_exact_on_a_diagonal() -> None:
    diagonal = torch.diag(torch.arange(1.0, 21.0))
    found = ls.trace(diagonal, products=2)
    assert found.estimate == pytest.approx(210)
    assert found.stderr == pytest.approx(0, abs=1e-4)


def test_intervals_cover_and_the_error_bar_is_right() -> None:
    matrix = _matrix()
    truth = float(matrix.trace())
    found = [ls.trace(matrix, products=24, seed=seed) for seed in range(SEEDS)]
    covered = np.mean([low <= truth <= high for low, high in (f.interval() for f in found)])
    # 95 % within three standard errors of a proportion over 300 seeds
    assert 0.912 <= covered <= 0.988
    estimates = np.array([f.estimate for f in found])
    off = matrix - torch.diag(matrix.diagonal())
    expected = float((2 * (off**2).sum() / 24) ** 0.5)
    assert estimates.std() == pytest.approx(expected, rel=0.15)
    assert abs(estimates.mean() - truth) < 3 * expected / SEEDS**0.5
    assert np.mean([f.stderr for f in found]) == pytest.approx(expected, rel=0.1)


def test_rtol_is_met_most_of_the_time() -> None:
    matrix = _matrix()
    truth = float(matrix.trace())
    errors = [abs(ls.trace(matrix, 0.05, seed=seed).estimate / truth - 1) for seed in range(100)]
    assert np.mean(np.array(errors) <= 0.05) >= 0.88  # 0.95 less three standard errors over 100 seeds


def test_stops_on_its_interval_and_says_so() -> None:
    found = ls.trace(_matrix(), 0.05)
    low, high = found.interval()
    assert found.status == "converged"
    assert (high - low) / 2 <= 0.05 * abs(found.estimate)
    short = ls.trace(_matrix(), 1e-4, max_products=20)
    assert short.status == "not converged"
    assert "raise max_products" in short.message
    assert short.matvecs == 20


def test_a_negative_trace_does_not_stop_at_once() -> None:
    found = ls.trace(-_matrix(), 0.05)
    assert found.matvecs >= 16
    assert found.estimate == pytest.approx(-float(_matrix().trace()), rel=0.15)


def test_a_zero_operator_has_the_trace_zero() -> None:
    found = ls.trace(torch.zeros(4, 4))
    assert found.estimate == 0
    assert found.interval() == (0, 0)
    assert found.ok


def test_more_probes_extend_fewer() -> None:
    few, many = ls.trace(_matrix(), products=5), ls.trace(_matrix(), products=19)
    assert np.array_equal(few.dataset["samples"], many.dataset["samples"][:5])


def test_parameters_share_the_products() -> None:
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batch = (torch.randn(20, 3).double(), torch.randint(0, 2, (20,)))
    hessian = ls.Hessian(ls.Objective(model, nn.CrossEntropyLoss(), batch))
    found = ls.trace(hessian, products=400)
    dense = hessian.to_dense().diagonal()
    parts = found.by_parameter
    assert float(parts["estimate"].sum()) == pytest.approx(found.estimate)
    for name, where in hessian.space.slices.items():
        one = parts.sel(parameter=name)
        assert abs(float(one["estimate"]) - float(dense[where].sum())) < 5 * float(one["stderr"]) + 1e-9


def test_ctrl_c_keeps_the_probes_so_far() -> None:
    found = ls.trace(_Interrupting(_matrix(), 20), 1e-6)
    assert found.status == "interrupted"
    assert found.dataset.sizes["probe"] == 16


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [({"products": 1}, "at least 2"), ({"rtol": 0}, "rtol must be positive"), ({"max_products": 4}, "at least 16")],
)
def test_bad_input(kwargs: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ls.trace(_matrix(), **kwargs)
