"""Eigenpairs: never a wrong value called converged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import landscape as ls
from landscape import progress
from landscape.errors import InputError, NonFiniteError
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator
from tests.spectra.matrices import hard, rank_ten, with_spectrum


@pytest.mark.parametrize("seed", range(5))
def test_rank_ten_in_float32_gives_exactly_ten_converged_values(seed: int) -> None:
    found = ls.eigsh(rank_ten(seed=seed), k=20, max_matvecs=60, basis=40, seed=seed)
    assert np.allclose(found.values[found.converged], np.arange(10, 0, -1), rtol=1e-5)
    assert found.converged.sum() == 10
    assert "zero to rounding" in found.message
    assert found.matvecs <= 60
    gram = found.vectors.T @ found.vectors
    assert torch.allclose(gram, torch.eye(20), atol=1e-5)


def test_forty_plain_lanczos_steps_hold_no_ghosts() -> None:
    matrix = rank_ten()
    operator = Operator(matrix)
    krylov = Krylov(operator, 40, torch.ones(300), seed=0)
    for _ in range(40):
        krylov.extend()
    values, _, estimates = krylov.ritz()
    large = values[np.abs(values) > 1e-3][::-1]
    assert np.allclose(large, np.arange(10, 0, -1), rtol=1e-5)
    assert krylov.breakdowns >= 1
    assert estimates.max() < 1e-3
    basis = krylov.basis[:40]
    assert torch.allclose(basis @ basis.T, torch.eye(40), atol=1e-5)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_hard_matrices(seed: int, which: str) -> None:
    kind, matrix, truth = hard(seed)
    k = 4
    found = ls.eigsh(matrix, k, which, seed=seed)
    expected = {
        "LA": truth[:k],
        "SA": truth[::-1][:k],
        "LM": truth[np.argsort(-np.abs(truth), kind="stable")][:k],
        "BE": np.sort(np.concatenate([truth[: k // 2], truth[-(k // 2) :]]))[::-1],
    }[which]
    tol = 1e-6 if matrix.dtype == torch.float64 else 1e-4
    scale = np.abs(truth).max()
    for i in np.flatnonzero(found.converged):
        # what is called converged is an eigenvalue, within its own residual
        distance = np.abs(truth - found.values[i]).min()
        assert distance <= tol * abs(found.values[i]) + 1e-6 * scale, (kind, i)
    if found.ok:
        # pairs of equal magnitude may stand in either order
        assert np.allclose(np.sort(np.abs(found.values)), np.sort(np.abs(expected)), rtol=1e-3, atol=1e-4 * scale), kind
    true_residuals = matrix.double() @ found.vectors.double() - found.vectors.double() * torch.from_numpy(found.values)
    assert np.allclose(true_residuals.norm(dim=0), found.residuals, rtol=0.2, atol=1e-6 * scale)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_scale_does_not_matter(scale: float) -> None:
    values = torch.cat([torch.tensor([5.0, 3.0, -4.0]), torch.linspace(-1, 1, 100)])
    matrix = with_spectrum(values)
    base, scaled = ls.eigsh(matrix, 2), ls.eigsh(matrix * scale, 2)
    assert np.allclose(base.values * scale, scaled.values, rtol=1e-5)
    assert base.matvecs == scaled.matvecs


def test_largest_algebraic_is_not_largest_magnitude() -> None:
    matrix = torch.diag(torch.tensor([-10.0, 3.0, 2.0, 1.0, 0.5]))
    assert ls.eigsh(matrix, 1).values[0] == pytest.approx(3.0)
    assert ls.eigsh(matrix, 1, "LM").values[0] == pytest.approx(-10.0)
    assert np.allclose(ls.eigsh(matrix, 2, "BE").values, [3.0, -10.0])


def test_one_pair_is_as_good_as_many() -> None:
    values = torch.cat([torch.tensor([4.845]), torch.linspace(0, 4, 400)])
    found = ls.eigsh(with_spectrum(values), 1)
    assert found.ok
    assert found.values[0] == pytest.approx(4.845, rel=1e-5)


def test_exact_multiplicities_are_found() -> None:
    values = torch.cat([torch.full((3,), 5.0), torch.linspace(0, 1, 97)])
    found = ls.eigsh(torch.diag(values.double()), 4)
    assert np.allclose(found.values, [5, 5, 5, 1], atol=1e-6)
    assert found.ok


@pytest.mark.parametrize("matrix", [torch.zeros(6, 6), torch.eye(7), torch.tensor([[2.0]])])
def test_degenerate_operators(matrix: torch.Tensor) -> None:
    found = ls.eigsh(matrix, 1)
    assert found.values[0] == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), abs=1e-6)


def test_agrees_with_arpack_and_needs_no_more_products() -> None:
    values = torch.cat([torch.tensor([40.0, 30, 22, 15, 9]), torch.linspace(-1, 3, 595)])
    matrix = with_spectrum(values, dtype=torch.float64)
    count = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return matrix.numpy() @ v

    foreign = scipy.sparse.linalg.LinearOperator(matrix.shape, matvec=product, dtype=np.float64)
    truth = scipy.sparse.linalg.eigsh(foreign, k=5, which="LA", return_eigenvectors=False, tol=1e-6)
    found = ls.eigsh(matrix, 5, tol=1e-6)
    assert np.allclose(found.values, np.sort(truth)[::-1], rtol=1e-9)
    assert found.matvecs <= 1.3 * count


def test_kinds_of_operators_agree() -> None:
    matrix = rank_ten(60, dtype=torch.float64)
    dense = matrix.numpy()
    sources: list[Any] = [matrix, dense, scipy.sparse.linalg.aslinearoperator(dense), scipy.sparse.csr_array(dense)]
    results = [ls.eigsh(source, 3).values for source in sources]
    for values in results:
        assert np.allclose(values, [10, 9, 8], rtol=1e-9)


class _Diagonal:
    """All that is promised of a foreign operator: a shape, and ``@`` with a vector."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.shape = values, (len(values), len(values))

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        return self.values * v  # with a block of columns this would broadcast to a wrong answer


def test_a_foreign_operator_that_knows_vectors_only() -> None:
    values = torch.linspace(-1, 4, 50)
    assert np.allclose(ls.eigsh(_Diagonal(values), 3).values, values.flip(0)[:3], rtol=1e-5)
    assert ls.trace(_Diagonal(values), products=4).estimate == pytest.approx(float(values.sum()), rel=1e-5)
    assert ls.spectral_density(_Diagonal(values), probes=2, steps=5).moment(1) * 50 == pytest.approx(75, rel=1e-5)


def test_a_million_entries_in_float32_lose_no_digits() -> None:
    values = torch.rand(1_000_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    values[:5] = torch.tensor([10.0, 9.99, 5.0, 1.0, 0.5])
    found = ls.eigsh(_Diagonal(values), 5)
    assert found.ok
    assert np.allclose(found.values, values[:5], rtol=1e-6)


def test_a_product_of_a_wrong_shape_is_refused() -> None:
    class Wrong(_Diagonal):
        def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
            return v[:-1]

    with pytest.raises(InputError, match=r"must be a vector of length 50, got shape \(49,\)"):
        ls.eigsh(Wrong(torch.ones(50)), 1)


def test_a_small_value_beside_a_large_one_is_as_exact_as_float32_makes_it() -> None:
    values = torch.cat([torch.tensor([9.0, 7.0]), torch.linspace(-0.05, 0.05, 200)])
    matrix = with_spectrum(values)
    found = ls.eigsh(matrix, 1, "SA", tol=1e-6)
    assert found.values[0] == pytest.approx(-0.05, rel=1e-3)
    assert not found.converged[0]
    assert "as exact as float32 makes them beside the largest value: use float64" in found.message
    assert ls.eigsh(matrix.double(), 1, "SA", tol=1e-6).ok


def test_same_seed_same_bytes() -> None:
    matrix = rank_ten()
    a, b, c = ls.eigsh(matrix, 3, seed=1), ls.eigsh(matrix, 3, seed=1), ls.eigsh(matrix, 3, seed=2)
    assert torch.equal(a.vectors, b.vectors)
    assert not torch.equal(a.vectors, c.vectors)


def test_budget_is_kept_and_the_missing_are_said_to_be_missing() -> None:
    matrix = with_spectrum(torch.linspace(0, 1, 400))
    found = ls.eigsh(matrix, 5, tol=1e-6, max_matvecs=30)
    assert found.matvecs <= 30
    assert found.status == "not converged"
    assert "raise max_matvecs" in found.message


class _Interrupting:
    """Raises Ctrl-C at a given product."""

    dtype, device, symmetric = torch.float64, "cpu", True

    def __init__(self, matrix: torch.Tensor, at: int) -> None:
        self.matrix, self.at, self.shape = matrix, at, tuple(matrix.shape)

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt
        return self.matrix @ block


def test_ctrl_c_gives_what_there_is() -> None:
    matrix = with_spectrum(torch.linspace(0, 1, 300) ** 4, dtype=torch.float64)
    found = ls.eigsh(_Interrupting(matrix, 18), 2)
    assert found.status == "interrupted"
    assert found.values[0] == pytest.approx(1.0, rel=0.05)
    assert (np.abs(found.values - 1) <= found.residuals + 1).all()
    with pytest.raises(KeyboardInterrupt):
        ls.eigsh(_Interrupting(matrix, 1), 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: ls.eigsh(m, 0), r"k must lie between 1 and n = 300, got 0"),
        (lambda m: ls.eigsh(m, 301), r"k must lie between 1 and n = 300, got 301"),
        (lambda m: ls.eigsh(m, 2, "XX"), r"which must be .*got XX"),
        (lambda m: ls.eigsh(m, 2, tol=0.0), r"tol must be positive"),
        (lambda m: ls.eigsh(m, 5, max_matvecs=6), r"max_matvecs must be at least 11"),
        (lambda m: ls.eigsh(m, 5, basis=5), r"basis must be at least k \+ 2 = 7"),
        (lambda m: ls.eigsh(m, 2, seed=-1), r"seed must be a non-negative integer"),
        (lambda m: ls.eigsh(m[:, :5], 2), r"must be square"),
        (lambda m: ls.eigsh(torch.triu(m), 2), r"must be symmetric"),
        (lambda m: ls.eigsh(scipy.sparse.csr_array(np.triu(m.numpy())), 2), r"must be symmetric"),
        (lambda m: ls.eigsh("H", 2), r"must be square and have `@`"),
        (lambda m: ls.eigsh(m[:0, :0], 1), r"must have rows"),
        (lambda m: ls.eigsh(m > 0, 1), r"numbers for entries, got truth values"),
    ],
)
def test_bad_input_is_one_clear_sentence(call: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        call(rank_ten())
    assert "\n" not in str(caught.value)


def test_nan_is_named() -> None:
    matrix = rank_ten()
    matrix[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"not finite"):
        ls.eigsh(matrix, 2)


def test_progress_shows_nothing_when_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.enabled(False):
        ls.eigsh(rank_ten(), 2)
    assert capsys.readouterr() == ("", "")


class _Noisy:
    """A matrix whose products are off by ``noise`` of their length, or has a part that is not symmetric."""

    def __init__(self, matrix: torch.Tensor, noise: float, skew: float) -> None:
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device
        other = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(1), dtype=matrix.dtype)
        self.matrix, self.noise = matrix + skew * (other - other.T), noise
        self.generator = torch.Generator().manual_seed(0)
        self.products = 0

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        self.products += 1
        product = self.matrix @ v
        noise = torch.randn(v.shape, generator=self.generator, dtype=v.dtype)
        return product + self.noise * product.norm() / len(v) ** 0.5 * noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("noise", "skew"), [(1e-3, 0.0), (1e-2, 0.0), (0.0, 1e-3), (0.0, 1e-2)])
def test_noise_of_the_operator_is_named_and_ends_the_search(noise: float, skew: float, dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([10.0, 9.9, 5, 4, 3]), torch.linspace(-1, 1, 95)])
    operator = _Noisy(with_spectrum(values, dtype=dtype), noise, skew)
    found = ls.eigsh(operator, 5, max_matvecs=500)
    assert found.status == "not converged"
    assert not found.converged.any()
    assert operator.products == found.matvecs < 60
    assert "noise of the operator" in found.message
    stated = float(found.message.split("repeatable only to ")[1].split()[0])
    assert 0.03 < stated / (noise + 10 * skew) < 30
    assert np.allclose(found.values, values[:5], rtol=20 * (noise + skew))
