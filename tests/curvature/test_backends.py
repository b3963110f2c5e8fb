"""How products are made: which backend is taken and why, what it states about its error, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.gradcheck import GradcheckError

import landscape as ls
from landscape.curvature.outputs.hessian import differentiated, loss_hessian
from landscape.objective.footprint import peak_memory
from landscape.objective.losses.terms import Split, Terms
from tests.curvature.contract import block
from tests.curvature.operators import agree
from tests.harmless import harmless
from tests.networks import Applied
from tests.problems import OWN, SIZES, N, Problem, problem
from tests.reference import Dense, close

Tensor = torch.Tensor
EXACT = ("autograd", "forward")


def objective(p: Problem, sizes: Any = SIZES, **options: Any) -> ls.Objective:
    return ls.Objective(p.model, p.loss, p.batches(sizes), **options)


# -- the order of "auto" ---------------------------------------------------------------------------


class Once(Function):
    """A softplus whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.softplus(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Twice(Function):
    """The same with a gradient of torch's own operations, and without dual numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.softplus(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Kernel(Function):
    """The same as kernels outside torch do it: numbers come out, without a graph and without a mark."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return nn.functional.softplus(x), x.amax(-1)  # as attention gives its normaliser besides

    @staticmethod
    def backward(ctx: Any, g: Tensor, unused: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.from_numpy(g.detach().numpy() * torch.sigmoid(x.detach()).numpy())


class Wrong(Function):
    """The same with a gradient that is right and, since it hides its input from autograd, wrong when differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.softplus(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x.detach() + 0.1 * (x - x.detach()).cumsum(-1))


def with_layer(function: Callable[[Tensor], Tensor]) -> Problem:
    """Return the MLP with ``function`` in place of its first activation."""
    p = problem("mlp")
    p.model[1] = Applied(function)
    return p


def test_attention_is_differentiated_through_its_math_kernel() -> None:
    for backend in ("auto", *EXACT):
        H = ls.Hessian(objective(problem("attention")), backend=backend)
        H @ block(H.shape[0], 1)
        assert H.backend == ("autograd" if backend == "auto" else backend)
        assert "math attention kernel, as the fused one has no second derivative" in H.provenance()["backend"]
        assert "backends that failed" not in H.provenance()
    for model, backend in (("mlp", "auto"), ("attention", "difference")):  # no attention; attention as it is
        H = ls.Hessian(objective(problem(model)), backend=backend)
        H @ block(H.shape[0], 1)
        assert "math" not in H.provenance()["backend"]


def test_a_gradient_that_cannot_be_differentiated() -> None:
    p, smooth = with_layer(Once.apply), with_layer(nn.functional.softplus)
    H = ls.Hessian(objective(p))
    V = block(H.shape[0])
    agree(H, H @ V, Dense(smooth).hessian_times(V), 1e-11)
    facts = H.provenance()
    assert H.backend == "difference"
    assert "central differences of the gradient" in facts["backend"]
    assert facts["backends that failed"] == (
        "autograd: no derivative of Once, which is marked once_differentiable; "
        "forward: no derivative of a custom autograd.Function without jvp"
    )
    for backend in EXACT:
        with pytest.raises(ls.errors.InputError, match=f"the {backend} backend needs .* pass backend='auto'"):
            ls.Hessian(objective(p), backend=backend) @ V


@pytest.mark.parametrize("params", [None, "0.*"], ids=["all", "those before it"])
def test_it_is_never_left_out_in_silence(params: str | None) -> None:
    """Torch leaves it out: of the parameters before it alone, all of the second derivative, which is symmetric."""
    p = with_layer(Once.apply)
    for op in (
        ls.Hessian(objective(p, params=params), backend="autograd"),
        ls.GGN(objective(p, params=params), backend="autograd"),
        ls.GGN(objective(p, params=params)),
    ):
        with (
            harmless(p.model),
            pytest.raises(ls.errors.InputError, match="got Once, which is marked once_differentiable"),
        ):
            op @ block(op.shape[0])
    own = ls.GGN(ls.Objective(problem("mlp").model, lambda m, b: (Once.apply(m(b[0])).mean(), len(b[0])), p.batches()))
    with pytest.raises(ls.errors.InputError, match="got Once, which is marked once_differentiable"):
        own @ block(own.shape[0])


@pytest.mark.parametrize("params", [None, "0.*"], ids=["all", "those before it"])
def test_a_backward_that_leaves_no_graph(params: str | None) -> None:
    p, smooth = with_layer(lambda x: Kernel.apply(x)[0]), with_layer(nn.functional.softplus)
    H, expected = (ls.Hessian(objective(q, params=params)) for q in (p, smooth))
    V = block(H.shape[0])
    agree(H, H @ V, expected @ V, 1e-11)
    assert "autograd: no derivative of Kernel, whose backward leaves no graph" in H.provenance()["backends that failed"]
    G = ls.GGN(objective(p, params=params))
    with harmless(p.model), pytest.raises(ls.errors.InputError, match="got Kernel, whose backward leaves no graph"):
        G @ V


def test_zeros_of_a_backward_need_no_graph() -> None:
    class Scaled(Function):
        """x, times a number that has no part in the gradient."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
            return 2 * g, torch.zeros(())

    p, plain = with_layer(lambda x: Scaled.apply(x.tanh(), x.mean())), with_layer(lambda x: 2 * x.tanh())
    H = ls.Hessian(objective(p))
    V = block(H.shape[0])
    close(H @ V, Dense(plain).hessian_times(V), 1e-12)
    assert H.backend == "autograd"


def test_a_function_without_dual_numbers() -> None:
    p, smooth = with_layer(Twice.apply), with_layer(nn.functional.softplus)
    dense = Dense(smooth)
    V = block(len(dense.gradient))
    H, G = ls.Hessian(objective(p), columns="batch"), ls.GGN(objective(p))
    close(H @ V, dense.hessian_times(V), 1e-11)
    close(G @ V, dense.ggn @ V, 1e-11)
    with pytest.raises(
        ls.errors.InputError, match=r"torch cannot batch .*setup_context.* pass columns='auto'"
    ) as caught:
        ls.GGN(objective(p), columns="batch") @ V
    assert "\n" not in str(caught.value)
    assert (H.backend, G.backend) == ("autograd", "autograd")
    assert "backends that failed" not in H.provenance()
    assert G.provenance()["backends that failed"].startswith("forward: no derivative of")


def test_a_wrong_second_derivative_is_found_before_the_first_product() -> None:
    p = with_layer(Wrong.apply)
    H = ls.Hessian(objective(p))
    match = r"products with the Hessian are not symmetric, got .* differ by .* in 0\.weight, 0\.bias: .*gradgradcheck"
    with harmless(p.model), pytest.raises(ls.errors.InputError, match=match):
        H @ block(H.shape[0])
    right = ls.Hessian(objective(p), backend="difference")  # its gradient is right
    V = block(right.shape[0])
    agree(right, right @ V, Dense(with_layer(nn.functional.softplus)).hessian_times(V), 1e-11)


@pytest.mark.parametrize("how", ["parametrization", "hook"])
def test_weight_norm(how: str) -> None:
    """Torch's kernel fails ``gradgradcheck``; products are right all the same."""
    p = problem("mlp")
    nn.utils.parametrizations.weight_norm(p.model[0])
    dense = Dense(p)
    V = block(len(dense.gradient))
    expected = dense.hessian_times(V)
    if how == "hook":  # torch's old form of the same, with the same parameters in the same order
        p = problem("mlp")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            nn.utils.weight_norm(p.model[0])
    for backend in EXACT:
        close(ls.Hessian(objective(p), backend=backend) @ V, expected, 1e-11)
    differences = ls.Hessian(objective(p), backend="difference")
    agree(differences, differences @ V, expected, 1e-11)


def test_torchs_kernel_of_weight_norm_is_still_wrong() -> None:
    """If this fails it has been mended, and ``landscape.curvature.twice`` is needed no more."""
    v, g = block(4).T.requires_grad_(), torch.rand(3, 1, dtype=torch.float64) + 1
    with pytest.raises(GradcheckError):
        torch.autograd.gradgradcheck(torch._weight_norm, (v, g.requires_grad_()))


# -- central differences ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("model", ["mlp", "convolution", "recurrent", "attention", "normalised"])
def test_the_stated_error_holds(model: str, dtype: torch.dtype) -> None:
    for seed in range(4):
        p = problem(model, seed=seed).to(dtype)
        H = ls.Hessian(objective(p), backend="difference")
        V = block(H.shape[0], 5, dtype, seed=100 + seed)
        lengths = torch.logspace(-3, 3, 5, dtype=dtype)  # a step is of one length whatever the vector's
        product = (H @ (V * lengths)) / lengths
        expected = Dense(p).hessian_times(V)
        error = torch.linalg.vector_norm(product.double() - expected, dim=0)
        assert bool((error <= H.bound * torch.linalg.vector_norm(expected, dim=0)).all())
        assert H.bound < (1e-6 if dtype == torch.float64 else 0.02)
        assert f"error about {H.bound:.0e} by a second step" in H.provenance()["backend"]


def test_steps_that_rounding_swallows_are_refused_with_the_fix() -> None:
    p = problem("mlp").to(torch.bfloat16)
    H = ls.Hessian(objective(p), backend="difference")
    V = block(H.shape[0], dtype=torch.float32)
    with harmless(p.model), pytest.raises(ls.errors.InputError, match=r"central differences.*dtype=torch\.float64"):
        H @ V
    wide = ls.Hessian(objective(p, dtype=torch.float64), backend="difference")
    agree(wide, wide @ V, Dense(p).hessian_times(V.double()), 1e-11)
    assert wide.bound < 1e-6


# -- the graph of an only batch ----------------------------------------------------------------------

KEEPING = {
    "Hessian": lambda o: ls.Hessian(o, backend="autograd"),
    "GGN": ls.GGN,
    "GGN by autograd": lambda o: ls.GGN(o, backend="autograd"),
    "Fisher": lambda o: ls.Fisher(o, kind="empirical"),
    "Jacobian, adjoint": lambda o: ls.Jacobian(o).T,
}


class Raising(nn.Module):
    """The identity, whose backward passes raise while it is told to."""

    raises = False

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        if y.requires_grad:
            y.register_hook(self._hook)
        return y

    def _hook(self, _: Tensor) -> None:
        if self.raises:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", KEEPING)
def test_a_kept_graph_outlives_interrupts(name: str) -> None:
    p = problem("convolution")
    trap = Raising()
    p.model.insert(3, trap)
    passes: list[int] = []
    p.model[0].register_forward_hook(lambda *_: passes.append(1))
    op = KEEPING[name](objective(p, N))
    V = block(op.shape[1])
    expected = op @ V
    before = len(passes)
    assert torch.equal(op @ V, expected)
    if name in ("Hessian", "GGN by autograd", "Jacobian, adjoint"):
        assert len(passes) == before  # the graph is kept
    trap.raises = True
    with harmless(p.model), pytest.raises(KeyboardInterrupt):
        op @ V
    trap.raises = False
    assert torch.equal(op @ V, expected)


# -- vocabularies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [1, 20])
@pytest.mark.parametrize("task", ["language model", "segmentation"])
def test_some_rows_at_a_time(task: str, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(task, OWN)
    makes = (ls.GGN, ls.Fisher, partial(ls.Fisher, kind="mc"), partial(ls.Fisher, kind="empirical"))
    V = block(objective(p).space.n)
    for make in makes:
        expected = make(objective(p)) @ V
        with monkeypatch.context() as patch:
            patch.setattr("landscape.curvature.outputs.rows.ENTRIES", entries)
            close(make(objective(p)) @ V, expected, 1e-13)
            close(make(objective(p), columns="batch") @ V, expected, 1e-12)


def test_the_closed_form_needs_little_memory_beside_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.curvature.outputs.rows.ENTRIES", 1 << 15)
    logits, labels = torch.randn(512, 2000), torch.randint(2000, (512,))
    criterion = nn.CrossEntropyLoss()

    def terms(outputs: Any) -> Terms:
        return Terms(512 * criterion(outputs[0], labels), 512.0, outputs[0], labels)

    split = Split([logits], terms, criterion, labels)
    tangents = [torch.randn_like(logits)]
    peaks, products = {}, {}
    for name, make in {"closed": loss_hessian, "autograd": differentiated}.items():
        with peak_memory(torch.device("cpu")) as peak:
            products[name] = make(split)(tangents)[0]
        peaks[name] = peak.bytes / (logits.numel() * logits.element_size())
    close(products["closed"], products["autograd"], 1e-4)
    assert peaks["closed"] < 1.3  # the product itself, and some rows
    assert peaks["autograd"] > 3
