"""Curvature as an optimizer feels it: P^-1/2 H P^-1/2, and the value at which its step turns unstable.

The learning rates, per parameter group, are inside P, so one number describes every optimizer:
ρ = λ_max(P^-1/2 H P^-1/2) / c, with the edge of stability at 1 (Cohen et al. 2021, arXiv:2103.00065;
Cohen et al. 2022, arXiv:2207.14484).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import optim

from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.space import Space

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """What one kind of optimizer does to a gradient.

    ``denominator(group, state)`` is what the step divides the gradient by, element by element, without
    the learning rate; ``threshold(group)`` is c, the curvature of P^-1/2 H P^-1/2 at the edge;
    ``caveat(group, state)`` says in words when c does not hold yet.
    """

    denominator: Callable[[Group, Mapping[str, Any]], torch.Tensor | float]
    threshold: Callable[[Group], float]
    caveat: Callable[[Group, Mapping[str, Any]], str] = lambda group, state: ""


def _plain(group: Group, state: Mapping[str, Any]) -> float:
    return 1.0


def _adam(group: Group, state: Mapping[str, Any]) -> torch.Tensor:
    beta1, beta2 = (float(b) for b in group["betas"])
    t = float(state["step"])
    second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    root: torch.Tensor = (second / (1 - beta2**t)).sqrt()
    return (1 - beta1**t) * (root + group["eps"])


def _rmsprop(group: Group, state: Mapping[str, Any]) -> torch.Tensor:
    second = state["square_avg"]
    if group["centered"]:
        second = second - state["grad_avg"] ** 2
    root: torch.Tensor = second.sqrt()
    return root + group["eps"]


def _sgd_threshold(group: Group) -> float:
    b = group["momentum"]
    if b == 0:
        return 2.0
    return (2 + 2 * b) / (1 + 2 * b) if group["nesterov"] else (2 + 2 * b) / (1 - group["dampening"])


def _adam_threshold(group: Group) -> float:
    b = float(group["betas"][0])
    shrink = float(group["lr"]) * group["weight_decay"] if _decoupled(group) else 0.0
    return (2 - shrink) * (1 + b) / (1 - b)


def _nadam_threshold(group: Group) -> float:
    b = float(group["betas"][0])
    return _adam_threshold(group) / (1 + 2 * b)


def _nadam_caveat(group: Group, state: Mapping[str, Any]) -> str:
    """Torch's NAdam raises its momentum μ_t towards β1 over tens of thousands of steps; c is for μ_t = β1."""
    b = float(group["betas"][0])
    mu = b * (1 - 0.5 * 0.96 ** (float(state["step"]) * group["momentum_decay"]))
    now, c = _adam_threshold(group) * (1 - b) / (1 + b - 2 * mu * b), _nadam_threshold(group)
    if abs(now / c - 1) < 0.01:
        return ""
    return f"NAdam's momentum is still warming up: its edge is at {now:.3g} now, and c = {c:.3g} is where it tends to"


#: The optimizers whose edge is known; subclasses follow their nearest listed base.
RULES: dict[type[optim.Optimizer], Rule] = {
    optim.SGD: Rule(_plain, _sgd_threshold),
    optim.Adam: Rule(_adam, _adam_threshold),
    optim.AdamW: Rule(_adam, _adam_threshold),
    optim.NAdam: Rule(_adam, _nadam_threshold, _nadam_caveat),
    optim.RMSprop: Rule(_rmsprop, lambda group: 2 + 2 * group["momentum"]),
}


def _decoupled(group: Group) -> bool:
    return bool(group.get("decoupled_weight_decay", False))


@dataclass(frozen=True)
class Preconditioner:
    """An optimizer's P at one moment, over a space.

    ``scale`` (n,) is P^-1/2, zero where the optimizer does not move the parameter; ``decay`` (n,) is the
    weight decay that is part of the gradient; ``c`` the threshold; ``rate`` the learning rate when P is
    1/rate times the identity, else NaN; ``note`` says in words where the threshold is not exact.
    """

    scale: torch.Tensor
    decay: torch.Tensor
    c: float
    rate: float
    optimizer: str
    note: str = ""


def preconditioner(optimizer: optim.Optimizer, parameters: Mapping[str, torch.Tensor], space: Space) -> Preconditioner:
    """Return P as ``optimizer`` would apply it now: after the update of its moments, with its rates inside.

    Raises :class:`~landscape.errors.InputError` for an optimizer without a known rule, one that maximises,
    or one that has not made a step yet although its P depends on the steps.
    """
    rule = next((RULES[kind] for kind in type(optimizer).__mro__ if kind in RULES), None)
    if rule is None:
        raise InputError(
            "no stability threshold is known for this optimizer",
            got=type(optimizer).__name__,
            why="its step is not a preconditioned gradient that the theory covers",
            fix=f"read the raw sharpness instead; known are {', '.join(kind.__name__ for kind in RULES)}",
        )
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    scale = torch.zeros(space.n, dtype=space.dtype, device=space.device)
    decay = torch.zeros_like(scale)
    thresholds, rates, notes = set(), set(), set()
    for (name, p), part, shift in zip(parameters.items(), space.split(scale), space.split(decay), strict=True):
        group = groups.get(id(p))
        if group is None:
            rates.add(0.0)
            continue
        if group.get("maximize"):
            raise InputError("an optimizer that maximises has no edge of stability", got="maximize=True",
                             fix="minimise the negative instead")  # fmt: skip
        rate = float(group["lr"])
        if rule.denominator is _plain:
            below: torch.Tensor | float = 1.0
        elif not optimizer.state.get(p) and any(optimizer.state.get(other) for other in parameters.values()):
            rates.add(0.0)  # it never had a gradient, so the optimizer has not moved it
            continue
        elif not optimizer.state.get(p):
            raise InputError("the optimizer has made no step yet", got=f"no state for {name}",
                             why="its preconditioner comes from the gradients it has seen",
                             fix="ask again after the first step")  # fmt: skip
        else:
            below = rule.denominator(group, optimizer.state[p])
        part.copy_((rate / torch.as_tensor(below, dtype=torch.float64, device=space.device)).sqrt())
        shift.fill_(0.0 if _decoupled(group) else float(group["weight_decay"]))
        thresholds.add(rule.threshold(group))
        notes.add(rule.caveat(group, optimizer.state.get(p, {})))
        rates.add(rate)
    if not thresholds:
        raise InputError("the optimizer moves none of the selected parameters", got=type(optimizer).__name__,
                         fix="pass the optimizer that trains this model, or select other parameters")  # fmt: skip
    if len(thresholds) > 1:
        notes.add("momentum or decay differs between parameter groups: the smallest threshold is used")
    note = "; ".join(sorted(notes - {""}))
    single = rule.denominator is _plain and len(rates) == 1
    return Preconditioner(scale, decay, min(thresholds), rates.pop() if single else float("nan"),
                          type(optimizer).__name__, note)  # fmt: skip


class Preconditioned(LinearOperator):
    """P^-1/2 (A + decay) P^-1/2 for an operator A; symmetric, with the eigenvalues of P^-1 (A + decay)."""

    def __init__(self, operator: LinearOperator, by: Preconditioner) -> None:
        super().__init__(operator.space)
        self.operator, self.by = operator, by
        self.psd = operator.psd and bool((by.decay >= 0).all())

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        scale, decay = self.by.scale[:, None], self.by.decay[:, None]
        inner = scale * block
        product: torch.Tensor = self.operator @ inner
        return scale * (product + decay * inner)

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is, and the optimizer whose P it uses."""
        return {
            **self.operator.provenance(),
            "operator": f"P^-1/2 {type(self.operator).__name__} P^-1/2",
            "optimizer": self.by.optimizer,
        }


def preconditioned(operator: Any, optimizer: optim.Optimizer) -> Preconditioned:
    """Return P^-1/2 H P^-1/2 with the optimizer's present second moments and learning rates in P.

    Parameters
    ----------
    operator : Hessian
        An operator of an objective whose parameters ``optimizer`` trains.
    optimizer : torch.optim.Optimizer
        SGD (momentum, Nesterov, dampening), RMSprop, Adam, AdamW or NAdam.

    Notes
    -----
    Its largest eigenvalue over ``by.c`` is ρ, with the edge of stability at 1. A product costs one
    product of ``operator``.
    """
    if not hasattr(operator, "objective"):
        raise InputError(
            "preconditioned needs an operator of an objective",
            got=type(operator).__name__,
            why="the optimizer's moments belong to the objective's parameters",
            fix="pass for example Hessian(objective)",
        )
    by = preconditioner(optimizer, operator.objective.parameters, operator.space)
    return Preconditioned(operator, by)
