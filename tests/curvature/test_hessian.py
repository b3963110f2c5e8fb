"""The Hessian is the dense float64 Hessian of the pooled loss, for every model and loss in the registries."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import landscape as ls
from tests.problems import LOSSES, MODELS, SIZES, TASKS_ONCE, N, problem, thinned
from tests.reference import Dense, Truth, close, truth

ONE_DERIVATIVE = {"label margin", "margin"}  # torch has no second derivative of these
TWICE = [l for l in LOSSES if l not in ONE_DERIVATIVE]
MODELS_ONCE = [(m, "cross-entropy") for m in MODELS] + TASKS_ONCE
LINES = MODELS_ONCE + [("tied", l) for l in TWICE]
LONG = {"resnet", "vit", "gpt", "language model, shifted"}  # dense ones take seconds
SHORT = [(m, l) for m, l in LINES if m not in LONG]
GRID = thinned(MODELS, TWICE) + TASKS_ONCE


def block(n: int, k: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(11), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("model", "loss"), SHORT)
def test_dense(model: str, loss: str) -> None:
    p = problem(model, loss)
    expected = truth(p)
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    dense = H.to_dense()
    close(dense, expected.hessian, 1e-12)
    close(dense, dense.T, 1e-12)
    close(H.value, expected.value, 1e-12)
    assert H.shape == (len(expected.gradient),) * 2
    assert H.matvecs == H.shape[0]


@pytest.mark.parametrize(("model", "loss"), GRID)
def test_products_any_batches(model: str, loss: str) -> None:
    p = problem(model, loss)
    expected = Dense(p)
    v = block(len(expected.gradient), 1)
    for sizes in (SIZES, N):
        close(ls.Hessian(ls.Objective(p.model, p.loss, p.batches(sizes))) @ v, expected.hessian_times(v), 1e-11)


@pytest.mark.parametrize(("model", "loss"), LINES)
def test_batching_and_order_do_not_matter(model: str, loss: str) -> None:
    p = problem(model, loss)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    reference, v = None, None
    for size in (1, 8, N) if p.equal else (1, 7, N):
        for shuffled in (None, order):
            H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(size, shuffled)))
            v = block(H.shape[0]) if v is None else v
            product = H @ v
            reference = product if reference is None else reference
            close(product, reference, 1e-12)


@pytest.mark.parametrize(("model", "loss"), MODELS_ONCE)
def test_single_precision(model: str, loss: str) -> None:
    p = problem(model, loss).to(torch.float32)
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    v = block(H.shape[0], dtype=torch.float32)
    expected = Dense(p).hessian_times(v)
    assert (H @ v).dtype == torch.float32
    close(H @ v, expected, 2e-6)
    wide = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float64))
    close(wide @ v, expected, 1e-12)


@pytest.mark.parametrize(("model", "loss"), MODELS_ONCE)
def test_linear_and_block_equals_columns_and_repeats_to_the_bit(model: str, loss: str) -> None:
    p = problem(model, loss)
    for sizes in (SIZES, N):
        H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(sizes)))
        V = block(H.shape[0])
        once, again = H @ V, H @ V
        assert torch.equal(once, again)
        for i in range(3):
            assert torch.equal(H @ V[:, i], once[:, i])
        close(H @ (2 * V[:, 0] - 3 * V[:, 1]), 2 * once[:, 0] - 3 * once[:, 1], 1e-12)
        assert not bool((H @ torch.zeros_like(V)).any())
        fresh = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(sizes)))
        assert torch.equal(fresh @ V, once)


def test_single_precision_repeats_to_the_bit() -> None:
    for loss in ("cross-entropy", "cross-entropy, all at once"):
        for sizes in (SIZES, N):
            p = problem("mlp", loss).to(torch.float32)
            H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(sizes)))
            V = block(H.shape[0], dtype=torch.float32)
            assert torch.equal(H @ V, H @ V)


@pytest.fixture
def small() -> tuple[ls.Hessian, Truth]:
    p = problem("tied")
    return ls.Hessian(ls.Objective(p.model, p.loss, p.batches())), truth(p)


def test_forms_of_vectors(small: tuple[ls.Hessian, Truth]) -> None:
    H, expected = small
    n = H.shape[0]
    v = block(n, 1)[:, 0]
    product = H @ v
    as_array = H @ v.numpy()
    assert isinstance(as_array, np.ndarray)
    np.testing.assert_array_equal(as_array, product.numpy())
    np.testing.assert_array_equal(H @ v.numpy()[::-1], (H @ v.flip(0)).numpy())
    locked = v.numpy().copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(H @ locked, product.numpy())
    by_name = H @ H.space.unflatten(v)
    assert list(by_name) == list(H.space.names)
    assert all(by_name[name].shape == shape for name, shape in zip(H.space.names, H.space.shapes, strict=True))
    assert torch.equal(H.space.flatten(by_name), product)
    arrays = {name: t.numpy() for name, t in H.space.unflatten(v).items()}
    back = H @ arrays
    assert all(isinstance(t, np.ndarray) for t in back.values())
    np.testing.assert_array_equal(np.concatenate([t.ravel() for t in back.values()]), product.numpy())
    backwards = dict(reversed(H.space.unflatten(v).items()))
    assert torch.equal(H.space.flatten(H @ backwards), product)
    assert (H @ torch.zeros(n, 0, dtype=torch.float64)).shape == (n, 0)
    assert (H @ v.float()).dtype == torch.float64
    assert (H @ v[:, None]).shape == (n, 1)
    close(H @ (v.clone().requires_grad_()), product, 0)
    close(product, expected.hessian @ v, 1e-12)


def test_to_scipy_agrees(small: tuple[ls.Hessian, Truth]) -> None:
    from scipy.sparse.linalg import eigsh

    H, expected = small
    operator = H.to_scipy()
    V = block(H.shape[0]).numpy()
    np.testing.assert_array_equal(operator @ V, (H @ V))
    np.testing.assert_array_equal(operator.T @ V[:, 0], H @ V[:, 0])
    np.testing.assert_array_equal(operator.matvec(V[:, :1]), H @ V[:, :1])
    top = eigsh(operator, k=2, which="LA", return_eigenvectors=False, v0=V[:, 0])
    np.testing.assert_allclose(np.sort(top), torch.linalg.eigvalsh(expected.hessian)[-2:].numpy(), rtol=1e-9)


def test_wrong_vectors(small: tuple[ls.Hessian, Truth]) -> None:
    H, _ = small
    n = H.shape[0]
    for wrong, got in [
        (torch.zeros(n + 1), rf"\({n + 1},\)"),
        (torch.zeros(n, 1, 1), r"shape"),
        (torch.zeros(()), r"shape \(\)"),
        (np.zeros(3), r"\(3,\)"),
        ([0.0] * n, "list"),
        ("v", "str"),
    ]:
        with pytest.raises(ls.errors.InputError, match=got) as caught:
            H @ wrong
        assert "\n" not in str(caught.value)
    parts = H.space.unflatten(torch.zeros(n))
    name = next(iter(parts))
    with pytest.raises(ls.errors.InputError, match=f"none for {name}"):
        H @ {key: t for key, t in parts.items() if key != name}
    with pytest.raises(ls.errors.InputError, match=f"{name}.*shape"):
        H @ (parts | {name: parts[name].reshape(-1)})
    with pytest.raises(ls.errors.InputError, match=r"no such backend, got magic; use 'auto'"):
        ls.Hessian(H.objective, backend="magic")


@pytest.mark.parametrize("loss", sorted(ONE_DERIVATIVE))
def test_without_a_second_derivative(loss: str) -> None:
    p = problem("linear", loss)
    objective = ls.Objective(p.model, p.loss, p.batches())
    for backend in ("autograd", "forward"):
        H = ls.Hessian(objective, backend=backend)
        with pytest.raises(ls.errors.InputError, match=r"derivative that torch does not have, got \S*margin") as caught:
            H @ block(H.shape[0])
        assert "\n" not in str(caught.value)
    H = ls.Hessian(objective)
    differences = ls.Hessian(objective, backend="difference")
    assert torch.equal(H @ block(H.shape[0]), differences @ block(H.shape[0]))
    assert H.backend == "difference"
    assert "autograd: no derivative of" in H.provenance()["backends that failed"]


# -- where it is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
def test_at_another_point(sizes: object) -> None:
    p = problem("convolution")
    other = problem("convolution", seed=1)
    moved = copy.deepcopy(p)
    moved.model.load_state_dict(other.model.state_dict())
    objective = ls.Objective(p.model, p.loss, p.batches(sizes))
    there = ls.Objective(moved.model, p.loss, p.batches(sizes))
    v = block(objective.space.n)
    expected = ls.Hessian(there) @ v
    close(expected, truth(moved).hessian @ v, 1e-12)
    # the state by name brings its buffers; a flat vector leaves them where the model has them
    assert torch.equal(ls.Hessian(objective, at=other.model.state_dict()) @ v, expected)
    assert torch.equal(ls.Hessian(objective, at=there.point()) @ v, expected)
    assert torch.equal(objective.value(other.model.state_dict()), there.value())
    assert torch.equal(objective.gradient(other.model.state_dict()), there.gradient())
    flat = there.vector()
    for name, b in moved.model.named_buffers():
        b.copy_(dict(p.model.named_buffers())[name])
    here = ls.Hessian(objective, at=flat)
    assert torch.equal(ls.Hessian(objective, at=flat.numpy()) @ v, ls.Hessian(there) @ v)
    first = here @ v
    flat.zero_()  # the operator has its own copy
    assert torch.equal(here @ v, first)
    assert torch.equal(first, ls.Hessian(there) @ v)


@pytest.mark.parametrize("built", ["used before", "not used before"])
@pytest.mark.parametrize("sizes", [SIZES, N], ids=["batches", "one batch"])
def test_training_on_does_not_move_it(sizes: object, built: str) -> None:
    p = problem("convolution")
    objective = ls.Objective(p.model, p.loss, p.batches(sizes))
    H, v = ls.Hessian(objective), block(objective.space.n)
    expected = ls.Hessian(objective) @ v
    if built == "used before":
        assert torch.equal(H @ v, expected)
    p.model.train()
    p.model(p.inputs)  # moves the running statistics
    p.model.eval()
    with torch.no_grad():
        for q in p.model.parameters():
            q.add_(1.0)  # as optimizers do
    assert torch.equal(H @ v, expected)
    for q in p.model.parameters():
        q.data = q.data * 3
    assert torch.equal(H @ v, expected)
    for q in p.model.parameters():
        q.data.zero_()
    assert torch.equal(H @ v, expected)
    assert torch.equal(H.value, ls.Hessian(objective, at=H.point).value)
    assert not torch.equal(ls.Hessian(objective) @ v, expected)


def test_tied_weights_count_once() -> None:
    p = problem("tied")
    objective = ls.Objective(p.model, p.loss, p.batches())
    assert objective.space.names == ("first.weight", "first.bias", "head.weight", "head.bias")
    assert objective.space.n == 16 + 4 + 12 + 3
    separate = copy.deepcopy(p)
    separate.model.second.weight = torch.nn.Parameter(p.model.first.weight.detach().clone())
    apart = truth(separate).hessian  # order: first.weight, first.bias, second.weight, head
    joined = truth(p).hessian[:16, :16]
    blocks = [slice(0, 16), slice(20, 36)]
    close(joined, sum(apart[a, b] for a in blocks for b in blocks), 1e-12)
    close(ls.Hessian(objective).to_dense()[:16, :16], joined, 1e-12)


# -- numbers that have a closed form ----------------------------------------------------------------


def test_least_squares_has_the_gram_matrix() -> None:
    p = problem("linear", "square, sum")
    dense = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(5), params="weight")).to_dense()
    gram = 2 * p.inputs.T @ p.inputs
    close(dense, torch.kron(torch.eye(3, dtype=torch.float64), gram), 1e-13)
    assert bool((ls.Hessian(ls.Objective(p.model, torch.nn.L1Loss(), p.batches(5))).to_dense() == 0).all())


def test_provenance_says_what_was_done() -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches(N), params="0.*", seed=3))
    H @ block(H.shape[0])
    facts = H.provenance()
    assert facts["operator"] == "Hessian"
    assert facts["mode"] == "eval"
    assert facts["seed"] == 3
    assert facts["dtype"] == "float64"
    assert facts["parameters"] == {"count": 70, "tensors": 2, "selection": "0.*"}
    assert facts["data"]["examples"] == N
    assert facts["data"]["batches"] == 1
    assert len(facts["data"]["fingerprint"]) == 16
    assert "graph of the one batch kept" in facts["backend"]
    assert "n=70" in repr(H)
    changed = p.inputs.clone()
    changed[0, 0] += 1
    other = ls.Objective(p.model, p.loss, [(changed, p.targets)])
    other.value()
    assert other.provenance()["data"]["fingerprint"] != facts["data"]["fingerprint"]
