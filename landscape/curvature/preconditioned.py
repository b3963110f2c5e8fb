"""Curvature as an optimizer feels it: P^-1/2 H P^-1/2, and the value at which its step turns unstable.

The learning rates, per parameter group, are inside P, so one number describes every optimizer:
ρ = λ_max(P^-1/2 H P^-1/2) / c, with the edge of stability at 1 (Cohen et al. 2021, arXiv:2103.00065;
Cohen et al. 2022, arXiv:2207.14484).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import optim

from landscape.curvature.algebra.arithmetic import Combination, Composite, Identity, check_square, name_of
from landscape.curvature.algebra.blocks import BlockDiagonal
from landscape.curvature.algebra.restriction import Deflated, Restricted
from landscape.curvature.fisher import Fisher, GradientCovariance
from landscape.curvature.operator import LinearOperator
from landscape.curvature.optimizers import known, rule_of, steps
from landscape.errors import InputError
from landscape.objective.sharded import local
from landscape.space import Space


@dataclass(frozen=True)
class Preconditioner:
    """An optimizer's P at one moment, over a space.

    ``scale`` (n,) is P^-1/2, zero where the optimizer does not move the parameter; ``decay`` (n,) is the
    weight decay that is part of the gradient; ``c`` the threshold, NaN where there is none; ``rate`` the
    learning rate when P is 1/rate times the identity, else NaN; ``note`` says in words where the threshold is
    not exact, or why there is none.
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
    kind = type(optimizer).__name__
    rule = rule_of(optimizer, parameters.values())
    if rule is None:
        raise InputError(
            "no stability threshold is known for this optimizer",
            got=kind,
            why="its step is not a preconditioned gradient that the theory covers",
            fix=f"read the raw sharpness instead; {known()}",
        )
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    scale = torch.zeros(space.n, dtype=space.dtype, device=space.device)
    decay = torch.zeros_like(scale)
    thresholds, rates, notes = set(), set(), set()
    stepped = {name: _stepped(optimizer, p, groups.get(id(p), {})) for name, p in parameters.items()}
    for (name, p), part, shift in zip(parameters.items(), space.split(scale), space.split(decay), strict=True):
        group = groups.get(id(p))
        if group is None:
            rates.add(0.0)
            continue
        if group.get("maximize"):
            raise InputError("an optimizer that maximises has no edge of stability", got="maximize=True",
                             fix="minimise the negative instead")  # fmt: skip
        if not (rule.plain or stepped[name]):
            if any(stepped.values()):
                rates.add(0.0)  # it never had a gradient, so the optimizer has not moved it
                continue
            raise InputError("the optimizer has made no step yet", got=f"no state for {name}",
                             why="its preconditioner comes from the gradients it has seen",
                             fix="ask again after the first step")  # fmt: skip
        rate, state = float(group["lr"]), optimizer.state.get(p, {})
        below = local(torch.as_tensor(rule.denominator(group, state), dtype=torch.float64)).to(space.device)
        root = (rate / below).sqrt()
        if not bool(torch.isfinite(root).all()):
            raise InputError("the optimizer divides by zero or by NaN", got=f"its second moment for {name}",
                             why="its step is not finite there", fix="pass it a larger eps")  # fmt: skip
        part.copy_(root)
        shift.fill_(float(group.get("weight_decay", 0.0)) if rule.coupled(group) else 0.0)
        thresholds.add(rule.threshold(group))
        notes.add(rule.caveat(group, state))
        rates.add(rate)
    if not thresholds:
        raise InputError("the optimizer moves none of the selected parameters", got=kind,
                         fix="pass the optimizer that trains this model, or select other parameters")  # fmt: skip
    c = math.nan if any(map(math.isnan, thresholds)) else min(thresholds)
    if len(thresholds) > 1 and not math.isnan(c):
        notes.add("momentum or decay differs between parameter groups: the smallest threshold is used")
    single = rule.plain and len(rates) == 1
    return Preconditioner(scale, decay, c, rates.pop() if single else math.nan, kind, "; ".join(sorted(notes - {""})))


def _stepped(optimizer: optim.Optimizer, parameter: torch.Tensor, group: Mapping[str, Any]) -> bool:
    state = optimizer.state.get(parameter, {})
    return bool(state) and steps(group, state) > 0


class Preconditioned(Composite):
    """P^-1/2 (A + decay) P^-1/2 for an operator A, with the eigenvalues of P^-1 (A + decay).

    The weight decay that is part of the gradient counts as often as A holds the curvature of a loss: once in a
    Hessian, and not at all in the difference of two, or in the covariance of gradients.
    """

    def __init__(self, operator: LinearOperator, by: Preconditioner) -> None:
        super().__init__([operator], operator.space)
        self.operator, self.by = operator, by
        self._decay = _losses(operator) * by.decay[:, None]
        if bool(self._decay.any()) and (penalties := _penalties(operator)):
            both = f"the objective's {' and '.join(sorted(penalties))} counts beside the optimizer's own weight decay"
            self.by = replace(by, note="; ".join(note for note in (by.note, both) if note))
        self.symmetric = operator.symmetric
        self.psd = operator.psd and bool((self._decay >= 0).all())

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        inner = self.by.scale[:, None] * block
        product: torch.Tensor = self.operator @ inner
        return self.by.scale[:, None] * (product + self._decay * inner)

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        inner = self.by.scale[:, None] * block
        product: torch.Tensor = self.operator.rmatmat(inner)
        return self.by.scale[:, None] * (product + self._decay * inner)

    def words(self) -> str:
        """Return the part's name between two roots."""
        return f"P^-1/2 {name_of(self.operator)} P^-1/2"

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is, and the optimizer whose P it uses."""
        note = {"optimizer note": self.by.note} if self.by.note else {}
        return {**super().provenance(), "optimizer": self.by.optimizer, **note}


def _losses(operator: LinearOperator) -> float:
    """Return how often an operator holds the curvature of a loss."""
    if isinstance(operator, Combination):
        return sum(c * _losses(part) for c, part in operator.terms)
    if isinstance(operator, Restricted | Deflated | BlockDiagonal):
        return _losses(operator.parts[0])
    return 0.0 if isinstance(operator, Composite | Identity | GradientCovariance) else 1.0


def _penalties(operator: LinearOperator) -> set[str]:
    """Return the names of the regularizers whose curvature an operator holds."""
    if isinstance(operator, Composite):
        return {name for part in operator.parts for name in _penalties(part)}
    if isinstance(operator, Fisher | GradientCovariance):
        return set()
    return {o.regularizer.name for o in operator.objectives if o.regularizer is not None}


def preconditioned(operator: Any, optimizer: optim.Optimizer) -> Preconditioned:
    """Return P^-1/2 A P^-1/2 with the optimizer's present second moments and learning rates in P.

    Parameters
    ----------
    operator : LinearOperator
        An operator on the parameters of an objective that ``optimizer`` trains: a Hessian, a GGN, or one made
        of them, such as ``H.restrict("layer4.*")`` or ``H_a - H_b``.
    optimizer : torch.optim.Optimizer
        SGD (momentum, Nesterov, dampening), RMSprop, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta;
        a class named Lion, for which P holds the learning rates alone and there is no threshold; any other one
        whose state holds a second moment under a usual name (``exp_avg_sq``, ``square_avg``, ``sum``, ...),
        which is taken for the family it resembles, as ``by.note`` says.

    Notes
    -----
    The largest eigenvalue over ``by.c`` is ρ, with the edge of stability at 1; where ``by.c`` is NaN the
    operator is right and there is no edge to compare it with. A regularizer of the objective and the optimizer's
    weight decay both count, as in training with both; ``by.note`` says so. A product costs one of ``operator``.
    """
    objectives = getattr(operator, "objectives", ())
    if not objectives:
        raise InputError(
            "preconditioned needs an operator of an objective",
            got=type(operator).__name__,
            why="the optimizer's moments belong to the objective's parameters",
            fix="pass for example Hessian(objective)",
        )
    check_square(operator, "preconditioned")
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    models = [objective.parameters for objective in objectives]
    everything = next((model for model in models if any(id(p) in trained for p in model.values())), models[0])
    if not set(operator.space.names) <= everything.keys():
        raise InputError("preconditioned needs an operator on the parameters", got=name_of(operator),
                         fix="pass for example Hessian(objective)")  # fmt: skip
    parameters = {name: everything[name] for name in operator.space.names}
    return Preconditioned(operator, preconditioner(optimizer, parameters, operator.space))
