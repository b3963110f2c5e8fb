"""The diagonal: every entry with an interval that holds it, exact where that costs no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.spectra.diagonal import METHODS
from tests.harmless import harmless
from tests.spectra.estimates import Ending, matrix, slack
from tests.spectra.matrices import rank_ten

SEEDS = 400


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=[] if (name, method) == ("power law", "xdiag") else pytest.mark.slow)
        for name in ("flat", "power law", "one outlier", "network")
        for method in ("hutchinson", "xdiag", "deflated", "auto")
    ],
)  # fmt: skip
def test_intervals_of_entries_cover(name: str, method: str) -> None:
    a = matrix(name)
    truth = a.diagonal().double()
    held, errors, said = [], [], []
    for seed in range(SEEDS):
        found = ls.diagonal(a, products=36, method=method, seed=seed)
        low, high = (end.double() for end in found.interval())
        held.append(((low - slack(a) <= truth) & (truth <= high + slack(a))).double().mean())
        errors.append(found.estimate.double() - truth)
        said.append(float(found.stderr.double().square().sum()))
    assert 0.93 <= np.mean(held) <= 0.97
    error = torch.stack(errors)
    spread = error.std(dim=0)
    # entries are biased by less than their errors over 400 seeds show
    assert float((error.mean(dim=0) / (spread / SEEDS**0.5 + slack(a))).abs().max()) < 4.5
    assert np.mean(said) == pytest.approx(float(spread.square().sum()), rel=0.15, abs=slack(a) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_exact_when_it_is_affordable(method: str) -> None:
    a = matrix("flat")
    found = ls.diagonal(a, products=60 if method in ("auto", "exact") else 180, method=method)
    if method in ("auto", "exact", "xdiag"):
        assert torch.allclose(found.estimate, a.diagonal(), atol=1e-9)
        assert float(found.stderr.max()) < 1e-9
        assert found.relative_error < 1e-9
    assert found.method == {"auto": "exact"}.get(method, method)


@pytest.mark.parametrize("method", ["auto", "xdiag", "deflated"])
def test_exact_when_the_rank_is_small(method: str) -> None:
    a = rank_ten(dtype=torch.float64)
    found = ls.diagonal(a, method=method)
    assert torch.allclose(found.estimate, a.diagonal(), atol=1e-9)
    assert found.matvecs <= 48


@pytest.mark.parametrize("method", ["auto", "hutchinson", "xdiag", "deflated"])
def test_the_tolerance_is_of_all_entries_together(method: str) -> None:
    a = matrix("power law")
    found = ls.diagonal(a, 0.1, method=method, max_products=4000)
    assert found.status == "converged"
    assert found.relative_error <= 0.1
    error = float(torch.linalg.vector_norm(found.estimate - a.diagonal()) / torch.linalg.vector_norm(a.diagonal()))
    assert error < 0.15
    short = ls.diagonal(a, 1e-6, method="hutchinson", max_products=30)
    assert short.status == "not converged"
    assert "raise max_products" in short.message


def test_agrees_with_the_trace_of_the_same_products() -> None:
    a = matrix("network")
    for method, of_trace in (("hutchinson", "hutchinson"), ("xdiag", "xtrace"), ("deflated", "deflated")):
        entries, whole = ls.diagonal(a, products=40, method=method), ls.trace(a, products=40, method=of_trace)
        if method != "deflated":  # where the pilot decides on another error
            assert float(entries.estimate.double().sum()) == pytest.approx(whole.estimate, rel=1e-4)
        total = float(entries.sums("parameter")["estimate"].sum())
        assert total == pytest.approx(float(entries.estimate.double().sum()), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_of_a_network_by_parameter_and_layer(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    hessian = ls.Hessian(
        ls.Objective(model, nn.CrossEntropyLoss(), (torch.randn(20, 3).double(), torch.randint(0, 2, (20,))))
    )
    with harmless(model):
        found = ls.diagonal(hessian, products=26 if method in ("exact", "auto") else 20, method=method)
    dense = hessian.to_dense().diagonal()
    assert (found.estimate - dense).abs().max() < 6 * found.stderr.max() + 1e-9
    parts = found.by_parameter
    assert list(parts) == list(hessian.space.slices)
    assert torch.equal(torch.cat(list(parts.values())), found.estimate)
    layers = found.sums()
    assert list(layers["layer"].to_numpy()) == ["0", "2"]
    for layer, where in (("0", slice(0, 16)), ("2", slice(16, 26))):
        one = layers.sel(layer=layer)
        assert abs(float(one["estimate"]) - float(dense[where].sum())) < 6 * float(one["stderr"]) + 1e-9


def test_saved_and_loaded(tmp_path: Any) -> None:
    found = ls.diagonal(matrix("network"), products=20, out=tmp_path / "d.nc")
    again = ls.load(tmp_path / "d.nc")
    assert torch.equal(again.estimate, found.estimate)
    assert all(torch.equal(a, b) for a, b in zip(again.interval(), found.interval(), strict=True))


def test_ctrl_c_gives_the_present_diagonal() -> None:
    found = ls.diagonal(Ending(matrix("power law"), 30), 1e-6)
    assert found.status == "interrupted"
    assert float(found.stderr.min()) > 0


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"method": "xtrace"}, "methods are auto, hutchinson, xdiag"),
        ({"products": 8, "method": "xdiag"}, "at least 12"),
        ({"rtol": -1.0}, "rtol must be positive"),
        ({"method": "exact", "products": 30}, "exact needs 60 products"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ls.diagonal(matrix("flat"), **kwargs)
    with pytest.raises(InputError, match="by must be"):
        ls.diagonal(matrix("flat"), products=12).sums("tensor")
