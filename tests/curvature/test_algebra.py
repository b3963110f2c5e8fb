"""Sums, products, restrictions and deflations of operators against dense algebra."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.curvature import Identity, LinearOperator, TensorOperator, aslinearoperator
from landscape.curvature.algebra.restriction import orthonormal
from landscape.space import Space
from tests.curvature.contract import block, keeps_its_promises
from tests.problems import problem
from tests.reference import close, truth

SHAPES = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (3,)}
N, M = 11, 4


def named_space(dtype: torch.dtype = torch.float64) -> Space:
    return Space.of({name: torch.empty(shape, dtype=dtype) for name, shape in SHAPES.items()})


def outputs() -> Space:
    return Space.of({"outputs": torch.empty(M, dtype=torch.float64)})


def matrix(symmetric: bool, seed: int = 0, rows: int = N) -> torch.Tensor:
    dense = block(rows, N, seed=seed)
    return dense + dense.T if symmetric else dense


S, R, G = matrix(True), matrix(False, 1), matrix(False, 2, M)
GRAM = G.T @ G


def symmetric() -> LinearOperator:
    return aslinearoperator(S, named_space())


def square() -> LinearOperator:
    return aslinearoperator(R, named_space())


def wide() -> LinearOperator:
    return aslinearoperator(G, named_space(), outputs())


def gram() -> LinearOperator:
    return aslinearoperator(GRAM, named_space(), psd=True)


def projector(vectors: torch.Tensor) -> torch.Tensor:
    return torch.eye(N, dtype=torch.float64) - vectors @ torch.linalg.pinv(vectors)


FEW = block(N, 2, seed=5)
A_ROWS = slice(0, 8)

#: name -> (the operator, its dense form, symmetric, psd)
CASES: dict[str, tuple[Callable[[], Any], torch.Tensor, bool, bool]] = {
    "matrix": (symmetric, S, True, False),
    "unsymmetric matrix": (square, R, False, False),
    "wide matrix": (wide, G, False, False),
    "identity": (lambda: Identity(named_space()), torch.eye(N, dtype=torch.float64), True, True),
    "sum": (lambda: symmetric() + gram(), S + GRAM, True, False),
    "sum of psd": (lambda: gram() + gram(), 2 * GRAM, True, True),
    "sum(...)": (lambda: sum([gram(), gram(), gram()]), 3 * GRAM, True, True),
    "difference": (lambda: gram() - symmetric(), GRAM - S, True, False),
    "difference of psd": (lambda: gram() - 0.1 * gram(), 0.9 * GRAM, True, False),
    "unsymmetric sum": (lambda: symmetric() + square(), S + R, False, False),
    "wide difference": (lambda: wide() - 3 * wide(), -2 * G, False, False),
    "scale": (lambda: 2 * symmetric(), 2 * S, True, False),
    "psd scale": (lambda: gram() * 2, 2 * GRAM, True, True),
    "negative scale": (lambda: -gram(), -GRAM, True, False),
    "quotient": (lambda: gram() / 4, GRAM / 4, True, True),
    "tensor scale": (lambda: torch.tensor(0.5) * gram(), GRAM / 2, True, True),
    "NumPy scale": (lambda: np.float64(0.5) * gram(), GRAM / 2, True, True),
    "wide scale": (lambda: 2 * wide(), 2 * G, False, False),
    "shift": (lambda: gram().shift(0.1), GRAM + 0.1 * torch.eye(N, dtype=torch.float64), True, True),
    "negative shift": (lambda: gram().shift(-0.1), GRAM - 0.1 * torch.eye(N, dtype=torch.float64), True, False),
    "nested": (lambda: (symmetric() - 2 * gram()) / 2 - symmetric(), -S / 2 - GRAM, True, False),
    "plus a matrix": (lambda: symmetric() + GRAM, S + GRAM, True, False),
    "a matrix minus": (lambda: GRAM - symmetric(), GRAM - S, True, False),
    "an array minus": (lambda: GRAM.numpy() - symmetric(), GRAM - S, True, False),
    "adjoint": (lambda: wide().T, G.T, False, False),
    "adjoint of a sum": (lambda: (symmetric() + square()).T, S + R.T, False, False),
    "chain": (lambda: symmetric() @ gram(), S @ GRAM, False, False),
    "square of a symmetric": (lambda: (lambda A: A @ A)(symmetric()), S @ S, True, True),
    "cube of a symmetric": (lambda: (lambda A: A @ A @ A)(symmetric()), S @ S @ S, True, False),
    "cube of a psd": (lambda: (lambda A: A @ A @ A)(gram()), GRAM @ GRAM @ GRAM, True, True),
    "square of an unsymmetric": (lambda: (lambda A: A @ A)(square()), R @ R, False, False),
    "gram": (lambda: (lambda A: A.T @ A)(wide()), GRAM, True, True),
    "outer gram": (lambda: (lambda A: A @ A.T)(wide()), G @ G.T, True, True),
    "two equal ones": (lambda: wide().T @ wide(), GRAM, False, False),  # not known to be the same
    "sandwich": (lambda: (lambda A: A @ symmetric() @ A.T)(wide()), G @ S @ G.T, True, False),
    "psd sandwich": (lambda: (lambda A: A @ (gram() @ A.T))(wide()), G @ GRAM @ G.T, True, True),
    "unsymmetric sandwich": (lambda: (lambda A: A @ square() @ A.T)(wide()), G @ R @ G.T, False, False),
    "restricted": (lambda: symmetric().restrict("a.*"), S[A_ROWS, A_ROWS], True, False),
    "restricted psd": (lambda: gram().restrict(["b.*", "a.weight"]), None, True, True),
    "restricted columns": (lambda: wide().restrict("a.*"), G[:, A_ROWS], False, False),
    "restricted unsymmetric": (lambda: square().restrict("a.*"), R[A_ROWS, A_ROWS], False, False),
    "deflated": (lambda: symmetric().deflate(FEW), projector(FEW) @ S @ projector(FEW), True, False),
    "deflated psd": (lambda: gram().deflate(FEW[:, 0]), None, True, True),
    "deflated unsymmetric": (lambda: square().deflate(FEW), projector(FEW) @ R @ projector(FEW), False, False),
}
_keep = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, 10])
CASES["restricted psd"] = (*CASES["restricted psd"][:1], GRAM[_keep][:, _keep], True, True)
_one = projector(FEW[:, :1])
CASES["deflated psd"] = (*CASES["deflated psd"][:1], _one @ GRAM @ _one, True, True)


@pytest.mark.parametrize("name", CASES)
def test_equals_dense_algebra_and_keeps_its_promises(name: str) -> None:
    make, dense, is_symmetric, psd = CASES[name]
    op = make()
    assert isinstance(op, LinearOperator)
    assert isinstance(op, TensorOperator)
    assert (op.symmetric, op.psd) == (is_symmetric, psd)
    keeps_its_promises(op, dense)


# -- operators of a network -------------------------------------------------------------------------


def test_the_difference_between_two_domains() -> None:
    p, q = problem("tied"), problem("tied", "square")
    q.model.load_state_dict(p.model.state_dict())
    first, second = ls.Objective(p.model, p.loss, p.batches()), ls.Objective(p.model, q.loss, q.batches())
    H, K = ls.Hessian(first), ls.Hessian(second)
    op = H - K
    keeps_its_promises(op, truth(p).hessian - truth(q).hessian)
    assert op.objectives == (first, second)
    assert H.matvecs == K.matvecs == op.matvecs
    facts = op.provenance()
    assert facts["operator"] == "Hessian - Hessian"
    assert facts["model"] == "Tied"
    assert "loss" not in facts
    assert [part["loss"] for part in facts["parts"]] == [first.loss.name, second.loss.name]
    with pytest.raises(ls.errors.InputError, match=r"added must have the same parameters, got .*0\.weight.*; build"):
        H - ls.Hessian(ls.Objective(problem("mlp").model, p.loss, p.batches()))


def test_a_restricted_hessian_is_that_of_fewer_parameters() -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    for selection in ("2.*", re.compile(r"^2\."), lambda name, t: t.shape[0] == 13, ["2.weight", "2.bias"]):
        part = H.restrict(selection)
        assert part.space.names == ("2.weight", "2.bias")
        few = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(), params="2.*"))
        v = block(part.shape[0], 2)
        close(part @ v, few @ v, 1e-12)
    assert part.provenance()["parameters"] == {"count": 195, "tensors": 2, "selection": "2.weight, 2.bias"}
    assert part.provenance()["operator"] == "restricted Hessian"
    with pytest.raises(ls.errors.InputError, match=r"selects no parameter, got '7\.\*'"):
        H.restrict("7.*")


def test_deflation_shows_the_next_eigenvalue() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    values = torch.linalg.eigvalsh(truth(p).hessian).flip(0)
    top = ls.eigsh(H, k=2, tol=1e-9)
    left = H.deflate(top)
    assert ls.eigsh(left, k=1).values[0] == pytest.approx(float(values[2]), rel=1e-6)
    assert left.provenance()["operator"] == "deflated Hessian"
    assert left.provenance()["deflated directions"] == 2
    by_name = H.deflate(H.space.unflatten(top.vectors[:, 0]))
    assert ls.eigsh(by_name, k=1).values[0] == pytest.approx(float(values[1]), rel=1e-6)


def test_a_basis_of_dependent_and_badly_scaled_columns() -> None:
    v = block(50, 4)
    for dtype in (torch.float64, torch.float32):
        columns = torch.cat([v * 1e-30, v[:, :2] * 1e30, v.sum(1, keepdim=True), torch.zeros(50, 1)], 1).to(dtype)
        Q = orthonormal(columns)
        assert Q.shape == (50, 4)
        close(Q.T @ Q, torch.eye(4, dtype=torch.float64), 1e-14)
        close(Q @ (Q.T @ v), v, 1e-14 if dtype is torch.float64 else 1e-6)
    assert orthonormal(torch.zeros(5, 2)).shape == (5, 0)


# -- words, counts, refusals ------------------------------------------------------------------------


def test_words() -> None:
    A, B = symmetric(), wide()
    assert A.provenance()["operator"] == "Tensor[11x11]"
    assert (2 * A - A / 2).provenance()["operator"] == "2 Tensor[11x11] - 0.5 Tensor[11x11]"
    assert (-A).shift(0.1).provenance()["operator"] == "-Tensor[11x11] + 0.1 I"
    assert (B.T @ B).provenance()["operator"] == "Tensor[4x11]^T @ Tensor[4x11]"


def test_a_result_of_a_composite_is_kept(tmp_path: Path) -> None:
    p, q = problem("tied"), problem("tied", "square")
    q.model.load_state_dict(p.model.state_dict())
    H, K = (ls.Hessian(ls.Objective(p.model, x.loss, x.batches())) for x in (p, q))
    for op in (H - K, (H - K).restrict("head.*"), H.deflate(torch.ones(H.shape[0])), H.blocks(), H @ H):
        found = ls.eigsh(op, k=1, which="LM")
        assert found.matvecs == op.matvecs
        again = ls.load(found.save(tmp_path / "pairs.nc"))
        assert again.provenance["operator"] == op.provenance()["operator"]
        assert again.provenance.get("parts") == op.provenance().get("parts")


def test_every_part_counts_its_products() -> None:
    A, B = symmetric(), gram()
    op = (A - B) @ A
    op @ block(N, 3)
    block(N, 3).T @ op
    assert (op.matvecs, A.matvecs, B.matvecs) == (6, 12, 6)


def test_the_widest_precision_is_kept() -> None:
    single = aslinearoperator(S.float(), named_space(torch.float32))
    op = single - symmetric()
    assert op.dtype == torch.float64
    assert float(op.to_dense().abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda A: A + 1.0, r"added to an operator or a matrix, got float; use A\.shift"),
        (lambda A: A - "x", r"added to an operator or a matrix, got str"),
        (lambda A: A + torch.eye(3), r"must be 11 by 11, got 3 by 3"),
        (lambda A: A + wide(), r"must have the same parameters, got "),
        (lambda A: A * torch.ones(N), r"scaled by a finite number, got Tensor"),
        (lambda A: A * A, r"scaled by a finite number, got Matrix"),
        (lambda A: A * float("nan"), r"scaled by a finite number, got float nan"),
        (lambda A: A / 0, r"finite number and not divided by zero, got int 0"),
        (lambda A: A.shift("much"), r"scaled by a finite number, got str"),
        (lambda A: wide().shift(1.0), r"a shift needs an operator from a space to itself, got 4 by 11"),
        (lambda A: wide().deflate(FEW), r"deflate needs an operator from a space to itself"),
        (lambda A: wide() @ wide(), r"chained must fit, got a\.weight \(2, 3\) beside outputs \(4,\)"),
        (lambda A: A.deflate(torch.ones(3)), r"finite vectors as columns of a \(11, k\) tensor, got shape \(3, 1\)"),
        (lambda A: A.deflate(torch.full((N,), torch.nan)), r"finite vectors"),
        (lambda A: torch.ones(3) @ A, r"11 by 11 and multiplies vectors of length 11, got shape \(3,\)"),
        (lambda A: wide() @ torch.ones(M), r"4 by 11 and multiplies vectors of length 11, got shape \(4,\)"),
        (lambda A: wide().T @ torch.ones(N), r"11 by 4 and multiplies vectors of length 4, got shape \(11,\)"),
        (lambda A: aslinearoperator("A"), r"must have `@` and a shape"),
    ],
)
def test_refusals(wrong: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ls.errors.InputError, match=words) as caught:
        wrong(symmetric())
    assert "\n" not in str(caught.value)


# -- code that was written for matrices ----------------------------------------------------------------


def conjugate_gradients(A: Any, b: torch.Tensor, steps: int) -> torch.Tensor:
    """As a torch user writes it: it knows matrices only."""
    x = torch.zeros(A.shape[1], dtype=A.dtype, device=A.device)
    r = b - torch.mv(A, x)
    p, rr = r.clone(), torch.dot(r, r)
    for _ in range(steps):
        Ap = torch.matmul(A, p)
        alpha = rr / torch.dot(p, Ap)
        x, r = x + alpha * p, r - alpha * Ap
        rr, before = torch.dot(r, r), rr
        p = r + (rr / before) * p
    return x


def subspace_iteration(A: Any, X: torch.Tensor, steps: int) -> torch.Tensor:
    """The largest eigenvalues by orthogonal iteration with Rayleigh-Ritz."""
    for _ in range(steps):
        X = torch.linalg.qr(torch.mm(A, X)).Q
    return torch.linalg.eigvalsh(X.T @ (A @ X))


def test_solvers_written_for_matrices() -> None:
    op = gram().shift(1.0)
    dense = GRAM + torch.eye(N)
    b = block(N, 1)[:, 0]
    close(conjugate_gradients(op, b, N), torch.linalg.solve(dense, b), 1e-9)
    close(subspace_iteration(op, block(N, M), 200), torch.linalg.eigvalsh(dense)[-M:], 1e-6)
    close(torch.ones(2, M, dtype=torch.float64) @ wide(), torch.ones(2, M, dtype=torch.float64) @ G, 1e-12)
    close(torch.matmul(torch.ones(M, dtype=torch.float64), wide()), torch.ones(M, dtype=torch.float64) @ G, 1e-12)
    with pytest.raises(TypeError, match="dispatch failed"):
        torch.linalg.eigh(op)


def test_the_scipy_form_of_an_unsymmetric_operator() -> None:
    from scipy.sparse.linalg import svds

    values = svds(wide().to_scipy(), k=2, return_singular_vectors=False, v0=np.ones(M))
    np.testing.assert_allclose(np.sort(values), torch.linalg.svdvals(G)[:2].flip(0).numpy(), rtol=1e-10)


class Foreign:
    """Another library's operator: it promises ``@`` with a vector and a shape."""

    shape, dtype, symmetric = (N, N), torch.float64, True

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        assert v.ndim == 1
        return S @ v


def test_operators_of_others() -> None:
    import scipy.sparse

    keeps_its_promises(aslinearoperator(Foreign()), S)
    for source in (S.numpy(), scipy.sparse.csr_array(S.numpy()), scipy.sparse.linalg.aslinearoperator(S.numpy())):
        keeps_its_promises(aslinearoperator(source, named_space(), symmetric=True), S)
    for source in (G.numpy(), scipy.sparse.csr_array(G.numpy()), scipy.sparse.linalg.aslinearoperator(G.numpy())):
        keeps_its_promises(aslinearoperator(source), G)
    op = symmetric()
    assert aslinearoperator(op) is op
    one_way = Foreign()
    one_way.symmetric = False
    with pytest.raises(ls.errors.InputError, match="has no adjoint, got Matrix"):
        torch.ones(N) @ aslinearoperator(one_way)


# -- little memory -------------------------------------------------------------------------------------


class Small(LinearOperator):
    """A matrix on a machine that holds ``room`` columns."""

    symmetric = False

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__(named_space(), outputs())
        self.room, self.error, self.asked = room, error, []

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        self.asked.append(block.shape[1])
        if block.shape[1] > self.room:
            raise self.error
        return G @ block

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        return G.T @ block


def no_room() -> RuntimeError:
    """What torch itself says when the CPU has no memory left."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


NO_ROOM = [
    no_room(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 80000000000 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_ROOM, ids=["this machine", "CUDA", "Linux", "Windows", "Python"])
def test_fewer_columns_when_memory_is_short(error: Exception) -> None:
    op = Small(3, error)
    V = block(N, 10)
    close(op @ V, G @ V, 1e-13)
    assert op.asked == [10, 5, 3, 3, 3, 1]
    assert op.provenance()["columns at a time"] == 3
    op.asked.clear()
    close(op @ V[:, :7], G @ V[:, :7], 1e-13)
    assert op.asked == [3, 3, 1]
    assert op.matvecs == 17


def test_a_limit_on_columns_and_an_error_that_stays() -> None:
    op = Small(100, NO_ROOM[1])
    op.columns = 4
    close(op @ block(N, 9), G @ block(N, 9), 1e-13)
    assert op.asked == [4, 4, 1]
    assert "columns at a time" not in Small(1, NO_ROOM[1]).provenance()
    with pytest.raises(torch.OutOfMemoryError):
        Small(0, NO_ROOM[1]) @ block(N, 4)
    other = Small(1, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="do not fit"):
        other @ block(N, 4)
    assert other.asked == [4]
