"""Thresholds of stability against the optimizers themselves, and P^-1/2 H P^-1/2 against dense algebra."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

import landscape as ls
from landscape.curvature.preconditioned import preconditioner
from landscape.space import Space
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import close, truth

CURVATURES = torch.tensor([1.0, 0.3], dtype=torch.float64)


class Quadratic(nn.Module):
    """½ Σ λ_i x_i², with its Hessian known."""

    def __init__(self, curvatures: torch.Tensor = CURVATURES) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full_like(curvatures, 1e-3))
        self.register_buffer("curvatures", curvatures)

    def forward(self, ones: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.curvatures * self.x**2).sum() * ones


def quadratic_objective(model: nn.Module) -> ls.Objective:
    return ls.Objective(model, lambda m, batch: m(batch[0]).mean(), [(torch.ones(2, dtype=torch.float64),)])


Make = Callable[[list[nn.Parameter], float], optim.Optimizer]


def start(make: Make, warm: int) -> tuple[Quadratic, optim.Optimizer]:
    """Return a model and its optimizer, the second moments (if any) being those of ``warm`` unit gradients."""
    model = Quadratic()
    optimizer = make([model.x], 0.0)
    for _ in range(warm):
        model.x.grad = torch.ones_like(model.x)
        optimizer.step()
    for name in ("exp_avg", "momentum_buffer"):
        if name in optimizer.state.get(model.x, {}):
            optimizer.state[model.x][name].zero_()
    return model, optimizer


def unstable(make: Make, lr: float, warm: int, steps: int = 500) -> bool:
    """Whether the real optimizer leaves the minimum; its P is held by putting back the step and second moment."""
    model, optimizer = start(make, warm)
    optimizer.param_groups[0]["lr"] = lr
    state = optimizer.state.get(model.x, {})
    kept = {name: state[name].clone() for name in ("step", "square_avg", "exp_avg_sq") if name in state}
    if "step" in kept:
        kept["step"] -= 1  # the step counts up before it is used
    before = float(model.x.detach().abs().max())
    for _ in range(steps):
        for name, value in kept.items():
            state[name].copy_(value)
        model.x.grad = model.curvatures * model.x.detach()
        optimizer.step()
        after = float(model.x.detach().abs().max())
        if not after < 1e3 * before:
            return True
    return after > before


def critical_rate(make: Make, warm: int) -> float:
    """Bisect the learning rate at which the optimizer turns unstable."""
    low, high = 1e-5, 1e3
    for _ in range(15):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if unstable(make, middle, warm) else (middle, high)
    return (low * high) ** 0.5


def sgd(**options: Any) -> Make:
    return lambda p, lr: optim.SGD(p, lr=lr, **options)


def second_moment(kind: type[optim.Optimizer], **options: Any) -> Make:
    """An optimizer whose second moment hardly moves, so that P is a constant."""
    frozen = {"alpha": 1 - 1e-9} if kind is optim.RMSprop else {"betas": (options.pop("beta1", 0.9), 1 - 1e-9)}
    return lambda p, lr: kind(p, lr=lr, eps=1e-12, **frozen, **options)


EDGES: dict[str, tuple[Make, int]] = {
    "SGD": (sgd(), 0),
    "heavy ball 0.9": (sgd(momentum=0.9), 0),
    "heavy ball 0.5": (sgd(momentum=0.5), 0),
    "dampened 0.5": (sgd(momentum=0.9, dampening=0.5), 0),
    "dampened 0.9": (sgd(momentum=0.9, dampening=0.9), 0),
    "dampened without momentum": (sgd(dampening=0.5), 0),
    "Nesterov 0.9": (sgd(momentum=0.9, nesterov=True), 0),
    "SGD, weight decay": (sgd(weight_decay=0.4), 0),
    "heavy ball, weight decay": (sgd(momentum=0.8, weight_decay=0.4), 0),
    "Adam": (second_moment(optim.Adam), 100),
    "Adam, beta1 0.5": (second_moment(optim.Adam, beta1=0.5), 100),
    "Adam, beta1 0": (second_moment(optim.Adam, beta1=0.0), 100),
    "Adam, weight decay": (second_moment(optim.Adam, weight_decay=0.4), 100),
    "AdamW": (second_moment(optim.AdamW, weight_decay=0.02), 100),
    "Adam, decoupled": (second_moment(optim.Adam, weight_decay=0.02, decoupled_weight_decay=True), 100),
    "RMSprop": (second_moment(optim.RMSprop), 100),
    "RMSprop, momentum": (second_moment(optim.RMSprop, momentum=0.7), 100),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_optimizer_itself_turns_unstable_where_rho_is_one(name: str) -> None:
    make, warm = EDGES[name]
    model, optimizer = start(make, warm)
    optimizer.param_groups[0]["lr"] = critical_rate(make, warm)
    operator = ls.preconditioned(ls.Hessian(quadratic_objective(model)), optimizer)
    largest = float(torch.linalg.eigvalsh(operator.to_dense())[-1])
    assert largest / operator.by.c == pytest.approx(1.0, rel=5e-3)


@pytest.mark.parametrize("beta1", [0.9, 0.5, 0.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_nadam_by_its_recursion(beta1: float, decay: float) -> None:
    """At a constant momentum (torch's own warms up slowly) the step's matrix has spectral radius 1 at c."""
    parameter = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.NAdam([parameter], lr=1.0, betas=(beta1, 0.999), weight_decay=decay, decoupled_weight_decay=True)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    by = preconditioner(optimizer, {"x": parameter}, Space.of({"x": parameter.detach()}))

    def radius(curvature: float) -> float:
        # m' = b m + (1-b) λ x; x' = (1-w) x - (1-b) λ x - b m'
        b = beta1
        rows = [
            [1 - decay - (1 - b) * curvature - b * (1 - b) * curvature, -b * b],
            [(1 - b) * curvature, b],
        ]
        return float(torch.linalg.eigvals(torch.tensor(rows, dtype=torch.float64)).abs().max())

    assert radius(by.c * 0.999) < 1 < radius(by.c * 1.001)


@pytest.mark.parametrize("steps", [100, 1000])
def test_nadam_says_where_its_edge_is_before_its_momentum_is_there(steps: int) -> None:
    make = second_moment(optim.NAdam)
    model, optimizer = start(make, steps)
    note = ls.preconditioned(ls.Hessian(quadratic_objective(model)), optimizer).by.note
    said = float(re.search(r"its edge is at ([\d.]+) now", note)[1])
    assert critical_rate(make, steps) == pytest.approx(said, rel=5e-3)
    late = optim.NAdam([model.x], momentum_decay=1e3)
    model.x.grad = torch.ones_like(model.x)
    late.step()
    assert ls.preconditioned(ls.Hessian(quadratic_objective(model)), late).by.note == ""


@pytest.mark.parametrize(
    ("make", "c"),
    [
        (sgd(), 2.0),
        (sgd(momentum=0.9), 3.8),
        (sgd(momentum=0.9, dampening=0.5), 7.6),
        (sgd(momentum=0.9, nesterov=True), 3.8 / 2.8),
        (second_moment(optim.Adam), 38.0),
        (second_moment(optim.Adam, beta1=0.95), 78.0),
        (second_moment(optim.Adam, beta1=0.5), 6.0),
        (second_moment(optim.AdamW, weight_decay=0.1), 36.1),
        (second_moment(optim.NAdam), 3.8 / 0.28),
        (second_moment(optim.RMSprop), 2.0),
    ],
)
def test_published_thresholds(make: Make, c: float) -> None:
    model = Quadratic()
    optimizer = make([model.x], 1.0)
    model.x.grad = torch.ones_like(model.x)
    optimizer.step()
    assert ls.preconditioned(ls.Hessian(quadratic_objective(model)), optimizer).by.c == pytest.approx(c, rel=1e-12)


# -- dense algebra ----------------------------------------------------------------------------------


def denominator(optimizer: optim.Optimizer, parameter: nn.Parameter, group: dict[str, Any]) -> torch.Tensor:
    """What torch's documentation says the step divides by, without the learning rate."""
    if isinstance(optimizer, optim.SGD):
        return torch.ones_like(parameter)
    state = optimizer.state[parameter]
    if isinstance(optimizer, optim.RMSprop):
        mean = state["grad_avg"] if group["centered"] else 0.0
        return (state["square_avg"] - mean**2).sqrt() + group["eps"]
    (b1, b2), t = group["betas"], float(state["step"])
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    return (1 - b1**t) * ((second / (1 - b2**t)).sqrt() + group["eps"])


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.03),
    "Adam": lambda groups: optim.Adam(groups, lr=0.1, weight_decay=0.05),
    "Adam, amsgrad": lambda groups: optim.Adam(groups, lr=0.1, betas=(0.8, 0.5), amsgrad=True),
    "Adam, tensor rate": lambda groups: optim.Adam(groups, lr=torch.tensor(0.1)),
    "AdamW": lambda groups: optim.AdamW(groups, lr=0.1, weight_decay=0.05),
    "RMSprop": lambda groups: optim.RMSprop(groups, lr=0.1, alpha=0.9),
    "RMSprop, centered": lambda groups: optim.RMSprop(groups, lr=0.1, alpha=0.9, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_eigenvalues_are_those_of_the_unsymmetric_product(name: str) -> None:
    p = problem("tied")
    parameters = dict(p.model.named_parameters())
    groups = [
        {"params": [parameters["first.weight"], parameters["head.bias"]]},
        {"params": [parameters["first.bias"], parameters["head.weight"]], "lr": 0.004},
    ]
    optimizer = OPTIMIZERS[name](groups)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for x, y in p.batches():
        optimizer.zero_grad()
        p.loss(p.model(x), y).backward()
        optimizer.step()
        schedule.step()
    objective = ls.Objective(p.model, p.loss, p.batches())
    H = ls.Hessian(objective)
    with harmless(p.model, optimizer):
        operator = ls.preconditioned(H, optimizer)
        dense = operator.to_dense()
    rates, below, decay = [], [], []
    for parameter in parameters.values():
        group = next(g for g in optimizer.param_groups if any(q is parameter for q in g["params"]))
        ones = torch.ones(parameter.numel(), dtype=torch.float64)
        rates.append(ones * float(group["lr"]))
        below.append(denominator(optimizer, parameter, group).detach().reshape(-1))
        decay.append(ones * (0.0 if name == "AdamW" else group["weight_decay"]))
    scale = torch.cat(rates) / torch.cat(below)
    plain = torch.diag(scale) @ (truth(p).hessian + torch.diag(torch.cat(decay)))
    close(dense, dense.T, 1e-12)
    close(torch.linalg.eigvalsh(dense), torch.linalg.eigvals(plain).real.sort().values, 1e-9)
    assert torch.equal(operator @ torch.eye(operator.shape[0], dtype=torch.float64)[:, :3], dense[:, :3])
    assert operator.provenance()["optimizer"] == type(optimizer).__name__
    assert operator.provenance()["operator"] == "P^-1/2 Hessian P^-1/2"


def test_one_rate_is_reported_only_when_there_is_one() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    assert ls.preconditioned(H, optim.SGD(p.model.parameters(), lr=0.3)).by.rate == 0.3
    groups = [{"params": [q], "lr": 0.1 * (i + 1)} for i, q in enumerate(p.model.parameters())]
    assert torch.tensor(ls.preconditioned(H, optim.SGD(groups)).by.rate).isnan()
    head = optim.SGD(p.model.head.parameters(), lr=0.3)
    by = ls.preconditioned(H, head).by
    assert torch.tensor(by.rate).isnan()
    assert not bool(by.scale[H.space.slices["first.weight"]].any())


def test_momentum_that_differs_between_groups_is_said() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    groups = [{"params": [q], "momentum": 0.1 * i} for i, q in enumerate(p.model.parameters())]
    by = ls.preconditioned(H, optim.SGD(groups, lr=0.1)).by
    assert by.c == 2.0
    assert "smallest threshold" in by.note
    assert ls.preconditioned(H, optim.SGD(p.model.parameters(), lr=0.1)).by.note == ""


def test_parameters_that_never_had_a_gradient_do_not_move() -> None:
    p = problem("partial")
    optimizer = optim.Adam(p.model.parameters(), lr=0.1)
    p.loss(p.model(p.inputs), p.targets).backward()
    optimizer.step()
    operator = ls.preconditioned(ls.Hessian(ls.Objective(p.model, p.loss, p.batches())), optimizer)
    assert not bool(operator.by.scale[operator.space.slices["unused.weight"]].any())
    assert bool((operator.by.scale[operator.space.slices["used.weight"]] > 0).all())


def test_subclasses_follow_their_base() -> None:
    class Mine(optim.SGD):
        pass

    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    assert ls.preconditioned(H, Mine(p.model.parameters(), lr=0.1, momentum=0.5)).by.c == 3.0


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [optim.Adagrad, optim.LBFGS, optim.ASGD, optim.Rprop, optim.Adamax, optim.RAdam, optim.Adadelta]
)
def test_unknown_optimizers_are_refused(kind: type[optim.Optimizer]) -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    with pytest.raises(
        ls.errors.InputError, match=rf"no stability threshold is known .*, got {kind.__name__}: .*known are SGD, Adam"
    ) as caught:
        ls.preconditioned(H, kind(p.model.parameters(), lr=0.1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.NAdam, optim.RMSprop])
def test_before_the_first_step(kind: type[optim.Optimizer]) -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    optimizer = kind(p.model.parameters(), lr=0.1)
    with pytest.raises(ls.errors.InputError, match=r"no step yet, got no state for first\.weight: .*; ask again"):
        ls.preconditioned(H, optimizer)
    assert len(optimizer.state) == 0


def test_other_refusals() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    with pytest.raises(ls.errors.InputError, match=r"maximises has no edge .*got maximize=True; minimise"):
        ls.preconditioned(H, optim.SGD(p.model.parameters(), lr=0.1, maximize=True))
    with pytest.raises(
        ls.errors.InputError, match=r"moves none of the selected parameters, got SGD; pass the optimizer"
    ):
        ls.preconditioned(H, optim.SGD(problem("mlp").model.parameters(), lr=0.1))
    with pytest.raises(
        ls.errors.InputError, match=r"needs an operator of an objective, got Tensor: .*pass for example"
    ):
        ls.preconditioned(torch.eye(3), optim.SGD(p.model.parameters(), lr=0.1))
