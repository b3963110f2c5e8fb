"""Whether something left everything as it was, to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import data as torch_data

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def _bytes(t: torch.Tensor) -> bytes:
    return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _state(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _bytes(value)
    if isinstance(value, dict):
        return {key: _state(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_state(item) for item in value]
    return value


def snapshot(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loader: torch_data.DataLoader[Any] | None = None,
) -> dict[str, Any]:
    """Return everything that a question about a model must not change, as comparable values."""
    name, keys, position, *rest = np.random.get_state()  # noqa: NPY002
    found: dict[str, Any] = {
        "rng torch": _bytes(torch.get_rng_state()),
        "rng numpy": (name, keys.tobytes(), position, *rest),
        "rng python": random.getstate(),
        "grad enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "attention kernels": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
        ),
    }
    if model is not None:
        for key, p in model.named_parameters(remove_duplicate=False):
            found[f"parameter {key}"] = (id(p), p.data_ptr(), _bytes(p), p.requires_grad, p.dtype)
            found[f"version {key}"] = p._version
            found[f"grad {key}"] = None if p.grad is None else (id(p.grad), _bytes(p.grad))
            found[f"hooks {key}"] = (
                len(p._backward_hooks or {}),
                len(getattr(p, "_post_accumulate_grad_hooks", None) or {}),
            )
        for key, b in model.named_buffers(remove_duplicate=False):
            found[f"buffer {key}"] = (id(b), b.data_ptr(), _bytes(b), b._version)
        for key, module in model.named_modules():
            found[f"training {key}"] = module.training
            found[f"module hooks {key}"] = [len(getattr(module, hooks)) for hooks in _HOOKS]
            found[f"attributes {key}"] = sorted(module.__dict__)
    if optimizer is not None:
        found["optimizer"] = _state(optimizer.state_dict())
        found["optimizer state"] = len(optimizer.state)
    if loader is not None:
        places = [loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
        for i, place in enumerate(places):
            generator = getattr(place, "generator", None)
            if generator is not None:
                found[f"generator {i}"] = (id(generator), _bytes(generator.get_state()))
    return found


@contextmanager
def harmless(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loader: torch_data.DataLoader[Any] | None = None,
) -> Iterator[None]:
    """Assert that the block leaves all of it bit-identical, whether it succeeds or raises."""
    before = snapshot(model, optimizer, loader)
    try:
        yield
    finally:
        after = snapshot(model, optimizer, loader)
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        assert not changed, f"changed: {', '.join(sorted(changed))}"
