"""The selected parameters as one flat vector: names, shapes, selection, and dots in float64."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch

from landscape.errors import InputError

Tensor = TypeVar("Tensor", bound=torch.Tensor)
Selection = str | re.Pattern[str] | Callable[[str, torch.Tensor], bool] | Iterable[str] | None


@dataclass(frozen=True)
class Space:
    """Names, shapes and place of the parameters that a flat vector of length ``n`` stands for.

    Vectors are float64 when a parameter is, else float32: half-precision models get float32 vectors.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    device: torch.device
    whole: ClassVar[bool] = True  # false where a vector is one process's part of it

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Space:
        """Return the space that ``tensors`` span."""
        values = list(tensors.values())
        return cls(tuple(tensors), tuple(t.shape for t in values), tuple(t.dtype for t in values), values[0].device)

    @cached_property
    def sizes(self) -> list[int]:
        """Numbers of entries, parameter by parameter."""
        return [math.prod(shape) for shape in self.shapes]

    @cached_property
    def n(self) -> int:
        """The length of a flat vector."""
        return sum(self.sizes)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of flat vectors."""
        return torch.float64 if torch.float64 in self.dtypes else torch.float32

    @cached_property
    def coarsest(self) -> torch.dtype:
        """The parameters' dtype with the fewest digits: what limits how well derivatives are known."""
        return max(self.dtypes, key=lambda dtype: torch.finfo(dtype).eps)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies in the flat vector."""
        ends = torch.tensor([0, *self.sizes]).cumsum(0).tolist()
        return {name: slice(a, b) for name, a, b in zip(self.names, ends, ends[1:], strict=False)}

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return views of ``flat`` (n,), or of the rows of (k, n), in the parameters' shapes."""
        parts = zip(flat.split(self.sizes, dim=-1), self.shapes, strict=True)
        return [part.reshape((*flat.shape[:-1], *shape)) for part, shape in parts]

    def unflatten(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return views of ``flat`` (n,) by parameter name."""
        return dict(zip(self.names, self.split(flat), strict=True))

    def flatten(self, tensors: Mapping[str, torch.Tensor] | Iterable[torch.Tensor]) -> torch.Tensor:
        """Return one flat vector from tensors by name, or in order."""
        if isinstance(tensors, Mapping):
            missing = [name for name in self.names if name not in tensors]
            if missing:
                raise InputError(
                    "a vector by name must hold every selected parameter",
                    got=f"none for {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}",
                    fix="add it (zeros if it does not move), or select fewer parameters with params=",
                )
            for name, shape in zip(self.names, self.shapes, strict=True):
                if tuple(tensors[name].shape) != tuple(shape):
                    raise InputError(
                        f"a vector by name must have the parameters' shapes: {name} has shape {tuple(shape)}",
                        got=f"shape {tuple(tensors[name].shape)}",
                        fix="check which model it belongs to",
                    )
            tensors = [tensors[name] for name in self.names]
        dense = [t.to_dense() if t.is_sparse else t for t in (torch.as_tensor(t).detach() for t in tensors)]
        parts = [t.reshape(-1).to(device=self.device, dtype=self.dtype) for t in dense]
        flat = torch.cat(parts) if parts else torch.zeros(0, device=self.device, dtype=self.dtype)
        if flat.numel() != self.n:
            raise InputError(
                f"a vector must have {self.n} entries, one for each selected parameter entry",
                got=flat.numel(),
                fix="check which parameters were selected",
            )
        return flat

    def restrict(self, params: Selection) -> Space:
        """Return the space of those parameters that ``params`` selects, as in :func:`select`.

        A predicate gets tensors that have a shape and a dtype, and no values.
        """
        described = zip(self.names, self.shapes, self.dtypes, strict=True)
        named = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape, dtype in described}
        return replace(Space.of(_chosen(named, params)), device=self.device)

    def dot(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the inner product of ``u`` and ``v`` (n,), accumulated in float64."""
        return dot64(u, v)

    def norm(self, v: torch.Tensor) -> torch.Tensor:
        """Return the Euclidean length of ``v`` (n,), accumulated in float64."""
        return torch.linalg.vector_norm(v, dtype=torch.float64)


def dot64(u: torch.Tensor, v: torch.Tensor, chunk: int = 1 << 22) -> torch.Tensor:
    """Return the inner product accumulated in float64, with temporaries of ``chunk`` entries at most."""
    if u.dtype == torch.float64:
        return torch.dot(u, v)
    parts = [torch.dot(a.double(), b.double()) for a, b in zip(u.split(chunk), v.split(chunk), strict=True)]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside ``torch.compile``, ``DataParallel`` and DDP wrappers."""
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):
            model = inner
        elif isinstance(model, wrappers):
            model = model.module
        else:
            return model


def select(model: torch.nn.Module, params: Selection) -> dict[str, torch.nn.Parameter]:
    """Return the selected parameters of ``model`` by name; each tied weight once, under its first name.

    ``params`` is ``None`` (all that require a gradient), a glob (``*`` crosses dots), a compiled regular
    expression (searched), a predicate ``(name, parameter) -> bool``, or a list of globs. What it names is
    taken whether it requires a gradient or not.
    """
    named = {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    if params is None:
        chosen = {name: p for name, p in named.items() if p.requires_grad}
        if not chosen:
            raise InputError(
                "the model has no trainable parameters",
                got=f"{len(named)} parameters, none with requires_grad" if named else "no parameters at all",
                why="the loss is studied as a function of them",
                fix="set requires_grad, or name frozen ones with params=",
            )
    else:
        chosen = _chosen(named, params)
    for name, p in chosen.items():
        if p.is_complex():
            raise InputError(
                "the selected parameters must be real",
                got=f"{name} of {p.dtype}",
                why="derivatives by complex numbers are not vectors of real ones",
                fix="leave it out with params=, or make it of two real parameters with torch.view_as_complex",
            )
    return chosen


def _chosen(named: dict[str, Tensor], params: Selection) -> dict[str, Tensor]:
    """Return the tensors that ``params`` selects; all of them for ``None``."""
    keep = _predicate("*" if params is None else params)
    chosen = {name: p for name, p in named.items() if keep(name, p)}
    if not chosen:
        shown = params.pattern if isinstance(params, re.Pattern) else params
        near = difflib.get_close_matches(str(shown), named, n=3, cutoff=0.3) or list(named)[:3]
        raise InputError(
            "params= selects no parameter",
            got=repr(shown),
            why="there is nothing to differentiate by",
            fix=f"use names like {', '.join(map(repr, near))}; a glob needs a star, as in 'layer4.*'",
        )
    return chosen


def _predicate(params: Any) -> Callable[[str, torch.Tensor], bool]:
    if isinstance(params, str):
        return lambda name, _: fnmatchcase(name, params)
    if isinstance(params, re.Pattern):
        return lambda name, _: params.search(name) is not None
    if callable(params):
        return params
    patterns = list(params)
    return lambda name, _: any(fnmatchcase(name, pattern) for pattern in patterns)
