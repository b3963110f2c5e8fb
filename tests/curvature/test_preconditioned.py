"""Thresholds of stability against the optimizers themselves, and P^-1/2 H P^-1/2 against dense algebra."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

import landscape as ls
from landscape.curvature import aslinearoperator
from landscape.curvature.preconditioned import preconditioner
from landscape.monitor.metrics import METRICS, Moment
from landscape.space import Space
from tests.curvature.contract import keeps_its_promises
from tests.curvature.optimizers import (
    CURVATURES,
    EDGES,
    FusedAdamW,
    Lion,
    Make,
    Quadratic,
    critical_rate,
    quadratic_objective,
    second_moment,
    sgd,
    start,
)
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import close, truth


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
    if isinstance(optimizer, optim.Adagrad):
        return (1 + (float(state["step"]) - 1) * group["lr_decay"]) * (state["sum"].sqrt() + group["eps"])
    if isinstance(optimizer, optim.Adadelta):
        return (state["square_avg"] + group["eps"]).sqrt() / (state["acc_delta"] + group["eps"]).sqrt()
    (b1, b2), t = group["betas"], float(state["step"])
    if isinstance(optimizer, optim.Adamax):
        return (1 - b1**t) * state["exp_inf"]
    if isinstance(optimizer, optim.NAdam):
        return (1 - float(state["mu_product"])) * ((state["exp_avg_sq"] / (1 - b2**t)).sqrt() + group["eps"])
    second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return (1 - b1**t) * ((second / (1 - b2**t)).sqrt() + group["eps"])


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.03),
    "Adam": lambda groups: optim.Adam(groups, lr=0.1, weight_decay=0.05),
    "Adam, amsgrad": lambda groups: optim.Adam(groups, lr=0.1, betas=(0.8, 0.5), amsgrad=True),
    "Adam, tensor rate": lambda groups: optim.Adam(groups, lr=torch.tensor(0.1)),
    "AdamW": lambda groups: optim.AdamW(groups, lr=0.1, weight_decay=0.05),
    "RMSprop": lambda groups: optim.RMSprop(groups, lr=0.1, alpha=0.9),
    "RMSprop, centered": lambda groups: optim.RMSprop(groups, lr=0.1, alpha=0.9, centered=True),
    "NAdam": lambda groups: optim.NAdam(groups, lr=0.1, weight_decay=0.05),
    "Adamax": lambda groups: optim.Adamax(groups, lr=0.1, weight_decay=0.05),
    "Adagrad": lambda groups: optim.Adagrad(groups, lr=0.1, lr_decay=0.3, initial_accumulator_value=0.2),
    "Adadelta": lambda groups: optim.Adadelta(groups, lr=1.0, weight_decay=0.05),
    "another library's AdamW": lambda groups: FusedAdamW(groups, lr=0.1, weight_decay=0.05),
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
        decay.append(ones * (0.0 if name.endswith("AdamW") else group["weight_decay"]))
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


@pytest.mark.parametrize("kind", [optim.LBFGS, optim.ASGD, optim.Rprop, optim.Muon, optim.Adafactor])
@pytest.mark.parametrize("stepped", [False, True], ids=["new", "used"])
def test_unknown_optimizers_are_refused(kind: type[optim.Optimizer], stepped: bool) -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    optimizer = kind([q for q in p.model.parameters() if q.ndim == 2 or kind is not optim.Muon], lr=0.1)
    if stepped:
        p.loss(p.model(p.inputs), p.targets).backward()
        optimizer.step(lambda: p.loss(p.model(p.inputs), p.targets))
    words = rf"no stability threshold is known .*, got {kind.__name__}: .*known are SGD, Adam"
    with pytest.raises(ls.errors.InputError, match=words) as caught:
        ls.preconditioned(H, optimizer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.NAdam, optim.RMSprop, optim.Adamax, optim.Adadelta])
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


def test_a_state_without_a_step_or_without_a_finite_step() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    full_at_once = optim.Adagrad(p.model.parameters(), lr=0.1, initial_accumulator_value=1.0)
    with pytest.raises(ls.errors.InputError, match="has made no step yet"):
        ls.preconditioned(H, full_at_once)
    zeros = optim.Adam(p.model.parameters(), lr=0.1, eps=0.0)
    for q in p.model.parameters():
        q.grad = torch.zeros_like(q)
    zeros.step()
    with pytest.raises(
        ls.errors.InputError, match=r"divides by zero or by NaN, got its second moment for first\.weight"
    ):
        ls.preconditioned(H, zeros)
    with pytest.raises(ls.errors.InputError, match="maximises has no edge"):
        ls.preconditioned(H, Lion([{"params": list(p.model.parameters()), "maximize": True}], lr=0.1))
    J = aslinearoperator(torch.ones(3, H.shape[1], dtype=torch.float64), H.space)
    with pytest.raises(ls.errors.InputError, match="needs an operator of an objective"):
        ls.preconditioned(J, optim.SGD(p.model.parameters(), lr=0.1))
    with pytest.raises(ls.errors.InputError, match="from a space to itself"):
        ls.preconditioned(J @ H, optim.SGD(p.model.parameters(), lr=0.1))


# -- optimizers without an edge, or of other libraries ------------------------------------------------


def test_lion_has_rates_and_no_edge() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    operator = ls.preconditioned(H, Lion(p.model.parameters(), lr=0.3, weight_decay=0.1))
    assert math.isnan(operator.by.c)
    assert operator.by.rate == 0.3
    assert operator.by.note.startswith("Lion steps by the sign of its momentum")
    assert operator.provenance()["optimizer note"] == operator.by.note
    close(operator.to_dense(), 0.3 * truth(p).hessian, 1e-12)


@pytest.mark.parametrize("kind", ["Lion", "Adam"])
def test_a_record_of_sharpness_says_that_there_is_no_edge(kind: str) -> None:
    p = problem("tied")
    objective = ls.Objective(p.model, p.loss, p.batches())
    optimizer = Lion(p.model.parameters(), lr=0.01) if kind == "Lion" else optim.Adam(p.model.parameters(), lr=0.01)
    p.loss(p.model(p.inputs), p.targets).backward()
    optimizer.step()
    values, status = METRICS["sharpness"]()(Moment(objective, optimizer, 1, 0))
    assert values["sharpness"] > 0
    assert math.isnan(values["edge"]) == (kind == "Lion")
    assert ("no edge: Lion steps by the sign" in status) == (kind == "Lion")


def test_an_optimizer_of_another_library_is_known_by_its_state() -> None:
    p = problem("tied")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    optimizer = FusedAdamW(p.model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(ls.errors.InputError, match=r"got FusedAdamW: .*after their first step .* exp_avg_sq"):
        ls.preconditioned(H, optimizer)
    p.loss(p.model(p.inputs), p.targets).backward()
    optimizer.step()
    by = ls.preconditioned(H, optimizer).by
    assert by.c == pytest.approx((2 - 0.01) * 19)
    taken = "FusedAdamW is taken for Adam, whose second moment it keeps (exp_avg_sq)"
    assert by.note == f"{taken}; its weight decay is taken as decoupled"


@pytest.mark.parametrize(
    ("key", "value", "options", "expected", "c"),
    [
        ("square_avg", 4.0, {"eps": 0.5, "momentum": 0.5}, 2.5, 3.0),
        ("sum", 9.0, {"eps": 0.5}, 3.5, 2.0),
        ("exp_avg_var", 4.0, {"eps": 0.5, "betas": (0.5, 0.5)}, 0.75 * (math.sqrt(4 / 0.75) + 0.5), 6.0),
        ("v", 4.0, {}, 2.0, math.nan),
        ("exp_inf", 4.0, {"betas": (0.5, 0.5)}, 3.0, 6.0),
    ],
)
def test_every_name_of_a_second_moment(key: str, value: float, options: dict, expected: float, c: float) -> None:
    class Other(optim.Optimizer):
        pass

    model = Quadratic()
    optimizer = Other([model.x], {"lr": 0.1, **options})
    optimizer.state[model.x] = {"step": 2, key: torch.full_like(model.x, value)}
    operator = ls.preconditioned(ls.Hessian(quadratic_objective(model)), optimizer)
    close(operator.to_dense(), torch.diag(0.1 * CURVATURES / expected), 1e-12)
    assert operator.by.c == pytest.approx(c, nan_ok=True)
    assert operator.by.note.startswith("Other is taken for")
    assert ("there is no threshold" in operator.by.note) == math.isnan(c)


# -- operators made of operators ------------------------------------------------------------------------


def test_composites() -> None:
    p, q = problem("tied"), problem("tied", "square")
    first, second = ls.Objective(p.model, p.loss, p.batches()), ls.Objective(p.model, q.loss, q.batches())
    q.model.load_state_dict(p.model.state_dict())
    H, K = ls.Hessian(first), ls.Hessian(second)
    groups = [{"params": [w], "lr": 0.1 * (i + 1)} for i, w in enumerate(p.model.parameters())]
    optimizer = optim.SGD(groups, weight_decay=0.5)
    whole = ls.preconditioned(H, optimizer)
    d, n = whole.by.scale, whole.shape[0]
    A, B, I = truth(p).hessian, truth(q).hessian, torch.eye(n, dtype=torch.float64)
    cases = {
        "whole": (H, A + 0.5 * I),
        "difference": (H - K, A - B),  # the decay is the same on both sides
        "mean": ((H + K) / 2, (A + B) / 2 + 0.5 * I),
        "shift": (H.shift(2.0), A + 2.5 * I),
        "square": (H @ H, A @ A),
    }
    for operator, dense in cases.values():
        found = ls.preconditioned(operator, optimizer)
        assert found.symmetric
        keeps_its_promises(found, d[:, None] * dense * d, 1e-12)
    part = ls.preconditioned(H.restrict("head.*"), optimizer)
    inside = torch.cat([torch.arange(s.start, s.stop) for m, s in H.space.slices.items() if m.startswith("head")])
    keeps_its_promises(part, (d[:, None] * (A + 0.5 * I) * d)[inside][:, inside], 1e-12)
    assert part.provenance()["operator"] == "P^-1/2 (restricted Hessian) P^-1/2"
    assert ls.preconditioned(H - K, optimizer).provenance()["operator"] == "P^-1/2 (Hessian - Hessian) P^-1/2"


def test_of_two_models_the_one_that_is_trained() -> None:
    p, q = problem("tied"), problem("tied", seed=1)
    H, K = (ls.Hessian(ls.Objective(x.model, x.loss, x.batches())) for x in (p, q))
    for trained in (p, q):
        optimizer = optim.SGD(trained.model.parameters(), lr=0.5)
        close(ls.preconditioned(H - K, optimizer).to_dense(), 0.5 * (truth(p).hessian - truth(q).hessian), 1e-12)


def test_gauss_newton_and_the_noise_of_gradients() -> None:
    p = problem("tied")
    objective = ls.Objective(p.model, p.loss, p.batches())
    optimizer = optim.SGD(p.model.parameters(), lr=0.25, weight_decay=0.5)
    G, S = ls.GGN(objective), ls.GradientCovariance(objective)
    decay = 0.5 * torch.eye(G.shape[0], dtype=torch.float64)
    felt = ls.preconditioned(G, optimizer)
    assert felt.psd
    close(felt.to_dense(), 0.25 * (G.to_dense() + decay), 1e-12)
    close(ls.preconditioned(S, optimizer).to_dense(), 0.25 * S.to_dense(), 1e-12)  # decay makes no noise
    keeps_its_promises(ls.preconditioned(2 * G - S, optimizer), 0.25 * (2 * (G.to_dense() + decay) - S.to_dense()))


@pytest.mark.parametrize("make", [ls.Hessian, ls.GGN, lambda o: 2 * ls.Hessian(o).restrict("*weight")])
def test_decay_of_both_objective_and_optimizer_is_said(make: Callable[[ls.Objective], Any]) -> None:
    p = problem("mlp")
    decayed = ls.Objective(p.model, p.loss, p.batches(), regularizer=0.5)
    plain = ls.Objective(p.model, p.loss, p.batches())
    coupled = optim.SGD(p.model.parameters(), lr=1.0, weight_decay=0.5)
    both = ls.preconditioned(make(decayed), coupled)
    assert both.by.note == "the objective's weight decay 0.5 counts beside the optimizer's own weight decay"
    assert both.provenance()["optimizer note"] == both.by.note
    assert ls.preconditioned(make(plain), coupled).by.note == ""
    assert ls.preconditioned(make(decayed), optim.SGD(p.model.parameters(), lr=1.0)).by.note == ""
    assert ls.preconditioned(ls.Fisher(decayed), coupled).by.note == ""  # without the regularizer


def test_decay_that_cancels_is_not_said() -> None:
    p = problem("mlp")
    decayed = ls.Objective(p.model, p.loss, p.batches(), regularizer=0.5)
    optimizer = optim.SGD(p.model.parameters(), lr=1.0, weight_decay=0.5)
    assert ls.preconditioned(ls.Hessian(decayed) - ls.GGN(decayed), optimizer).by.note == ""
