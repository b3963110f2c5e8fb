"""A quadratic loss and optimizers on it, some written as other libraries do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim

import landscape as ls

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
    moments = ("step", "square_avg", "acc_delta", "exp_avg_sq", "exp_inf", "sum")
    kept = {name: state[name].clone() for name in moments if name in state}
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
    if kind in (optim.RMSprop, optim.Adadelta):
        frozen = {"alpha" if kind is optim.RMSprop else "rho": 1 - 1e-9}
    else:
        frozen = {} if kind is optim.Adagrad else {"betas": (options.pop("beta1", 0.9), 1 - 1e-9)}
    return lambda p, lr: kind(p, lr=lr, eps=1e-12, **frozen, **options)


class FusedAdamW(optim.Optimizer):
    """As other libraries write it: no base of torch's, and the steps counted in the group."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.02) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 1 - 1e-9), "eps": 1e-12, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                state["step"] += 1
                t = float(state["step"])
                p.mul_(1 - lr * group["weight_decay"])
                state["exp_avg"].lerp_(p.grad, 1 - b1)
                state["exp_avg_sq"].lerp_(p.grad**2, 1 - b2)
                below = (state["exp_avg_sq"] / (1 - b2**t)).sqrt() + group["eps"]
                p.sub_(lr / (1 - b1**t) * state["exp_avg"] / below)


class Lion(optim.Optimizer):
    """Steps by the sign of its momentum (Chen et al. 2023, arXiv:2302.06675)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                mean = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (b1 * mean + (1 - b1) * p.grad).sign())
                mean.lerp_(p.grad, 1 - b2)


#: name -> (an optimizer, the unit gradients that its second moments are of)
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
    "Adam, foreach": (second_moment(optim.Adam, foreach=True), 100),
    "Adam, fused": (second_moment(optim.Adam, fused=True), 100),
    "Adamax": (second_moment(optim.Adamax), 100),
    "Adamax, beta1 0.5, weight decay": (second_moment(optim.Adamax, beta1=0.5, weight_decay=0.4), 5),
    "RAdam": (lambda p, lr: optim.RAdam(p, lr=lr), 100),
    "RAdam, before the variance is known": (lambda p, lr: optim.RAdam(p, lr=lr), 3),
    "RAdam, decoupled": (lambda p, lr: optim.RAdam(p, lr=lr, weight_decay=0.02, decoupled_weight_decay=True), 50),
    "Adagrad": (second_moment(optim.Adagrad), 10),
    "Adagrad, all options": (
        second_moment(optim.Adagrad, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.4),
        10,
    ),
    "Adadelta": (second_moment(optim.Adadelta, weight_decay=0.1), 10),
    "another library's Adam": (lambda p, lr: FusedAdamW(p, lr), 100),
}
