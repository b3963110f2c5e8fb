"""Every method of the trace: exact where it can be, within its budget, honest about what it reached."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError, NonFiniteError
from landscape.spectra.estimators import METHODS, Diagonal, work
from tests.harmless import harmless
from tests.spectra.estimates import SPECTRA, Ending, matrix
from tests.spectra.matrices import rank_ten, with_spectrum

EVERY = list(METHODS)


@pytest.mark.parametrize("method", EVERY)
def test_exact_on_a_diagonal(method: str) -> None:
    found = ls.trace(torch.diag(torch.arange(1.0, 41.0).double()), products=40, method=method)
    assert found.estimate == pytest.approx(820, rel=1e-12)
    assert found.stderr == 0
    assert "exact" in found.message


def _one_pair() -> torch.Tensor:
    a = torch.eye(50)
    a[0, 1] = a[1, 0] = 0.9
    return a


@pytest.mark.parametrize("question", [ls.trace, ls.frobenius_norm, ls.diagonal])
@pytest.mark.parametrize("products", [4, 8, 40])
def test_probes_that_agree_by_chance_prove_nothing(question: Any, products: int) -> None:
    """One pair of entries hides from m probes with the chance 2^(1-m): 52 of 400 seeds said exact from 4 of 8."""
    found = [question(_one_pair(), products=products, method="hutchinson", seed=seed) for seed in range(60)]
    assert all(float(torch.as_tensor(f.stderr).max()) > 0 for f in found)
    assert all(f.matvecs == products for f in found)
    if question is not ls.diagonal:
        truth = 50 if question is ls.trace else float(_one_pair().norm())
        held = [low - 1e-4 <= truth <= high + 1e-4 for low, high in (f.interval() for f in found)]
        assert np.mean(held) >= 0.85  # two values only, of which the rarer may be all that is seen


def test_products_that_depend_on_others_to_rounding_are_no_proof_of_a_low_rank() -> None:
    values = torch.full((80,), 1e-3, dtype=torch.float64)
    values[0] = 1e3
    a = with_spectrum(values, dtype=torch.float32)
    truth = float(a.double().trace())
    found = [ls.trace(a, products=24, method="xtrace", seed=seed) for seed in range(40)]
    assert all(f.stderr > 0 for f in found)
    assert max(abs(f.estimate - truth) for f in found) < 1e-5 * truth  # 500 times rounding it was
    assert max(abs(f.estimate - truth) / f.stderr for f in found) < 5


@pytest.mark.parametrize("method", ["xtrace", "hutch++", "deflated", "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_when_the_rank_is_small(method: str, dtype: torch.dtype) -> None:
    found = ls.trace(rank_ten(dtype=dtype), method=method)
    assert found.estimate == pytest.approx(55, rel=1e-5 if dtype == torch.float32 else 1e-12)
    assert found.stderr == 0
    assert found.matvecs <= 48


@pytest.mark.parametrize("method", ["auto", "exact", "xtrace"])
def test_exact_when_all_products_are_affordable(method: str) -> None:
    a = matrix("flat")
    found = ls.trace(a, products=2 * len(a), method=method)
    assert found.estimate == pytest.approx(float(a.trace()), rel=1e-12)
    assert found.stderr == 0
    assert found.ok


@pytest.mark.parametrize("method", EVERY)
def test_a_zero_operator_has_the_trace_zero(method: str) -> None:
    found = ls.trace(torch.zeros(40, 40), method=method)
    assert found.interval() == (0, 0)
    assert found.ok


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("method", EVERY)
def test_tiny_operators(n: int, method: str) -> None:
    a = torch.eye(n, dtype=torch.float64) + 0.5
    found = ls.trace(a, method=method, max_products=40)
    low, high = found.interval()
    assert low - 1e-9 <= 1.5 * n <= high + 1e-9
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("method", EVERY)
def test_budgets_are_kept(name: str, method: str) -> None:
    a = matrix(name)
    for kwargs in ({"products": 12}, {"products": 47}, {"rtol": 1e-9, "max_products": 50}):
        if method == "exact":
            continue
        found = ls.trace(a, method=method, **kwargs)
        assert found.matvecs <= (kwargs.get("products") or kwargs["max_products"])
        if "products" in kwargs:
            assert found.status == "complete"
        else:
            assert found.stderr == 0 or found.status == "not converged"
            assert found.stderr == 0 or "raise max_products" in found.message


@pytest.mark.parametrize("method", EVERY)
def test_the_same_seed_gives_the_same_numbers(method: str) -> None:
    a = matrix("network")
    first, again = (ls.trace(a, products=60, method=method, seed=3) for _ in range(2))
    assert first.dataset.drop_attrs().identical(again.dataset.drop_attrs())
    assert first.estimate == again.estimate


def test_more_probes_extend_fewer() -> None:
    few, many = (ls.trace(matrix("flat"), products=k, method="hutchinson") for k in (5, 19))
    assert np.allclose(few.dataset["samples"], many.dataset["samples"][:5], rtol=1e-12)


def test_common_random_numbers_make_differences_small() -> None:
    a = matrix("network").double()
    b = a + 0.02 * matrix("flat")
    pairs = np.array(
        [[ls.trace(x, products=12, method="hutchinson", seed=seed).estimate for x in (a, b)] for seed in range(40)]
    )
    assert np.corrcoef(pairs.T)[0, 1] > 0.99
    difference = pairs[:, 1] - pairs[:, 0]
    assert difference.std() < 0.02 * pairs.std(axis=0).min()
    assert difference.mean() == pytest.approx(float(b.trace() - a.trace()), rel=0.1)


def test_deflation_says_both_parts() -> None:
    a = matrix("network").double()
    found = ls.trace(a, method="deflated")
    assert found.known + found.estimated == pytest.approx(found.estimate)
    assert found.known > 0.8 * float(a.trace())
    assert "known part" in found.summary()
    assert found.provenance["deflated"] >= 10


# -- the choice ------------------------------------------------------------------------------------------


def _network_like(n: int = 400) -> torch.Tensor:
    bulk = 0.5 * torch.arange(1, n - 9, dtype=torch.float64) ** -0.7
    return with_spectrum(torch.cat([torch.linspace(50, 10, 10).double(), bulk]), dtype=torch.float64)


def test_auto_needs_a_fifth_of_plain_products_on_a_spectrum_with_outliers() -> None:
    a = _network_like()
    chosen, plain = (ls.trace(a, 0.02, method=method, max_products=4000) for method in ("auto", "hutchinson"))
    assert chosen.status == plain.status == "converged"
    assert chosen.matvecs <= plain.matvecs / 5
    assert chosen.estimate == pytest.approx(float(a.trace()), rel=0.03)
    assert "hutchinson" in chosen.message
    assert "deflated" in chosen.message


def test_auto_does_not_deflate_where_nothing_is_gained() -> None:
    found = ls.trace(matrix("flat"), 0.2)
    assert found.method == "hutchinson"
    assert found.matvecs <= 40


def test_auto_finds_equal_outliers() -> None:
    """A Krylov space of one vector sees one direction of equal values; after a breakdown it sees the next."""
    values = torch.full((500,), 0.01, dtype=torch.float64)
    values[:14] = 100
    found = ls.trace(with_spectrum(values, dtype=torch.float64), 0.01)
    assert found.ok
    assert found.matvecs < 60
    assert found.estimate == pytest.approx(float(values.sum()), rel=0.01)


def test_a_choice_never_costs_more_than_all_entries() -> None:
    a = matrix("trace near zero")
    found = ls.trace(a, 0.02)
    assert found.method == "exact"
    assert found.matvecs <= 16 + 20 + len(a)
    assert found.estimate == pytest.approx(float(a.trace()), rel=1e-9)


# -- foreign truth ---------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", ["xtrace", "hutch++"])
def test_the_published_formulas_with_the_same_probes(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """curvlinops' implementation, fed with the probes that are used here."""
    pytest.importorskip("curvlinops")
    theirs = import_module(f"curvlinops.trace.{'epperly2024xtrace' if method == 'xtrace' else 'meyer2020hutch'}")
    a = matrix("power law")
    drawn = 0

    def ours(dim: int, distribution: str, device: Any, dtype: Any) -> torch.Tensor:
        nonlocal drawn
        first = work.START if method == "hutch++" and drawn < 12 else -12 if method == "hutch++" else 0
        drawn += 1
        return work.rademacher(dim, 0, first + drawn - 1, dtype=dtype, device=device)

    monkeypatch.setattr(theirs, "random_vector", ours)
    expected = theirs.xtrace(a, 36) if method == "xtrace" else theirs.hutchpp_trace(a, 36)
    assert ls.trace(a, products=36, method=method).estimate == pytest.approx(float(expected), rel=1e-10)


# -- where others stop too early -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hutchinson", "auto"])
def test_a_negative_trace_is_estimated_as_well_as_a_positive_one(method: str) -> None:
    """PyHessian's published rule divides by the mean without its sign, and stops after two samples."""
    a = matrix("power law")
    positive, negative = (ls.trace(x, 0.05, method=method) for x in (a, -a))
    assert negative.matvecs == positive.matvecs >= 16
    assert negative.estimate == pytest.approx(-positive.estimate, rel=1e-6)


def test_a_pause_of_the_running_mean_does_not_stop_it() -> None:
    """PyHessian's rule stops when the mean changes little; here only the interval counts."""
    a = matrix("power law")
    errors, paused = [], []
    for seed in range(30):
        samples = ls.trace(a, products=100, method="hutchinson", seed=seed).dataset["samples"].to_numpy()
        means = np.cumsum(samples) / np.arange(1, 101)
        moved = np.abs(np.diff(means)) / np.abs(means[1:])
        paused.append(means[1 + np.argmax(moved < 1e-3)] / float(a.trace()) - 1)
        errors.append(
            ls.trace(a, 0.05, method="hutchinson", seed=seed, max_products=3000).estimate / float(a.trace()) - 1
        )
    assert np.mean(np.abs(paused) > 0.05) > 0.3  # how wrong that rule is on this very matrix
    assert np.mean(np.abs(errors) > 0.05) < 0.2


# -- networks, ends, and bad input -----------------------------------------------------------------------


def _hessian() -> tuple[Any, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batch = (torch.randn(20, 3).double(), torch.randint(0, 2, (20,)))
    return ls.Hessian(ls.Objective(model, nn.CrossEntropyLoss(), batch)), model


@pytest.mark.parametrize("method", EVERY)
def test_parameters_and_layers_of_a_network(method: str) -> None:
    hessian, model = _hessian()
    with harmless(model):
        found = ls.trace(hessian, products=24 if method != "exact" else 26, method=method, seed=1)
    dense = hessian.to_dense().diagonal()
    parts = found.by_parameter
    assert float(parts["estimate"].sum()) == pytest.approx(found.estimate)
    assert list(found.by_layer["layer"].to_numpy()) == ["0", "2"]
    for name, where in hessian.space.slices.items():
        one = parts.sel(parameter=name)
        assert abs(float(one["estimate"]) - float(dense[where].sum())) < 5 * float(one["stderr"]) + 1e-9


@pytest.mark.parametrize("method", ["hutchinson", "hutch++", "xtrace", "deflated", "auto"])
@pytest.mark.parametrize("at", [9, 17, 21, 30, 40])
def test_ctrl_c_keeps_what_was_done(method: str, at: int) -> None:
    a = matrix("power law")
    found = ls.trace(Ending(a, at), 1e-4, method=method)
    assert found.status == "interrupted"
    assert "stopped by Ctrl-C" in found.message
    assert abs(found.estimate - float(a.trace())) < 6 * found.stderr + 1e-9
    assert found.matvecs <= at


def test_ctrl_c_before_there_is_anything_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        ls.trace(Ending(matrix("flat"), 2))


def test_a_product_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(NonFiniteError, match="not finite"):
        ls.trace(torch.full((50, 50), float("nan")))


def test_numbers_that_are_not_finite_never_pass_for_exact() -> None:
    """Products on an accelerator are not looked at one by one."""
    of = work.Work(matrix("flat"), seed=0, most=20, out=None, overwrite=False, key={})
    sums = Diagonal(of).sums()
    with pytest.raises(NonFiniteError, match="not finite"):
        sums.add(torch.ones(60, 8), torch.full((60, 8), float("nan")))


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"products": 3}, "products must be at least 4 for auto"),
        ({"products": 8, "method": "xtrace"}, "at least 12 for xtrace"),
        ({"products": 10.5}, "products must be at least"),
        ({"rtol": 0}, "rtol must be positive"),
        ({"rtol": float("nan")}, "rtol must be positive"),
        ({"rtol": None}, "rtol must be positive"),
        ({"max_products": 2}, "max_products must be at least 4"),
        ({"method": "magic"}, "methods are auto, hutchinson"),
        ({"seed": -1}, "seed must be"),
        ({"products": 20, "method": "exact"}, "exact"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ls.trace(matrix("flat"), **kwargs)
