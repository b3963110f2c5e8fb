"""Other libraries as foreign truths where they are right, and the defects found in them where they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from tests.curvature.contract import block
from tests.harmless import harmless
from tests.problems import N, Problem, problem
from tests.reference import close, truth

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def top(dense: torch.Tensor) -> float:
    return float(torch.linalg.eigvalsh(dense)[-1])


def ours(p: Problem, **options: Any) -> torch.Tensor:
    return ls.Hessian(ls.Objective(p.model, p.loss, p.batches(), **options)).to_dense()


# -- they agree where they are right --------------------------------------------------------------------


#: their operators -> ours, and the losses that their scale is right for. Theirs weigh batches by examples: right for
#: losses whose mean divides by examples or outputs. A row of their empirical Fisher is an example, as here.
CURVLINOPS: dict[str, tuple[Callable[[ls.Objective], Any], list[str]]] = {
    "HessianLinearOperator": (
        ls.Hessian,
        ["cross-entropy", "cross-entropy, smoothed", "square", "square, sum", "huber"],
    ),
    "GGNLinearOperator": (ls.GGN, ["cross-entropy", "cross-entropy, smoothed", "square", "square, sum", "poisson"]),
    "EFLinearOperator": (lambda o: ls.Fisher(o, kind="empirical"), ["cross-entropy", "square", "square, sum"]),
    "JacobianLinearOperator": (ls.Jacobian, ["cross-entropy"]),
    "TransposedJacobianLinearOperator": (lambda o: ls.Jacobian(o).T, ["cross-entropy"]),
}


@pytest.mark.parametrize("model", ["mlp", "convolution", "tied"])
@pytest.mark.parametrize(("theirs", "loss"), [(name, loss) for name in CURVLINOPS for loss in CURVLINOPS[name][1]])
def test_curvlinops(theirs: str, loss: str, model: str) -> None:
    curvlinops = pytest.importorskip("curvlinops")
    p = problem(model, loss)
    p.model.eval()
    params = [q for q in p.model.parameters() if q.requires_grad]
    loss_function = () if "Jacobian" in theirs else (p.loss,)
    operator = getattr(curvlinops, theirs)(p.model, *loss_function, params, p.batches(), check_deterministic=False)
    op = CURVLINOPS[theirs][0](ls.Objective(p.model, p.loss, p.batches()))
    V = block(op.shape[1])
    close(op @ V, operator @ V, 1e-11)


def test_pyhessian() -> None:
    pyhessian = pytest.importorskip("pyhessian")
    p = problem("mlp")
    p.model.eval()
    dense = ours(p)
    torch.manual_seed(0)
    values, vectors = pyhessian.hessian(p.model, p.loss, data=(p.inputs, p.targets), cuda=False).eigenvalues(
        maxIter=500, tol=1e-9
    )
    largest = torch.linalg.eigvalsh(dense)
    assert values[0] == pytest.approx(float(largest[largest.abs().argmax()]), rel=1e-5)
    v = torch.cat([part.reshape(-1) for part in vectors[0]])
    close(dense @ v, values[0] * v, 1e-3)


# -- what is wrong elsewhere is right here ----------------------------------------------------------------


DEFECTS = [
    ("a smaller last batch", "cross-entropy"),
    ("ignored labels", "cross-entropy, ignore_index"),
    ("class weights", "cross-entropy, class weights"),
    ("a sum", "cross-entropy, sum"),
]


@pytest.mark.parametrize(("what", "loss"), DEFECTS, ids=[what for what, _ in DEFECTS])
def test_averages(what: str, loss: str) -> None:
    p = problem("tied", loss)
    order = p.targets.argsort()  # the labels sorted, so that no two batches are alike
    p.inputs, p.targets = p.inputs[order], p.targets[order]
    expected = top(truth(p).hessian)
    assert top(ours(p)) == pytest.approx(expected, rel=1e-10)
    data = p.batches()
    dense = [ls.Hessian(ls.Objective(p.model, p.loss, [batch])).to_dense() for batch in data if _counts(batch)]
    assert top(sum(dense) / len(dense)) != pytest.approx(expected, rel=1e-3)  # the mean over batches is not it
    if what in ("ignored labels", "class weights"):
        sizes = [len(x) / N for x, y in data if _counts((x, y))]
        by_size = sum(w * d for w, d in zip(sizes, dense, strict=True))
        assert top(by_size) != pytest.approx(expected, rel=1e-3)  # nor that by examples


def _counts(batch: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return bool((batch[1] != -100).any())


def test_curvlinops_weighs_ignored_labels_wrongly() -> None:
    """If this fails they have mended it: use them as a truth there too."""
    curvlinops = pytest.importorskip("curvlinops")
    p = problem("tied", "cross-entropy, ignore_index")
    order = p.targets.argsort()
    p.inputs, p.targets = p.inputs[order], p.targets[order]
    data = [batch for batch in p.batches((3, 6, 7)) if _counts(batch)]
    theirs = curvlinops.HessianLinearOperator(
        p.model.eval(), p.loss, list(p.model.parameters()), data, check_deterministic=False
    )
    v = torch.ones(35, dtype=torch.float64)
    right = truth(p).hessian @ v
    close(ls.Hessian(ls.Objective(p.model, p.loss, data)) @ v, right, 1e-12)
    assert float((theirs @ v - right).abs().max()) > 1e-2 * float(right.abs().max())


def test_gradients_flags_and_unused_parameters() -> None:
    """PyHessian leaves the model in eval mode, wipes .grad and asserts on unused parameters."""
    p = problem("partial")
    p.model.train()
    for q in p.model.parameters():
        q.grad = torch.ones_like(q)
    with harmless(p.model):
        assert ours(p).shape == (41, 41)


def test_any_callable_loss() -> None:
    """A loss without .reduction is an AttributeError elsewhere."""
    p = problem("tied")
    own = ls.Objective(p.model, lambda m, b: (nn.functional.cross_entropy(m(b[0]), b[1]), len(b[1])), p.batches())
    close(ls.Hessian(own).to_dense(), truth(p).hessian, 1e-12)
    function = ls.Objective(p.model, nn.functional.cross_entropy, p.batches())
    close(ls.Hessian(function).to_dense(), truth(p).hessian, 1e-12)


def test_batch_norm_in_train_mode() -> None:
    """Raises elsewhere, after having changed the running mean."""
    p = problem("convolution")
    p.model.train()
    with harmless(p.model):
        dense = ours(p, mode="train")
    close(dense, dense.T, 1e-12)
    assert bool(dense.any())


def test_fused_attention() -> None:
    """Crashes elsewhere: the fused kernel has no second derivative."""
    p = problem("attention").to(torch.float32)
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    close(H.to_dense(), truth(p).hessian, 1e-5)
    assert "math attention kernel" in H.provenance()["backend"]


def test_scale_of_a_product_does_not_matter() -> None:
    """Norms with 1e-6 added, absolute breakdown tests: here a tiny vector gives a tiny product, exactly scaled."""
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    v = torch.ones(H.shape[0], dtype=torch.float64)
    for power in (-40, 40):
        assert torch.equal(H @ (v * 2.0**power), (H @ v) * 2.0**power)


def test_no_cycle_keeps_graphs_alive() -> None:
    """create_graph with .backward() leaks; here every graph goes with its operator."""
    import gc
    import weakref

    p = problem("mlp")
    alive: list[weakref.ref[torch.Tensor]] = []

    class Watched(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = x * 1
            alive.append(weakref.ref(out))
            return out

    model = nn.Sequential(p.model, Watched())
    gc.collect()
    gc.disable()
    try:
        for sizes in ((7, 6, 3), N):
            H = ls.Hessian(ls.Objective(model, p.loss, p.batches(sizes)))
            H @ torch.ones(H.shape[0])
            H @ torch.ones(H.shape[0])
            del H
            assert all(ref() is None for ref in alive)
    finally:
        gc.enable()
