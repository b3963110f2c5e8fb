"""PyHessian's interface: equal where the original is right, right where it is not, and harmless."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from landscape.compat.pyhessian import get_esd_plot, hessian
from landscape.errors import InputError
from tests.harmless import harmless
from tests.problems import Problem, problem
from tests.reference import truth

Tensor = torch.Tensor


def ours(p: Problem, sizes: Any = None, **options: Any) -> hessian:
    """The object on all data in one batch, or on batches of ``sizes``."""
    if sizes is None:
        return hessian(p.model, p.loss, data=(p.inputs, p.targets), cuda=False, **options)
    return hessian(p.model, p.loss, dataloader=p.batches(sizes), cuda=False, **options)


def spectrum(p: Problem) -> np.ndarray:
    """The exact eigenvalues, the largest magnitude first."""
    values = np.linalg.eigvalsh(truth(p).hessian.numpy())
    return values[np.argsort(-np.abs(values))]


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


# -- the same as the original ---------------------------------------------------------------------------


@pytest.mark.peers
def test_arguments_are_those_of_the_original() -> None:
    original = pytest.importorskip("pyhessian").hessian
    for name in ("__init__", "eigenvalues", "trace", "density"):
        theirs, mine = (inspect.signature(getattr(kind, name)).parameters for kind in (original, hessian))
        assert [n for n, p in mine.items() if p.kind is not p.KEYWORD_ONLY] == list(theirs)
        assert {n: mine[n].default for n in theirs} == {n: p.default for n, p in theirs.items()}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sizes", [None, (7, 6, 3)], ids=["a batch", "a loader"])
@pytest.mark.parametrize("model", ["mlp", "tied"])
def test_values_and_vectors_are_those_of_the_original(model: str, sizes: Any) -> None:
    original = pytest.importorskip("pyhessian").hessian
    p = problem(model)
    mine, my_vectors = ours(p, sizes).eigenvalues(maxIter=500, tol=1e-6, top_n=2)
    data = {"data": (p.inputs, p.targets)} if sizes is None else {"dataloader": p.batches(sizes)}
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float64)  # their start vectors are of this dtype
        try:
            theirs, vectors = original(p.model, p.loss, cuda=False, **data).eigenvalues(500, 1e-10, 2)
        finally:
            torch.set_default_dtype(torch.float32)
    assert [type(v) for v in mine] == [type(v) for v in theirs] == [float, float]
    assert mine == pytest.approx(theirs, rel=1e-4)
    for a, b in zip(my_vectors, vectors, strict=True):
        assert [x.shape for x in a] == [x.shape for x in b]
        assert [x.dtype for x in a] == [x.dtype for x in b]
        assert abs(float(flat(a) @ flat(b))) == pytest.approx(1, abs=1e-3)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_samples_have_the_mean_of_the_original() -> None:
    original = pytest.importorskip("pyhessian").hessian
    p = problem("mlp")
    mine = ours(p).trace(maxIter=400, tol=1e-9)
    torch.manual_seed(0)
    theirs = original(p.model, p.loss, data=(p.inputs, p.targets), cuda=False).trace(maxIter=400, tol=0.0)
    assert len(mine) == len(theirs) == 400
    assert isinstance(mine[0], float)
    exact = spectrum(p).sum()
    for samples in (mine, theirs):
        assert abs(np.mean(samples) - exact) <= 4 * np.std(samples) / 400**0.5
    assert np.std(mine) == pytest.approx(np.std(theirs), rel=0.2)


def test_density_has_the_moments_of_the_matrix() -> None:
    p = problem("tied")
    nodes, weights = ours(p).density(iter=20, n_v=200)
    assert len(nodes) == len(weights) == 200
    assert {len(row) for row in nodes + weights} == {20}
    assert all(type(x) is float for row in nodes + weights for x in row)
    values, shares = np.array(nodes), np.array(weights)
    assert np.allclose(shares.sum(1), 1)
    exact = spectrum(p)
    for power in (1, 2, 3):
        rows = (shares * values**power).sum(1)
        assert abs(rows.mean() - (exact**power).mean()) <= 4 * rows.std() / 200**0.5


def test_lists_of_density_have_one_length_where_a_run_ends_early() -> None:
    p = problem("partial")  # its unused layer makes the matrix singular
    nodes, weights = ours(p).density(iter=200, n_v=3)
    assert len({len(row) for row in nodes + weights}) == 1
    assert np.isfinite(nodes).all()
    assert np.allclose(np.sum(weights, axis=1), 1)


# -- right where the original is not ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ("partial", "cross-entropy"),  # parameters that are frozen, and that the loss does not use
        ("tied", "cross-entropy, ignore_index"),
        ("tied", "cross-entropy, class weights"),
        ("mlp", "cross-entropy, sum"),
        ("attention", "cross-entropy"),
        ("convolution", "cross-entropy"),  # batch norm
        ("normalised", "cross-entropy"),
        ("mlp", "function cross_entropy"),
    ],
)
def test_networks_and_losses_that_the_original_is_wrong_on(model: str, loss: str) -> None:
    p = problem(model, loss)
    exact = spectrum(p)
    for sizes in (None, (7, 6, 3)):
        values, vectors = ours(p, sizes).eigenvalues(maxIter=400, tol=1e-5, top_n=2)
        assert values == pytest.approx(list(exact[:2]), rel=1e-8)
        assert [tuple(part.shape) for part in vectors[0]] == [
            tuple(q.shape) for q in p.model.parameters() if q.requires_grad
        ]
        assert [tuple(q.shape) for q in ours(p, sizes).params] == [tuple(part.shape) for part in vectors[0]]


class Quadratic(nn.Module):
    """Half of xᵀAx of its one parameter x."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        n = len(values)
        q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
        self.register_buffer("matrix", q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T)
        self.x = nn.Parameter(torch.ones(n, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return (0.5 * self.x @ self.matrix @ self.x).expand(len(inputs), 1)


def of_matrix(values: list[float], **options: Any) -> hessian:
    data = (torch.zeros(3, 1), torch.zeros(3, 1))
    return hessian(Quadratic(values), lambda outputs, targets: outputs.mean(), data=data, cuda=False, **options)


def test_pairs_of_opposite_sign() -> None:
    """Power iteration stops between the two."""
    values, _ = of_matrix([3.0, -2.9, 1.0, -0.5, *[0.1] * 20]).eigenvalues(top_n=3)
    assert values == pytest.approx([3.0, -2.9, 1.0], rel=1e-3)


def test_a_negative_trace() -> None:
    """The original stops after two samples."""
    values = [-float(i) for i in range(1, 40)]
    samples = of_matrix(values).trace(maxIter=2000, tol=1e-2)
    assert len(samples) > 10
    assert np.mean(samples) == pytest.approx(sum(values), rel=2e-2)


def test_the_trace_of_few_parameters_is_exact() -> None:
    values = [3.0, 2.0, -1.0, 0.5]
    samples = of_matrix(values).trace()
    assert np.mean(samples) == pytest.approx(sum(values))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_density_at_any_scale(scale: float) -> None:
    """A norm with 1e-6 added makes the largest node of the original 35 % low."""
    values = np.linspace(0.1, 1, 30)
    nodes, _ = of_matrix(list(scale * values)).density(iter=30)
    assert np.max(nodes) == pytest.approx(scale, rel=1e-6)
    assert np.min(nodes) == pytest.approx(0.1 * scale, rel=1e-6)


def test_a_criterion_of_ones_own_is_a_mean_over_examples() -> None:
    p = problem("mlp", "square")

    class Own(nn.MSELoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return ((input - target) ** 2).mean()

    exact = spectrum(p)
    for criterion in (Own(), lambda z, y: ((z - y) ** 2).mean()):
        found = hessian(p.model, criterion, dataloader=p.batches(), cuda=False)
        assert found.eigenvalues(tol=1e-6)[0] == pytest.approx([exact[0]], rel=1e-8)


def test_each_call_is_of_the_model_as_it_is_then() -> None:
    p = problem("mlp")
    for sizes in (None, 7):
        comp = ours(p, sizes)
        before = comp.eigenvalues(tol=1e-6)[0]
        with torch.no_grad():
            for q in p.model.parameters():
                q.mul_(1.1)
        assert comp.eigenvalues(tol=1e-6)[0] == pytest.approx(list(spectrum(p)[:1]), rel=1e-8)
        assert before != pytest.approx(list(spectrum(p)[:1]), rel=1e-3)


# -- random numbers, words, harm ---------------------------------------------------------------------------


def test_seeds() -> None:
    p = problem("mlp")

    def samples(**options: Any) -> list[list[float]]:
        comp = ours(p, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return [comp.trace(maxIter=20), comp.trace(maxIter=20)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, again, given = samples(), samples(), samples(seed=5)
        torch.manual_seed(6)
        other = samples()
    assert np.allclose(first, again, rtol=1e-9)
    assert np.allclose(first, given, rtol=1e-9)
    apart = [first[0], first[1], *other]  # else the mean of several calls would be no better than one
    assert np.abs(np.corrcoef(apart) - np.eye(4)).max() < 0.9


VERBS: dict[str, Callable[[hessian], Any]] = {
    "eigenvalues": lambda comp: comp.eigenvalues(maxIter=60, tol=1e-2),
    "trace": lambda comp: comp.trace(maxIter=16, tol=10.0),
    "density": lambda comp: comp.density(iter=5, n_v=2),
}


@pytest.mark.parametrize("sizes", [None, 7], ids=["a batch", "a loader"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("model", ["convolution", "partial", "dropped"])
def test_all_stays_as_it_was(model: str, verb: str, sizes: Any) -> None:
    p = problem(model)
    p.model.train()
    for q in p.model.parameters():
        q.grad = torch.ones_like(q)
    with harmless(p.model):
        VERBS[verb](ours(p, sizes))
    assert all(module.training for module in p.model.modules())


def test_what_has_not_converged_is_said() -> None:
    p = problem("mlp")
    with pytest.warns(RuntimeWarning, match=r"eigenvalues not converged: .*raise maxIter or tol"):
        ours(p).eigenvalues(maxIter=3, tol=1e-9, top_n=3)
    with pytest.warns(RuntimeWarning, match=r"trace not converged: .*95 %.*raise maxIter or tol"):
        assert len(ours(p).trace(maxIter=20, tol=1e-6)) == 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_one_sentence() -> None:
    p = problem("mlp")
    with pytest.raises(InputError, match=r"^cuda=True needs a GPU, got none that torch can use; pass cuda=False\.$"):
        hessian(p.model, p.loss, data=(p.inputs, p.targets))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: hessian(p.model, p.loss, cuda=False), "must be given once, got none"),
        (lambda p: hessian(p.model, p.loss, (p.inputs, p.targets), p.batches(), cuda=False), "must be given once"),
        (lambda p: ours(p).eigenvalues(top_n=0), "top_n must be a whole number of 1 or more, got 0"),
        (lambda p: ours(p).eigenvalues(maxIter=0), "maxIter must be"),
        (lambda p: ours(p).trace(maxIter=1), "maxIter must be a whole number of 4 or more"),
        (lambda p: ours(p).density(n_v=1.5), "n_v must be"),
        (lambda p: hessian(p.model, nn.CrossEntropyLoss(reduction="none"), p.batches()[0], cuda=False), "one number"),
        (lambda p: get_esd_plot([[1.0, float("nan")]], [[0.5, 0.5]]), "finite numbers"),
        (lambda p: get_esd_plot([[1.0]], [[0.5, 0.5]]), "of one shape"),
    ],
)
def test_bad_arguments(call: Callable[[Problem], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(problem("mlp"))


# -- the plot -----------------------------------------------------------------------------------------------


def test_the_plot_is_written_where_it_is_asked_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = dict(mpl.rcParams)
    found = ours(problem("mlp")).density(iter=10, n_v=2)
    get_esd_plot(*found)
    assert (tmp_path / "example.pdf").read_bytes()[:4] == b"%PDF"
    figure = get_esd_plot(*found, filename="a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert dict(mpl.rcParams) == backend
    assert figure.axes[0].get_xlabel() == "Eigenvalue"


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_the_plotted_density_has_mass_one_at_any_scale(scale: float, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    nodes = scale * np.concatenate([rng.normal(size=(3, 40)) * 0.1, np.full((3, 1), 50.0)], axis=1)
    line = get_esd_plot(nodes, np.full((3, 41), 1 / 41), filename=tmp_path / "a.png").axes[0].lines[0]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.trapezoid(y, x) == pytest.approx(1, abs=0.02)
    outlier = x > 25 * scale
    assert np.trapezoid(y[outlier], x[outlier]) == pytest.approx(1 / 41, rel=0.05)
