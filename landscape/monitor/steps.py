"""What every step gives, collected on the device and brought to the host now and then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn, optim

FLUSH = 64  # steps between two transfers to the host


class StepRecorder:
    """Loss, learning rate, gradient norm and update-to-weight ratio of each optimizer step.

    Everything stays a 0-d tensor on the device until :meth:`flush`, so a step costs no synchronisation.
    Memory: one copy of the optimizer's parameters.
    """

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._parameters: list[torch.Tensor] = []
        self._before: list[torch.Tensor] = []
        self._follow()
        self._losses: list[torch.Tensor] = []
        self._extra: dict[str, Any] = {}
        self._current: dict[str, Any] = {}
        self._pending: list[tuple[int, dict[str, Any]]] = []

    def saw_loss(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the training loss; a forward hook on the criterion. Validation under ``no_grad`` is not one."""
        if isinstance(output, torch.Tensor) and output.requires_grad and output.numel() == 1:
            self._losses.append(output.detach().reshape(()).clone())  # the loop may divide it in place

    def log(self, values: dict[str, Any]) -> None:
        """Add numbers (floats, or 0-d tensors of our own) to the step that comes next."""
        self._extra |= values

    def _follow(self) -> None:
        """Watch the parameters that the optimizer has by now: groups may be added, and parameters replaced."""
        now = [p for group in self._optimizer.param_groups for p in group["params"]]
        if len(now) != len(self._parameters) or any(a is not b for a, b in zip(now, self._parameters, strict=True)):
            known = {id(p): copy for p, copy in zip(self._parameters, self._before, strict=True)}
            self._before = [
                known[id(p)] if id(p) in known else torch.empty_like(p, memory_format=torch.preserve_format)
                for p in now
            ]
            self._parameters = now

    @torch.no_grad()
    def before(self) -> None:
        """Take the gradient norm and a copy of the parameters; a pre-hook of the optimizer's step."""
        self._follow()
        gradients = [_dense(p.grad) for p in self._parameters if p.grad is not None]
        self._current = {"gradient_norm": _norm(gradients)} if gradients else {}
        for i, group in enumerate(self._optimizer.param_groups):
            rate = group["lr"]
            self._current["lr" if i == 0 else f"lr_{i}"] = rate.detach().clone() if torch.is_tensor(rate) else rate
        torch._foreach_copy_(self._before, self._parameters)

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Take the update and the losses seen since the last step; a post-hook of the optimizer's step."""
        moved = torch._foreach_sub(self._parameters, self._before)
        self._current["update_ratio"] = _norm(list(moved)) / _norm(self._before)
        if self._losses:
            self._current["loss"] = torch.stack(self._losses).mean() if len(self._losses) > 1 else self._losses[0]
        self._current |= self._extra
        self._pending.append((step, self._current))
        self._losses, self._extra, self._current = [], {}, {}

    @property
    def due(self) -> bool:
        """Whether enough steps have been collected for a transfer."""
        return len(self._pending) >= FLUSH

    def flush(self) -> list[dict[str, Any]]:
        """Bring everything collected to the host in one transfer and return it as log lines."""
        places = [(i, name, v) for i, (_, values) in enumerate(self._pending) for name, v in values.items()]
        on_device = [(i, name, v.detach()) for i, name, v in places if torch.is_tensor(v)]
        lines: list[dict[str, Any]] = [
            {"step": step, "values": {name: v for name, v in values.items() if not torch.is_tensor(v)}}
            for step, values in self._pending
        ]
        if on_device:
            device = on_device[0][2].device
            stacked = torch.stack([v.reshape(()).to(device=device, dtype=torch.float64) for _, _, v in on_device])
            for (i, name, _), value in zip(on_device, stacked.cpu().tolist(), strict=True):
                lines[i]["values"][name] = value
        self._pending = []
        return lines


class Hook:
    """A hook that belongs to one run: copied or pickled with its module, it does nothing."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        """Pass on what the hook was called with."""
        self._call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")  # takes anything and returns None, and needs nothing of ours


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the norm over all tensors, on the device of the first."""
    parts = torch._foreach_norm(tensors)
    return torch.stack([part.to(device=parts[0].device, dtype=torch.float32) for part in parts]).norm()
