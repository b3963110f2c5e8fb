"""Several processes: what they say together is what one says with all of the data and the whole model.

Two processes are started once. Each makes every check below; the tests then look at how they went. In all of them the
first process reads one batch and the second three, of different sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

import landscape as ls
from landscape.curvature import Jacobian
from landscape.errors import InputError
from landscape.objective import Objective
from landscape.objective.sharded import local
from tests.objective.processes import CHECKS, COUNT, check, folder

__all__ = ["folder"]  # the fixture

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"
)


# -- what they compute ---------------------------------------------------------------------------------------


def _model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        part = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.3))
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), part, nn.Tanh(), nn.Linear(5, 4)).double()


def _data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 4, (20,), generator=generator)
    y[3] = -100
    return [(x[a:b], y[a:b]) for a, b in ((0, 6), (6, 12), (12, 15), (15, 20))]


def _own(rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return _data()[:1] if rank == 0 else _data()[1:]


def _pairs(rank: int, **options: Any) -> Iterator[tuple[Objective, Objective]]:
    """Yield an objective of both processes, and the same one of all the data."""
    model = _model()
    for mode, reduction in (("eval", "sum"), ("train", "mean")):
        loss = nn.CrossEntropyLoss(reduction=reduction, weight=torch.arange(1.0, 5.0))
        whole = Objective(model, loss, _data(), mode=mode, **options)
        yield Objective(model, loss, _own(rank), mode=mode, group=dist.group.WORLD, **options), whole


def _vectors(n: int) -> torch.Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _close(found: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-12) -> None:
    assert float((found - expected).norm()) <= rtol * float(expected.norm())


@contextmanager
def _refused(words: str) -> Iterator[None]:
    with pytest.raises(InputError, match=words):
        yield


@check
def values_and_gradients(rank: int) -> None:
    for ours, whole in _pairs(rank, regularizer=0.1):
        (value, gradient), (expected, slope) = ours.value_and_gradient(), whole.value_and_gradient()
        _close(value, expected)
        _close(gradient, slope)
        _close(ours.evaluate(("accuracy",))["accuracy"], whole.evaluate(("accuracy",))["accuracy"])
        data, parts = whole.provenance()["data"], ours.provenance()
        assert parts["processes"] == COUNT
        assert (parts["data"]["examples"], parts["data"]["batches"]) == (data["examples"], data["batches"])


#: By reverse passes where there is a choice: torch's first dual number loads its compiler, which takes seconds.
OPERATORS: dict[str, Callable[[Objective], Any]] = {
    "Hessian": ls.Hessian,
    "by difference": lambda objective: ls.Hessian(objective, backend="difference"),
    "GGN": lambda objective: ls.GGN(objective, backend="autograd"),
    "Fisher": lambda objective: ls.Fisher(objective, kind="mc", samples=2, backend="autograd"),
    "empirical Fisher": lambda objective: ls.Fisher(objective, kind="empirical", backend="autograd"),
}


@check
def products(rank: int) -> None:
    for ours, whole in _pairs(rank, regularizer=0.1):
        block = _vectors(ours.space.n)
        for name, make in OPERATORS.items():
            own, expected = make(ours), make(whole) @ block
            for _ in range(2):  # of the first process's one batch, the graph is kept
                _close(own @ block, expected, rtol=1e-6 if name == "by difference" else 1e-12)


@check
def covariance_of_gradients(rank: int) -> None:
    model, loss = _model(), nn.CrossEntropyLoss()
    ours = Objective(model, loss, _own(rank), group=dist.group.WORLD)
    block = _vectors(ours.space.n)
    own, whole = (ls.GradientCovariance(o, backend="autograd") for o in (ours, Objective(model, loss, _data())))
    _close(own @ block, whole @ block)


@check
def both_get_the_same_bits(rank: int) -> None:
    ours = Objective(_model(), nn.CrossEntropyLoss(), _own(rank), group=dist.group.WORLD)
    hessian, block = ls.Hessian(ours), _vectors(ours.space.n)
    found = ours.ranks.gather([(hessian @ block).tolist() for _ in range(2)])
    assert found[0] == found[1]


@check
def labels_in_one_process_only(rank: int) -> None:
    model, (x, y) = _model(), _data()[0]
    own = [(x, y if rank == 0 else torch.full_like(y, -100))]
    ours = Objective(model, nn.CrossEntropyLoss(), own, group=dist.group.WORLD)
    whole = Objective(model, nn.CrossEntropyLoss(), [(x, y)])
    block = _vectors(ours.space.n)
    for backend in ("autograd", "difference"):
        _close(ls.Hessian(ours, backend=backend) @ block, ls.Hessian(whole, backend=backend) @ block, rtol=1e-6)


def _unweighted(model: nn.Module, batch: Any) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


@check
def losses_without_weights(rank: int) -> None:
    model, data = _model(), _data()
    _close(
        Objective(model, _unweighted, [data[rank]], group=dist.group.WORLD).gradient(),
        Objective(model, _unweighted, data[:2]).gradient(),
    )
    with _refused("batches of (6 and 3|3 and 6) examples and a loss alone"):
        Objective(model, _unweighted, [data[2 * rank]], group=dist.group.WORLD).value()


@check
def one_fails_and_both_say_so(rank: int) -> None:
    model = _model()

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
        if rank == 1 and len(batch[1]) == 3:
            raise KeyError("planted")
        return _unweighted(model, batch), 1.0

    ours = Objective(model, loss, _own(rank), group=dist.group.WORLD)
    for ask in (ours.value, ours.gradient, lambda: ls.Hessian(ours) @ _vectors(ours.space.n)):
        with pytest.raises(KeyError, match="planted"):
            ask()
    draws = iter(range(100))

    def other(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
        return _unweighted(model, batch) * (1 + rank * next(draws)), 1.0

    with _refused("the same each time"):
        Objective(model, other, _own(rank), group=dist.group.WORLD).check_deterministic()


class _Once(torch.autograd.Function):
    """The identity, without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 1


@check
def both_fall_back_to_the_same_backend(rank: int) -> None:
    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = model(batch[0])
        outputs = _Once.apply(outputs) if len(batch[1]) == 3 else outputs  # a batch of the second process
        return functional.cross_entropy(outputs, batch[1]), (batch[1] >= 0).sum()

    model = _model()
    ours = Objective(model, loss, _own(rank), group=dist.group.WORLD)
    hessian, block = ls.Hessian(ours), _vectors(ours.space.n)
    _close(hessian @ block, ls.Hessian(Objective(model, nn.CrossEntropyLoss(), _data())) @ block, rtol=1e-6)
    assert hessian.backend == "difference"


@check
def what_needs_one_process_is_refused(rank: int) -> None:
    model = _model()
    ours = Objective(model, nn.CrossEntropyLoss(), _own(rank), group=dist.group.WORLD)
    hessian = ls.Hessian(ours)
    for ask in (
        lambda: ours.subsample(3),
        ours.by_class,
        lambda: ours.estimate_cost(hessian),
        lambda: Jacobian(ours),
        lambda: ours.iterate(ours.point()),
    ):
        with _refused("in one process, got an objective whose data belongs to a group of 2"):
            ask()
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(rank)
    with _refused("the model must be the same in every process"):
        Objective(other, nn.CrossEntropyLoss(), _own(rank), group=dist.group.WORLD).value()


# -- sharded models --------------------------------------------------------------------------------------------


def _cut(model: nn.Module, mesh: Any = None, **options: Any) -> Any:
    """Return a copy of ``model`` that both processes hold a part of, cut in two groups of parameters."""
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh("cpu", (COUNT,)) if mesh is None else mesh
    cut: Any = copy.deepcopy(model)
    fully_shard(cut[2], mesh=mesh, **options)
    return fully_shard(cut, mesh=mesh, **options)


def _shard(vector: torch.Tensor, whole: Objective, rank: int) -> torch.Tensor:
    """Return what process ``rank`` holds of a vector of the whole model."""
    pieces = [t.chunk(COUNT) for t in whole.space.split(vector)]
    return torch.cat([p[rank].reshape(-1) if rank < len(p) else p[0].new_empty(0) for p in pieces])


def _state(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {"rng": torch.get_rng_state().tolist()}
    for name, p in model.named_parameters():
        shard, grad = p.to_local(), p.grad  # type: ignore[attr-defined]
        found[name] = (id(p), shard.data_ptr(), shard.tolist(), shard._version, p.requires_grad)
        found[f"grad {name}"] = None if grad is None else (id(grad), grad.to_local().tolist())  # type: ignore[attr-defined]
        found[f"hooks {name}"] = p._post_accumulate_grad_hooks
    found |= {name: (id(b), b.tolist(), b._version) for name, b in model.named_buffers()}
    found |= {f"flags {name}": (m.training, len(m._forward_hooks)) for name, m in model.named_modules()}
    return found


def _same(after: dict[str, Any], before: dict[str, Any]) -> None:
    changed = {name: (value, after.get(name)) for name, value in before.items() if after.get(name) != value}
    assert not changed, changed
    assert after.keys() == before.keys()


@check
def shards(rank: int) -> None:
    model = _model()
    cut = _cut(model)
    for p in cut.parameters():
        p.grad = torch.ones_like(p)
        p.register_post_accumulate_grad_hook(lambda p: p.data.zero_())  # as an optimizer in the backward pass
    for _, whole in _pairs(rank):
        before = _state(cut)
        ours = Objective(cut, whole.loss.criterion, _own(rank), mode=whole.mode)
        assert ours.space.n < whole.space.n
        _close(ours.value(), whole.value())
        _close(ours.gradient(), _shard(whole.gradient(), whole, rank))
        _close(ours.evaluate(("accuracy",))["accuracy"], whole.evaluate(("accuracy",))["accuracy"])
        block = _vectors(whole.space.n)
        own = torch.stack([_shard(v, whole, rank) for v in block.T], dim=1)
        hessian, expected = ls.Hessian(ours), ls.Hessian(whole) @ block
        product = hessian @ own
        _close(product, torch.stack([_shard(v, whole, rank) for v in expected.T], dim=1), rtol=1e-6)
        torch.testing.assert_close(hessian.space.dot(own[:, 0], product[:, 0]), block[:, 0] @ expected[:, 0])
        torch.testing.assert_close(hessian.space.norm(own[:, 0]), block[:, 0].norm())
        by_name = hessian @ hessian.space.unflatten(own[:, 0])
        torch.testing.assert_close(hessian.space.flatten(by_name), product[:, 0], rtol=1e-6, atol=1e-9)
        facts = hessian.provenance()
        assert hessian.backend == "difference"
        assert "autograd: no derivative of the hooks of a sharded model" in facts["backends that failed"]
        assert facts["parameters"]["count"] == whole.space.n
        _same(_state(cut), before)


@check
def operators_made_of_a_sharded_one(rank: int) -> None:
    ours, whole = (
        Objective(_cut(_model()), nn.CrossEntropyLoss(), _own(rank)),
        Objective(_model(), nn.CrossEntropyLoss(), _data()),
    )
    optimizers = [torch.optim.Adam(o.parameters.values(), lr=0.1) for o in (ours, whole)]
    for objective, optimizer in zip((ours, whole), optimizers, strict=True):
        for p, g in zip(objective.parameters.values(), objective.space.split(objective.gradient()), strict=True):
            p.grad = torch.zeros_like(p)
            with torch.no_grad():
                local(p.grad).copy_(g)
        optimizer.step()
    ours, whole = (Objective(o.model, o.loss.criterion, d) for o, d in ((ours, _own(rank)), (whole, _data())))
    own, expected = ls.Hessian(ours), ls.Hessian(whole)
    v = _vectors(whole.space.n)[:, 0]
    u = _shard(v, whole, rank)
    for make in (
        lambda h, o: 2 * h.shift(0.1),
        lambda h, o: ls.preconditioned(h, o),
        lambda h, o: h.blocks(),
    ):
        _close(make(own, optimizers[0]) @ u, _shard(make(expected, optimizers[1]) @ v, whole, rank), rtol=1e-5)


@check
def shards_at_other_points(rank: int) -> None:
    model, cut = _model(), _cut(_model())
    elsewhere = Objective(model, nn.CrossEntropyLoss(), _data())
    with torch.no_grad():
        for p in [*model.parameters(), *model.buffers()]:
            p.add_(torch.ones_like(p))
    ours = Objective(cut, nn.CrossEntropyLoss(), _own(rank), params="0.*")
    whole = Objective(_model(), nn.CrossEntropyLoss(), _data(), params="0.*")
    _close(ours.gradient(_cut(model).state_dict()), _shard(whole.gradient(model.state_dict()), whole, rank))
    _close(ours.value(_shard(whole.vector() + 1, whole, rank)), whole.value(whole.vector() + 1))
    ours = Objective(cut, nn.CrossEntropyLoss(), _own(rank))
    _close(ours.value(_cut(model).state_dict()), elsewhere.value())


@check
def shards_after_an_exception(rank: int) -> None:
    model = _model()
    cut = _cut(model)
    before = _state(cut)

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
        raise KeyError(f"planted after {model(batch[0]).shape}")

    ours = Objective(cut, loss, _own(rank))
    for ask in (ours.value, ours.gradient):
        with pytest.raises(KeyError, match="planted"):
            ask()
        _same(_state(cut), before)
    # training goes on
    for each in (model, cut):
        each.eval()
        _unweighted(each, _data()[0]).backward()
    for p, q in zip(cut.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p.grad.full_tensor(), q.grad)


@check
def shards_where_one_process_counts_nothing(rank: int) -> None:
    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
        return _unweighted(model, batch), float(rank == 0)

    whole = Objective(_model(), nn.CrossEntropyLoss(), [(_data()[0][0], _data()[0][1].clamp(min=0))])
    (pair,) = whole.batches.held()
    ours = Objective(_cut(_model()), loss, [pair] if rank == 0 else _own(rank))
    _close(ours.gradient(), _shard(whole.gradient(), whole, rank))
    _close(ours.value(), whole.value())


@check
def a_group_of_one(rank: int) -> None:
    groups = [dist.new_group([each]) for each in range(COUNT)]
    cut = _cut(_model(), dist.device_mesh.DeviceMesh.from_group(groups[rank], "cpu"))
    with torch.no_grad():
        cut.eval()(_data()[0][0])  # leaves parameters gathered
    before = {name: p.tolist() for name, p in _model().named_parameters()}
    ours, whole = (Objective(m, nn.CrossEntropyLoss(), _data()) for m in (cut, _model()))
    _close(ours.gradient(), whole.gradient())
    block = _vectors(whole.space.n)
    _close(ls.Hessian(ours) @ block, ls.Hessian(whole) @ block, rtol=1e-6)
    assert {name: p.to_local().tolist() for name, p in cut.named_parameters()} == before


@check
def mixed_precision_is_known(rank: int) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model = _model().float()
    model[2] = model[2][:1]  # running statistics stay in float32, which torch does not mix on a CPU
    ours = Objective(_cut(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)), _half, _own(rank))
    assert ours.coarsest == torch.bfloat16
    assert ours.space.dtype == torch.float32
    whole = Objective(model, _half, _data(), dtype=torch.bfloat16)
    _close(ours.gradient(), _shard(whole.gradient(), whole, rank), rtol=0.05)


def _half(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = model(batch[0].to(torch.bfloat16)).float()
    return functional.cross_entropy(outputs, batch[1]), (batch[1] >= 0).sum()


@check
def what_shards_cannot_do_is_refused(rank: int) -> None:
    cut = _cut(_model())
    loss, own = nn.CrossEntropyLoss(), _own(rank)
    ours = Objective(cut, loss, own)
    block = torch.ones(ours.space.n, 1, dtype=torch.float64)
    hessian = ls.Hessian(ours)
    for words, ask in (
        ("at a model's outputs cannot be had of a sharded model", lambda: ls.GGN(ours) @ block),
        ("at a model's outputs cannot be had of a sharded model", lambda: ls.Fisher(ours) @ block),
        ("autograd backend .* the hooks of a sharded model", lambda: ls.Hessian(ours, backend="autograd") @ block),
        ("forward backend .* the hooks of a sharded model", lambda: ls.Hessian(ours, backend="forward") @ block),
        ("a dense matrix needs whole vectors", hessian.to_dense),
        ("an operator of SciPy needs whole vectors", hessian.to_scipy),
        ("deflation needs whole vectors", lambda: hessian.deflate(block)),
        ("an inverse needs whole vectors", lambda: hessian.inverse(1.0)),
        ("an inverse Fisher needs whole vectors", lambda: ls.InverseFisher((), 1.0, space=ours.space, window=1)),
        ("a choice of examples needs .* sharded model", lambda: ours.subsample(3)),
        ("a part for each example needs .* sharded model", lambda: ours.iterate(ours.point())),
        ("regularizer= cannot be used with a sharded model", lambda: Objective(cut, loss, own, regularizer=0.1)),
        ("dtype= cannot be used with a sharded model", lambda: Objective(cut, loss, own, dtype=torch.float32)),
    ):
        with _refused(words):
            ask()
    cut.set_requires_gradient_sync(False)
    with _refused("must average gradients over its processes, got gradients that are accumulated"):
        ours.gradient()
    cut.set_requires_gradient_sync(True)
    cut[4].bias.requires_grad_(False)
    with _refused("must be sharded and require a gradient, got '4.bias', which is frozen"):
        Objective(cut, loss, own, params="4.*")
    partly: Any = _model()
    from torch.distributed.fsdp import fully_shard

    fully_shard(partly[2], mesh=dist.device_mesh.init_device_mesh("cpu", (COUNT,)))
    with _refused("got '0.weight', which is not sharded"):
        Objective(partly, loss, own)


# -- how it went -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", range(COUNT))
@pytest.mark.parametrize("name", list(CHECKS))
def test_both_processes(name: str, rank: int, folder: Path) -> None:
    outcome = folder / f"{name} {rank}"
    assert outcome.exists(), "not reached"
    assert not outcome.read_text(encoding="utf-8"), outcome.read_text(encoding="utf-8")


def test_what_is_no_group_is_refused() -> None:
    with _refused("must be a process group of torch.distributed, got str"):
        Objective(_model(), nn.CrossEntropyLoss(), _data(), group="gloo")
