"""What each optimizer divides a gradient by, and the curvature at which its step turns unstable.

A rule is one line in ``RULES``; an optimizer of another library is known by the second moment in its state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import optim

Group = Mapping[str, Any]
State = Mapping[str, Any]


def _coupled(group: Group) -> bool:
    return not group.get("decoupled_weight_decay", False)


@dataclass(frozen=True)
class Rule:
    """What one kind of optimizer does to a gradient.

    ``denominator(group, state)`` is what the step divides the gradient by, element by element, without
    the learning rate; ``threshold(group)`` is c, the curvature of P^-1/2 H P^-1/2 at the edge, NaN where
    there is none; ``caveat(group, state)`` says in words when c does not hold yet, or why there is none;
    ``coupled(group)`` whether weight decay is part of the gradient. ``plain`` means that nothing but the
    learning rate scales a gradient.
    """

    denominator: Callable[[Group, State], torch.Tensor | float]
    threshold: Callable[[Group], float]
    caveat: Callable[[Group, State], str] = lambda group, state: ""
    coupled: Callable[[Group], bool] = _coupled
    plain: bool = False


def steps(group: Group, state: State) -> float:
    """Return the number of steps made; infinity for an optimizer that does not count them."""
    return float(state.get("step", group.get("step", math.inf)))


def _beta1(group: Group) -> float:
    """Return the decay of the first moment; NaN when the group does not say."""
    return float(group["betas"][0]) if "betas" in group else math.nan


# -- denominators -----------------------------------------------------------------------------------


def _one(group: Group, state: State) -> float:
    return 1.0


def _corrected(group: Group, state: State, key: str = "exp_avg_sq") -> torch.Tensor:
    """Return the root of the second moment, without the bias of its start, and eps."""
    key = "max_exp_avg_sq" if group.get("amsgrad") and "max_exp_avg_sq" in state else key
    beta2 = float(group["betas"][1]) if "betas" in group else 0.0
    root: torch.Tensor = (state[key].double() / (1 - beta2 ** steps(group, state))).sqrt()
    return root + float(group.get("eps", 0.0))


def _start(group: Group, state: State) -> float:
    """Return 1 - b1^t, by which the first moment is still too small."""
    return 1 - float(group["betas"][0]) ** steps(group, state) if "betas" in group else 1.0


def _adam(group: Group, state: State, key: str = "exp_avg_sq") -> torch.Tensor:
    return _start(group, state) * _corrected(group, state, key)


def _nadam(group: Group, state: State) -> torch.Tensor:
    return (1 - float(state["mu_product"])) * _corrected(group, state)


def _radam(group: Group, state: State) -> torch.Tensor | float:
    """Rectified: the second moment counts once its variance is finite, with a factor that tends to 1."""
    beta2, t = float(group["betas"][1]), steps(group, state)
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return _start(group, state)
    rectified = math.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
    below = (state["exp_avg_sq"].double().sqrt() + group["eps"]) / math.sqrt(1 - beta2**t)
    product: torch.Tensor = _start(group, state) * below / rectified
    return product


def _adamax(group: Group, state: State) -> torch.Tensor:
    largest: torch.Tensor = state["exp_inf"].double()  # eps is in it
    return _start(group, state) * largest


def _rmsprop(group: Group, state: State) -> torch.Tensor:
    second = state["square_avg"].double()
    if group.get("centered"):
        second = second - state["grad_avg"].double() ** 2
    root: torch.Tensor = second.sqrt()
    return root + float(group.get("eps", 0.0))


def _adagrad(group: Group, state: State) -> torch.Tensor:
    root: torch.Tensor = state["sum"].double().sqrt() + float(group.get("eps", 0.0))
    decay = float(group.get("lr_decay", 0.0))
    return (1 + (steps(group, state) - 1) * decay) * root if decay else root


def _adadelta(group: Group, state: State) -> torch.Tensor:
    """Return the ratio of the roots; that of the updates is the one that the next step takes."""
    ratio: torch.Tensor = (state["square_avg"].double() + group["eps"]) / (state["acc_delta"].double() + group["eps"])
    return ratio.sqrt()


# -- thresholds -------------------------------------------------------------------------------------


def _sgd_threshold(group: Group) -> float:
    b = group["momentum"]
    if b == 0:
        return 2.0
    return (2 + 2 * b) / (1 + 2 * b) if group["nesterov"] else (2 + 2 * b) / (1 - group["dampening"])


def _shrink(group: Group) -> float:
    """Return by how much of itself a step shrinks a parameter, apart from the gradient."""
    return 0.0 if _coupled(group) else float(group["lr"]) * group["weight_decay"]


def _adam_threshold(group: Group) -> float:
    b = _beta1(group)
    return (2 - _shrink(group)) * (1 + b) / (1 - b)


def _nadam_threshold(group: Group) -> float:
    return _adam_threshold(group) / (1 + 2 * _beta1(group))


def _nadam_caveat(group: Group, state: State) -> str:
    """Torch's NAdam raises its momentum μ_t towards β1 over tens of thousands of steps; c is for μ_t = β1."""
    b = _beta1(group)
    mu = b * (1 - 0.5 * 0.96 ** (steps(group, state) * group["momentum_decay"]))
    now, c = (2 - _shrink(group)) * (1 + b) / (1 + b - 2 * mu * b), _nadam_threshold(group)
    if abs(now / c - 1) < 0.01:
        return ""
    return f"NAdam's momentum is still warming up: its edge is at {now:.3g} now, and c = {c:.3g} is where it tends to"


def _heavy_ball(group: Group) -> float:
    return 2 + 2 * float(group.get("momentum", 0.0))


def _none(group: Group) -> float:
    return math.nan


def _lion_caveat(group: Group, state: State) -> str:
    return (
        "Lion steps by the sign of its momentum, however small the gradient: P holds its learning rates alone, and "
        "no curvature is the edge of its stability"
    )


#: The optimizers that are known by their class; subclasses follow their nearest listed base.
RULES: dict[type[optim.Optimizer], Rule] = {
    optim.SGD: Rule(_one, _sgd_threshold, plain=True),
    optim.Adam: Rule(_adam, _adam_threshold),
    optim.AdamW: Rule(_adam, _adam_threshold),
    optim.NAdam: Rule(_nadam, _nadam_threshold, _nadam_caveat),
    optim.RAdam: Rule(_radam, _adam_threshold),
    optim.Adamax: Rule(_adamax, _adam_threshold),
    optim.RMSprop: Rule(_rmsprop, _heavy_ball),
    optim.Adagrad: Rule(_adagrad, lambda group: 2.0),
    optim.Adadelta: Rule(_adadelta, lambda group: 2.0),
}

#: Torch has no Lion: any class of that name is one.
LION = Rule(_one, _none, _lion_caveat, coupled=lambda group: False, plain=True)

#: What is known by its state: the key of the second moment -> the family it is taken for, and that one's rule.
FAMILIES: dict[str, tuple[str, Rule]] = {
    "exp_avg_sq": ("Adam", RULES[optim.Adam]),
    "exp_avg_var": ("Adam", Rule(lambda group, state: _adam(group, state, "exp_avg_var"), _adam_threshold)),
    "exp_inf": ("Adamax", RULES[optim.Adamax]),
    "square_avg": ("RMSprop", RULES[optim.RMSprop]),
    "sum": ("Adagrad", RULES[optim.Adagrad]),
    "v": ("Adam", Rule(lambda group, state: _adam(group, state, "v"), _adam_threshold)),
}


def known() -> str:
    """Return in words what optimizers have a rule."""
    names = ", ".join(kind.__name__ for kind in RULES)
    return f"known are {names}, Lion, and after their first step those that keep one of {', '.join(FAMILIES)}"


def rule_of(optimizer: optim.Optimizer, parameters: Iterable[torch.Tensor]) -> Rule | None:
    """Return the rule of an optimizer: by its class, else by what its state holds for ``parameters``."""
    for kind in type(optimizer).__mro__:
        if kind in RULES:
            return RULES[kind]
        if "lion" in kind.__name__.lower():
            return LION
    states = [(p, optimizer.state[p]) for p in parameters if optimizer.state.get(p)]
    for key, (family, rule) in FAMILIES.items():
        if states and all(getattr(state.get(key), "shape", None) == p.shape for p, state in states):
            return _taken_for(type(optimizer).__name__, key, family, rule)
    return None


def _taken_for(name: str, key: str, family: str, rule: Rule) -> Rule:
    decoupled = name.endswith("W")

    def coupled(group: Group) -> bool:
        return not group.get("decoupled_weight_decay", decoupled)

    def threshold(group: Group) -> float:
        return rule.threshold({"weight_decay": 0.0, **group, "decoupled_weight_decay": not coupled(group)})

    def caveat(group: Group, state: State) -> str:
        words = f"{name} is taken for {family}, whose second moment it keeps ({key})"
        if math.isnan(rule.threshold({"weight_decay": 0.0, **group})):
            words += "; its momentum is not known, so there is no threshold"
        if group.get("weight_decay"):
            words += f"; its weight decay is taken as {'part of the gradient' if coupled(group) else 'decoupled'}"
        return words

    return replace(rule, threshold=threshold, caveat=caveat, coupled=coupled)
