"""Whether the loss is the same each time it is computed, and which module is at fault when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.utils._pytree import tree_leaves, tree_map

from landscape.errors import InputError
from landscape.objective.gradient import ValueAndGradient

if TYPE_CHECKING:
    from landscape.objective.objective import Objective
    from landscape.objective.point import Point


def check_deterministic(objective: Objective, point: Point) -> None:
    """Refuse a loss whose value or gradient of the first batch changes from one computation to the next."""
    tolerance = torch.finfo(objective.coarsest).eps ** 0.5
    # one session for both: between sessions the global generators are put back, and would draw the same again
    with objective.session(), objective.batches.limited():
        (value, weight, gradient), again = (objective.sum_within(ValueAndGradient(), point) for _ in range(2))
        same_loss = not any(_differ(a, b, tolerance) for a, b in ((value, again[0]), (weight, again[1])))
        # a gradient near zero is what rounding leaves of its parts, of which the loss tells the size
        size = tolerance * min(1.0, abs(float(value.nan_to_num())))
        if not objective.ranks.any(not same_loss or _differ(gradient, again[2], tolerance, size)):
            return
        culprit = _culprit(objective, point, tolerance, same_loss=same_loss)
    loss = (
        "the same loss and another gradient" if same_loss else f"sums of {float(value):.8g} and {float(again[0]):.8g}"
    )
    raise InputError(
        "the loss must be the same each time it is computed",
        got=f"{loss} for one batch and one set of parameters; at fault is {culprit}",
        why="each product would be of another operator",
        fix="draw random numbers from torch's global generator, which is seeded for each batch, and keep no state "
        "that forward passes change",
    )


def _differ(a: torch.Tensor, b: torch.Tensor, tolerance: float, size: float = 0.0) -> bool:
    """Whether two tensors differ by more than ``tolerance``, relative to the larger, which is ``size`` at least."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    if not (a.is_floating_point() or a.is_complex()):
        return not torch.equal(a, b)
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = (torch.nan_to_num(t.to(wide)) for t in (a, b))
    largest = max(float(a.norm()), float(b.norm()), size)
    return float((a - b).norm()) > tolerance * largest


# -- who is at fault ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """One call of a module: who called it, what went in, what came out."""

    module: nn.Module
    caller: nn.Module | None
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]


def _culprit(objective: Objective, point: Point, tolerance: float, *, same_loss: bool) -> str:
    """Return in words what gives different outputs for the same inputs."""
    with torch.no_grad():
        first, second = (_recorded(objective, point) for _ in range(2))
    names = {id(module): name for name, module in objective.model.named_modules()}
    for allowed in (tolerance, 0.0):
        if (module := _first_difference(first, second, allowed)) is not None:
            name = names.get(id(module), "")
            return f"{type(module).__name__} {name!r}" if name else f"the model's own forward ({type(module).__name__})"
    if same_loss:
        return "a backward pass: no module's outputs differ"
    return f"the loss function {objective.loss.name}: no module's outputs differ"


def _first_difference(first: list[_Call], second: list[_Call], tolerance: float) -> nn.Module | None:
    """Return the module that ended first with other outputs for the same inputs: the innermost one."""
    for a, b in zip(first, second, strict=False):
        if a.module is not b.module:
            return a.caller  # it calls other modules each time
        pairs = ((a.inputs, b.inputs), (a.outputs, b.outputs))
        inputs, outputs = (
            len(x) != len(y) or any(_differ(s, t, tolerance) for s, t in zip(x, y, strict=False)) for x, y in pairs
        )
        if outputs and not inputs:
            return a.module
    return None


def _recorded(objective: Objective, point: Point) -> list[_Call]:
    """Return the calls of the model's modules in a forward pass over the data, in the order in which they ended."""
    calls: list[_Call] = []
    with _watched(objective.model, calls):
        objective.sum_within(lambda batch: [batch.terms().numerator], point)
    return calls


@contextmanager
def _watched(model: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Record the calls of the modules of ``model`` for the block, without a hook on any of them."""
    known = {id(module) for module in model.modules()}
    running: list[tuple[nn.Module, list[torch.Tensor]]] = []

    def enters(module: nn.Module, args: Any) -> None:
        if id(module) in known:
            running.append((module, _copies(args)))

    def leaves(module: nn.Module, args: Any, outputs: Any) -> None:
        if id(module) in known:
            _, inputs = running.pop()
            calls.append(_Call(module, running[-1][0] if running else None, inputs, _copies(outputs)))

    handles = [hooks.register_module_forward_pre_hook(enters), hooks.register_module_forward_hook(leaves)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copies(values: Any) -> list[torch.Tensor]:
    """Return copies of the tensors in ``values``: later modules may work in place."""
    copies = tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else None, values)
    return [leaf for leaf in tree_leaves(copies) if leaf is not None]
