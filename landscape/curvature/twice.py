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


def _embedding(
    input: torch.Tensor,
    weight: torch.Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> torch.Tensor:
    """Return rows of ``weight``; torch's dual numbers forget that the padding is constant, and sparse ones fail."""
    if max_norm is not None or scale_grad_by_freq:
        return functional.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    rows = functional.embedding(input, weight)
    if padding_idx is None:
        return rows
    padding = input == padding_idx % weight.shape[0]
    return torch.where(padding.unsqueeze(-1), rows.detach(), rows)


def _cholesky_inverse(L: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """Return the inverse of what ``L`` is a factor of; torch's dual numbers are wrong (torch 2.13)."""
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device).expand_as(L)
    inverse = torch.linalg.solve_triangular(L.triu() if upper else L.tril(), eye, upper=upper)
    return inverse @ inverse.mT if upper else inverse.mT @ inverse


def _scatter_reduce(
    input: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """Return ``input`` with values reduced into it; torch's dual numbers of products are zero (torch 2.13)."""
    if reduce != "prod" or index.ndim == 0:
        return torch.scatter_reduce(input, dim, index, src, reduce, include_self=include_self)
    result = input if include_self else input.scatter(dim, index, 1)
    for i in range(index.shape[dim]):  # one factor for each place at a time
        place = index.narrow(dim, i, 1)
        factor = src.narrow(dim, i, 1)[tuple(slice(n) for n in place.shape)]
        result = result.scatter(dim, place, result.gather(dim, place) * factor)
    return result


def _scatter_reduce_(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return self.copy_(_scatter_reduce(self.clone(), *args, **kwargs))  # what a graph holds must stay


#: torch function -> the same in elementary operations
ELEMENTARY: dict[Any, Any] = {
    torch._weight_norm: _weight_norm,
    functional.embedding: _embedding,
    torch.cholesky_inverse: _cholesky_inverse,
    torch.Tensor.cholesky_inverse: _cholesky_inverse,
    torch.scatter_reduce: _scatter_reduce,
    torch.Tensor.scatter_reduce: _scatter_reduce,
    torch.Tensor.scatter_reduce_: _scatter_reduce_,
}

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
