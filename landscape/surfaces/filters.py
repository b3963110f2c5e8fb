"""What a filter is, layer type by layer type: the unit that filter normalisation rescales.

Li et al. 2018 (arXiv:1712.09913): every filter of a direction gets the norm of the same filter of the
parameters; biases and normalisation parameters do not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError


def _rows(tensor: torch.Tensor, module: Any) -> torch.Tensor:
    """One filter per entry of dimension 0: an output neuron's fan-in, an output channel, an embedding."""
    return tensor.flatten(1)


def _transposed(tensor: torch.Tensor, module: Any) -> torch.Tensor:
    """Transposed convolutions keep their output channels on dimension 1, group by group."""
    grouped = tensor.unflatten(0, (module.groups, -1))  # (groups, in / groups, out / groups, *kernel)
    return grouped.transpose(1, 2).flatten(0, 1).flatten(1)


def _last(tensor: torch.Tensor, module: Any) -> torch.Tensor:
    """One filter per vector along the last dimension: positions and tokens of bare parameters."""
    return tensor.flatten(0, -2)


def _still(tensor: torch.Tensor, module: Any) -> None:
    """Normalisation parameters do not move."""
    return


Filters = Callable[[torch.Tensor, Any], torch.Tensor | None]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

#: layer type -> view of a parameter as (filters, entries); first match wins, bare parameters use the last.
FILTERS: list[tuple[tuple[type[nn.Module], ...], Filters]] = [
    (_NORMS, _still),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    ((nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag), _rows),
    ((nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention), _rows),
    ((nn.Module,), _last),
]


def filters(model: nn.Module, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return ``tensor``, shaped like parameter ``name``, as (filters, entries); ``None`` if it must not move.

    The result shares memory with ``tensor`` wherever a view can.
    """
    module = model.get_submodule(name.rpartition(".")[0])
    if tensor.ndim < 2:
        return None
    view = next(view for kinds, view in FILTERS if isinstance(module, kinds))
    return view(tensor, module)


def _by_filter(model: nn.Module, name: str, d: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    grouped, reference = filters(model, name, d), filters(model, name, theta)
    if grouped is None or reference is None:
        return torch.zeros_like(d)
    factor = reference.norm(dim=1) / grouped.norm(dim=1).clamp_min(torch.finfo(d.dtype).tiny)
    # the same view of a tensor of row numbers spreads the factors back, whatever the view permutes
    rows = torch.empty(d.shape, dtype=torch.long, device=d.device)
    entries = torch.arange(d.numel(), device=d.device).view(d.shape)
    order = filters(model, name, entries)
    assert order is not None
    rows.view(-1)[order.reshape(-1)] = torch.arange(len(factor), device=d.device).repeat_interleave(order.shape[1])
    return d * factor[rows]


def _by_layer(model: nn.Module, name: str, d: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    if filters(model, name, d) is None:
        return torch.zeros_like(d)
    return d * (theta.norm() / d.norm().clamp_min(torch.finfo(d.dtype).tiny))


def _not_at_all(model: nn.Module, name: str, d: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    return d


#: name -> (model, parameter name, direction, parameter) -> rescaled direction
NORMALIZATIONS: dict[str, Callable[[nn.Module, str, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "filter": _by_filter,
    "layer": _by_layer,
    "none": _not_at_all,
}


def normalization(name: str) -> Callable[[nn.Module, str, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the normalisation called ``name``."""
    if name not in NORMALIZATIONS:
        raise InputError("there is no such normalisation", got=name, fix=f"use one of {', '.join(NORMALIZATIONS)}")
    return NORMALIZATIONS[name]
