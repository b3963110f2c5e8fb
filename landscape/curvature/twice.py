"""Torch functions whose second derivative is missing or wrong, and the forms that stand in for them."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Return g v / |v|; torch's fused kernel has a wrong second derivative (``gradgradcheck`` fails, torch 2.13)."""
    rest = [i for i in range(v.ndim) if i != dim % v.ndim] if dim != -1 else list(range(v.ndim))
    length = torch.linalg.vector_norm(v, dim=rest, keepdim=True) if rest else v.abs()
    return v * (g / length)


#: torch function -> the same in elementary operations
ELEMENTARY = {torch._weight_norm: _weight_norm}

# a mode does not see what functions that are written in Python call
_ATTENTION = {functional.scaled_dot_product_attention, functional.multi_head_attention_forward}


class Twice(TorchFunctionMode):
    """Inside the block, the loss is written in functions that can be differentiated twice.

    Attributes
    ----------
    attention : bool
        Whether scaled-dot-product attention was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.attention = self.attention or func in _ATTENTION
        return ELEMENTARY.get(func, func)(*args, **(kwargs or {}))
