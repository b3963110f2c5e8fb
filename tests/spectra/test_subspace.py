"""Subspaces against closed forms, dense projectors, and the law of random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import landscape as ls
from landscape.errors import InputError
from landscape.results import EigenResult, SubspaceResult
from landscape.results.family import Family
from tests.spectra.matrices import with_spectrum

overlap, share = ls.subspace.overlap, ls.subspace.share


def random_basis(n: int, k: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    raw = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, k)))
    return torch.linalg.qr(raw)[0].to(dtype)


def projector(columns: torch.Tensor) -> np.ndarray:
    basis = np.linalg.qr(columns.double().numpy())[0]
    return basis @ basis.T


def pairs_of(values: list[float], residuals: list[float], vectors: torch.Tensor, which: str = "LA") -> EigenResult:
    return EigenResult.make(
        values, residuals, [True] * len(values), vectors, which=which, tol=1e-3, matvecs=9, status="converged",
        message="", provenance={"mode": "eval", "seconds": 1},
    )  # fmt: skip


# -- closed forms -------------------------------------------------------------------------------------------


def test_the_same_span_overlaps_wholly_and_orthogonal_ones_not_at_all() -> None:
    whole = random_basis(50, 8, 0)
    a, b = whole[:, :4], whole[:, 4:]
    assert overlap(a, a).overlap == pytest.approx(1.0, abs=1e-14)
    assert overlap(a, b).overlap == pytest.approx(0.0, abs=1e-28)
    mixed = a @ torch.from_numpy(np.random.default_rng(1).standard_normal((4, 4)))  # another basis of the same span
    assert overlap(a, mixed).overlap == pytest.approx(1.0, abs=1e-12)
    assert np.allclose(overlap(a, mixed).angles, 0.0, atol=1e-6)
    half = torch.cat([a[:, :2], b[:, :2]], dim=1)
    assert overlap(a, half).overlap == pytest.approx(0.5)


def test_a_rotation_by_known_angles_has_these_principal_angles() -> None:
    whole = random_basis(30, 6, 2)
    angles = np.array([0.1, 0.7, 1.4])
    turned = whole[:, :3] * torch.from_numpy(np.cos(angles)) + whole[:, 3:] * torch.from_numpy(np.sin(angles))
    found = overlap(whole[:, :3], turned)
    assert np.allclose(found.angles, angles, rtol=1e-9)
    assert found.overlap == pytest.approx((np.cos(angles) ** 2).mean())
    assert found.dataset.sizes == {"angle": 3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_any_spanning_columns_give_what_dense_projectors_give(dtype: torch.dtype, spread: float) -> None:
    rng = np.random.default_rng(3)
    a, b = (torch.from_numpy(rng.standard_normal((40, 5)) * spread ** rng.uniform(-1, 1, 5)).to(dtype) for _ in "ab")
    g = torch.from_numpy(rng.standard_normal(40)).to(dtype)
    expected = np.trace(projector(a) @ projector(b)) / 5
    close = {"rel": 1e-10 if dtype == torch.float64 else 1e-5}
    assert overlap(a, b).overlap == pytest.approx(expected, **close)
    vector = g.double().numpy()
    assert share(a, g).share == pytest.approx(vector @ projector(a) @ vector / (vector @ vector), **close)
    cut = a[:, :3]
    assert share(a, g).cumulative[2] == pytest.approx(share(cut, g).share, **close)
    assert share(a, g, k=3).share == pytest.approx(share(cut, g).share, **close)


def test_float32_eigenvectors_of_many_entries_keep_their_digits() -> None:
    vectors = random_basis(300_000, 3, 4, torch.float32)
    assert overlap(vectors, vectors).overlap == pytest.approx(1.0, abs=1e-12)
    assert share(vectors, 3 * vectors[:, 1] - vectors[:, 2]).share == pytest.approx(1.0, abs=1e-6)
    assert np.allclose(share(vectors, 3 * vectors[:, 1] - vectors[:, 2]).cumulative, [0, 0.9, 1.0], atol=1e-4)


def test_several_over_time_give_all_pairs() -> None:
    bases = {f"step {i}": random_basis(25, 4, i) for i in range(3)}
    found = overlap(bases)
    expected = [[np.trace(projector(a) @ projector(b)) / 4 for b in bases.values()] for a in bases.values()]
    assert np.allclose(found.overlap, expected)
    assert list(found.dataset["row"].to_numpy()) == list(found.dataset["column"].to_numpy()) == list(bases)
    assert np.allclose(overlap(list(bases.values())).overlap, expected)
    assert np.allclose(overlap(list(bases.values()), bases["step 1"]).overlap, np.array(expected)[:, 1])
    assert np.allclose(overlap(bases["step 0"], bases).overlap, expected[0])
    family = Family.make({n: pairs_of([4, 3, 2, 1.0], [0] * 4, v) for n, v in bases.items()}, by="checkpoint")
    assert np.allclose(overlap(family, k=4).overlap, expected)
    assert overlap(family).provenance["mode"] == "eval"
    assert "seconds" not in overlap(family).provenance


def test_shares_of_several_vectors_and_one_for_each_subspace() -> None:
    bases = [random_basis(25, 4, i) for i in range(3)]
    rows = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 25)))
    one = [share(basis, g).share for basis, g in zip(bases, rows, strict=True)]
    assert np.allclose(share(bases, rows).share, one)
    named = share(bases[0], {"gradient": rows[0], "update": rows[1]})
    assert list(named.dataset["vector"].to_numpy()) == ["gradient", "update"]
    assert named.share[0] == pytest.approx(one[0])
    assert share(bases[0], rows[0].numpy()).share == pytest.approx(one[0])
    assert share(bases, rows[0]).share[0] == pytest.approx(one[0])
    assert share(bases, rows[0]).dataset.sizes["vector"] == 3
    assert share(torch.eye(25, dtype=torch.long)[:, :4], rows[0]).share == pytest.approx(
        float((rows[0, :4] ** 2).sum() / (rows[0] ** 2).sum())
    )
    assert share(dict(zip("abc", bases, strict=True)), rows).dataset["vector"].to_numpy().tolist() == ["a", "b", "c"]


# -- what chance gives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(20, 1), (12, 9), (200, 4)])
def test_the_baseline_is_that_of_random_subspaces(n: int, k: int) -> None:
    """Mean and spread of both numbers over 1,000 random subspaces, and how many the stated range holds."""
    fixed, g = random_basis(n, k, 0), random_basis(n, 1, 1)[:, 0]
    bases = [random_basis(n, k, 10 + i) for i in range(1000)]
    overlaps, shares = overlap(fixed, bases).overlap, share(bases, [g] * 1000).share
    for values, result in ((overlaps, overlap(fixed, fixed)), (shares, share(fixed, g))):
        assert result.baseline == k / n
        assert values.mean() == pytest.approx(k / n, abs=4 * result.baseline_stddev / 1000**0.5)
        assert values.std() == pytest.approx(result.baseline_stddev, rel=0.12)
        low, high = result.chance()
        assert 0.93 <= np.mean((low <= values) & (values <= high)) <= 0.97
    exact = stats.beta(k / 2, (n - k) / 2)
    assert share(fixed, g).chance(0.9) == pytest.approx((exact.ppf(0.05), exact.ppf(0.95)))
    assert stats.kstest(shares, exact.cdf).pvalue > 1e-3


def test_a_subspace_of_everything_leaves_nothing_to_chance() -> None:
    everything = torch.eye(5, dtype=torch.float64)
    found = share(everything, torch.arange(1.0, 6.0))
    assert (found.share, found.baseline, found.baseline_stddev) == (pytest.approx(1.0), 1.0, 0.0)
    assert found.chance() == (1.0, 1.0)
    assert overlap(everything, everything).chance() == (1.0, 1.0)


# -- whether it is defined ---------------------------------------------------------------------------------------


def test_close_values_at_the_cut_leave_the_subspace_undetermined() -> None:
    vectors = random_basis(20, 4, 6)
    clear = pairs_of([9.0, 5.0, 1.0, 0.5], [1e-3] * 4, vectors)
    close = pairs_of([9.0, 5.0, 4.999, 0.5], [1e-3] * 4, vectors)
    found = overlap(clear, close, k=2)
    assert found.status == "not converged"
    assert "the top 2 of b are not determined: eigenvalues 2 and 3 differ by" in found.message
    assert "choose k at a gap, or lower tol" in found.message
    assert float(found.dataset["undetermined_column"]) == 1.0
    good = overlap(clear, clear, k=2)
    assert good.status == "complete"
    bound = 2**0.5 * 1e-3 / (4.0 - 1e-3)
    assert float(good.dataset["undetermined_row"]) == pytest.approx(bound)
    assert good.message == f"each is within an angle of sine {bound:.2g} of the true subspace"
    assert share(close, vectors[:, 0], k=2).status == "not converged"
    last = overlap(clear, clear)
    assert last.status == "complete"
    assert last.message == "of 2 the gap below the last value is not known: ask eigsh for one pair more than k"
    assert overlap(vectors, vectors).message == ""
    failed = ls.eigsh(with_spectrum(torch.linspace(0, 1, 40)), 3, max_matvecs=8)
    assert overlap(failed, failed, k=2).message == "of a, b not all pairs are converged: compute them again"
    assert share(failed, torch.ones(40), k=2).status == "not converged"
    for which, values in (("SA", [1.0, 2.0, 9.0]), ("LM", [-9.0, 8.0, 1.0])):
        result = overlap(pairs_of(values, [0.1] * 3, vectors[:, :3], which), vectors, k=2)
        gap = 7.0 - 0.1
        assert float(result.dataset["undetermined_row"]) == pytest.approx(0.1 * 2**0.5 / gap)
    assert "is not known" in overlap(pairs_of([9.0, 1.0, -5.0], [0.1] * 3, vectors[:, :3], "BE"), vectors, k=2).message


def test_the_bound_holds_for_what_eigsh_finds() -> None:
    """The true subspace lies within the stated angle of the computed one."""
    values = torch.cat([torch.tensor([9.0, 7, 5, 4.5]), torch.linspace(-1, 1, 56)]).double()
    matrix = with_spectrum(values, seed=7, dtype=torch.float64)
    truth = torch.linalg.eigh(matrix)[1].flip(1)
    for tol in (1e-1, 1e-2, 1e-4):
        found = ls.eigsh(matrix, 5, tol=tol)
        for k in (1, 2, 3, 4):
            result = overlap(found, truth, k=k)
            sine = np.sin(result.angles).max()
            assert sine <= float(result.dataset["undetermined_row"]) * (1 + 1e-6) + 1e-7


def test_subspaces_of_a_network_are_those_of_its_dense_hessians() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    y = torch.arange(60) % 3
    x = 2 * torch.eye(3, 6).double()[y] + torch.randn(60, 6).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    results, gradients, dense = [], [], []
    for step in range(11):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        if step % 5 == 0:
            objective = ls.Objective(model, torch.nn.CrossEntropyLoss(), (x, y))
            results.append(ls.eigsh(ls.Hessian(objective), 4, tol=1e-9))
            gradients.append(objective.gradient())
            dense.append(projector(torch.linalg.eigh(ls.Hessian(objective).to_dense())[1][:, -3:]))
        optimizer.step()
    found = share(results, gradients, k=3)
    flat = [g.numpy() for g in gradients]
    assert np.allclose(found.share, [g @ p @ g / (g @ g) for g, p in zip(flat, dense, strict=True)], rtol=1e-6)
    assert (found.share > found.chance()[1]).all()  # the gradient of early training lies in the top space
    expected = [[np.trace(a @ b) / 3 for b in dense] for a in dense]
    assert np.allclose(overlap(results, k=3).overlap, expected, rtol=1e-6)


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda v: overlap(v, torch.zeros(4, 2)), "same space|other than zero"),
        (lambda v: overlap(v, random_basis(9, 3, 0)), r"same space, got vectors of \[9, 20\] entries"),
        (lambda v: overlap(v, 3), "a subspace is an EigenResult or a tensor"),
        (lambda v: overlap([]), "a subspace is an EigenResult or a tensor"),
        (lambda v: overlap([v, "x"]), "a subspace is an EigenResult or a tensor"),
        (lambda v: overlap(v, v, k=4), "k must lie between 1 and 3"),
        (lambda v: overlap(v, v, k=0), "k must lie between 1 and 3"),
        (lambda v: overlap(torch.cat([v, v[:, :1] + v[:, 1:2]], 1)), "columns of rank 3"),
        (lambda v: overlap(torch.full((20, 2), float("nan"))), "finite vectors other than zero"),
        (lambda v: share(v, torch.zeros(20)), "a finite vector other than zero"),
        (lambda v: share(v, torch.ones(19)), r"vectors must be flat, of length 20, got vector: shape \(19,\)"),
        (lambda v: share(v, {"w": torch.ones(4, 5)}), r"flatten tensors by name with H.space.flatten"),
        (lambda v: share(v, []), "at least one vector"),
        (lambda v: share([v, v], torch.ones(3, 20)), "one vector each, got 2 and 3"),
    ],
)
def test_bad_input_is_refused_in_words(call: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        call(random_basis(20, 3, 0))


def test_what_was_not_asked_is_said() -> None:
    found = overlap(random_basis(20, 3, 0), random_basis(20, 3, 1))
    with pytest.raises(AttributeError, match="this result has no share; it has overlap, cosines"):
        _ = found.share
    assert isinstance(found, SubspaceResult)
    assert {"overlap", "largest angle", "by chance", "dimensions"} == set(found.summary())
    assert "overlap of two different ones" in overlap([random_basis(20, 3, 0), random_basis(20, 3, 1)]).summary()
