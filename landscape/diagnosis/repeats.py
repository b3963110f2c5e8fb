"""What passes of a model draw and change: random numbers, and states of modules and generators."""

from __future__ import annotations

import pickle
import random
from contextlib import suppress

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as hooks

from landscape.objective import Batch, Objective
from landscape.objective.totals import Addend
from landscape.seeds import torch_states

TENSORS = ("_parameters", "_buffers", "_modules")  # of a module: passes get copies, or are asked themselves


def drawing(objective: Objective) -> list[str]:
    """Return in words who draws from torch's global generator in a forward pass: the innermost modules, or the loss."""
    found: list[str] = []
    running: list[tuple[list[torch.Tensor], int]] = []
    names = {id(module): _called(name, module) for name, module in objective.model.named_modules()}

    def enters(module: nn.Module, args: object) -> None:
        if id(module) in names:
            running.append((torch_states(objective.device), len(found)))

    def leaves(module: nn.Module, args: object, outputs: object) -> None:
        if id(module) not in names:
            return
        before, inner = running.pop()
        after = torch_states(objective.device)
        if len(found) == inner and not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            found.append(names[id(module)])

    def per_batch(batch: Batch) -> list[Addend]:
        batch.terms()
        if batch.drew() and not found:
            found.append(f"the loss function {objective.loss.name}")
        return [0.0]

    handles = [hooks.register_module_forward_pre_hook(enters), hooks.register_module_forward_hook(leaves)]
    try:
        objective.sum(per_batch, objective.point(), grad=False)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))


def changing(objective: Objective) -> list[str]:
    """Return in words what a forward pass leaves changed: generators other than torch's, and what modules keep."""
    with objective.session(grad=False), objective.batches.limited():  # reading data seeds the generators
        before = _kept(objective)
        objective.sum_within(lambda batch: [batch.terms().numerator], objective.point())
        after = _kept(objective)
    return [name for name, state in after.items() if before.get(name) != state]


def _kept(objective: Objective) -> dict[str, bytes]:
    """Return by name what passes may change and nothing puts back before the next one."""
    states = {
        "the state of Python's generator": pickle.dumps(random.getstate()),
        "the state of NumPy's generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
    }
    modules = list(objective.model.named_modules())
    if isinstance(objective.loss.criterion, nn.Module):
        modules += objective.loss.criterion.named_modules()
    for name, module in modules:
        for key, value in vars(module).items():
            with suppress(Exception):  # what has no bytes is no number, and not looked at
                if key not in TENSORS:
                    states[f"{key!r} of {_called(name, module)}"] = pickle.dumps(value)
    return states


def _called(name: str, module: nn.Module) -> str:
    return f"{type(module).__name__} {name!r}" if name else f"the model itself ({type(module).__name__})"
