"""Models that ``fully_shard`` has cut over processes: a vector is the part of it that this process holds.

Their hooks gather the parameters before each forward and backward pass, free them after it, and reduce gradients
into ``.grad``. No other tensors can stand in for such parameters, and the gradient has no graph. So a point is
copied into the shards themselves, gradients come from ``backward()``, and all is put back after the pass. All
processes of a model run their passes together, or wait for each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import distributed as dist
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from landscape.distributed import Ranks
from landscape.errors import InputError
from landscape.objective.losses.terms import Loss, Split, Terms
from landscape.objective.misfits import explained
from landscape.objective.point import Batch
from landscape.seeds import seed_torch
from landscape.space import Selection, Space

T = TypeVar("T")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor: all of it, unless it is sharded."""
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


@dataclass(frozen=True)
class ShardedSpace(Space):
    """The shards of the selected parameters; lengths and inner products are those of the whole vectors."""

    group: Any = None
    whole: ClassVar[bool] = False

    def dot(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the inner product of the vectors of which ``u`` and ``v`` (n,) are shards, in float64."""
        return self._summed(super().dot(u, v))

    def norm(self, v: torch.Tensor) -> torch.Tensor:
        """Return the Euclidean length of the vector of which ``v`` (n,) is a shard, in float64."""
        return self._summed(super().norm(v).square()).sqrt()

    def _summed(self, number: torch.Tensor) -> torch.Tensor:
        total = number.clone()
        dist.all_reduce(total, group=self.group)
        return total

    def flatten(self, tensors: Any) -> torch.Tensor:
        """Return one flat vector from the shards of tensors by name, or in order."""
        if isinstance(tensors, Mapping):
            return super().flatten({name: local(t) for name, t in tensors.items()})
        return super().flatten([local(torch.as_tensor(t).detach()) for t in tensors])

    def restrict(self, params: Selection) -> Space:
        """Return the space of those parameters that ``params`` selects."""
        part = super().restrict(params)
        return ShardedSpace(part.names, part.shapes, part.dtypes, part.device, self.group)


class ShardedRanks(Ranks):
    """The processes of a sharded model, whose backward passes sum vectors over them.

    They wait for each other inside each pass, so a failure of one cannot be told to the others after it.
    """

    def sum(self, compute: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
        """Return what ``compute`` returns, numbers summed over all processes."""
        return [total if total.ndim else self._summed(total) for total in compute()]

    def together(self) -> Any:
        """Let exceptions through as they are."""
        return nullcontext()


class Shards:
    """The parameters of a model that ``fully_shard`` has cut; lent to points for the time of a pass."""

    def __init__(self, model: nn.Module, parts: Sequence[Any]) -> None:
        self._parts = parts
        self._reshard()
        self.parameters: dict[str, Any] = dict(model.named_parameters())
        cut = {name: p for name, p in self.parameters.items() if hasattr(p, "to_local")}
        meshes = [p.device_mesh for p in cut.values()]
        sharded = all(mesh == meshes[0] and mesh.ndim == 1 for mesh in meshes) and all(
            p.placements[0].is_shard() and p.device.type == mesh.device_type
            for p, mesh in zip(cut.values(), meshes, strict=True)
        )
        if not parts or not cut or not sharded:
            raise InputError(
                "a model with sharded parameters must be cut by fully_shard, over one line of processes",
                got="tensor-parallel, replicated or offloaded parameters" if cut else "no parameter that is cut",
                why="only then does a gradient lie where its parameter does",
                fix="use fully_shard(model) with a one-dimensional mesh and without CPU offloading",
            )
        self.group = meshes[0].get_group()
        self.model = model

    def space(self, selected: Mapping[str, nn.Parameter]) -> ShardedSpace:
        """Return the space of the shards of ``selected``, in the precision in which passes see them."""
        for name, p in selected.items():
            if not hasattr(p, "to_local") or not p.requires_grad:
                raise InputError(
                    "the selected parameters of a sharded model must be sharded and require a gradient",
                    got=f"{name!r}, which {'is frozen' if hasattr(p, 'to_local') else 'is not sharded'}",
                    why="its hooks reduce no other gradients",
                    fix="call fully_shard on the model itself, after its parts, and leave frozen parameters out",
                )
        seen = {id(p.sharded_param): p.mp_policy.param_dtype for group in self._groups() for p in group.fsdp_params}
        shards = {name: local(p.detach()) for name, p in selected.items()}
        dtypes = tuple(seen.get(id(p)) or p.dtype for p in selected.values())
        shapes = tuple(t.shape for t in shards.values())
        return ShardedSpace(tuple(shards), shapes, dtypes, next(iter(shards.values())).device, self.group)

    def ranks(self, group: Any, device: torch.device) -> ShardedRanks:
        """Return the processes of the model, which must be ``group`` if that is given."""
        own = ShardedRanks(self.group, device)
        if group is not None:
            given = Ranks(group, device)
            if dist.get_process_group_ranks(given.group) != dist.get_process_group_ranks(self.group):
                raise InputError(
                    "the data of a sharded model are shared by the processes that share the model",
                    got="another group",
                    fix="leave group= out",
                )
        return own

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let :meth:`put` and :meth:`gradients` write into the model for the block, and put everything back."""
        self._check_idle()
        self._reshard()
        with torch.no_grad():
            kept = [(p, local(p).clone(), p.grad, p._post_accumulate_grad_hooks) for p in self.parameters.values()]
        for p, *_ in kept:
            p.grad, p._post_accumulate_grad_hooks = None, None  # an optimizer may step in such a hook
        try:
            yield
        finally:
            self._settle()
            for p, values, grad, hooks in kept:
                _write(p, values)
                p.grad, p._post_accumulate_grad_hooks = grad, hooks

    def put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the shards of a point into the model."""
        self._reshard()  # what is gathered already would be used as it is
        for name, values in tensors.items():
            _write(self.parameters[name], values)

    def gradients(self, names: Sequence[str]) -> list[torch.Tensor]:
        """Take the gradients of the last backward pass, shard by shard, summed over processes; zero without one."""
        count = dist.get_world_size(self.group)
        with torch.no_grad():
            found = [
                torch.zeros_like(local(p)) if p.grad is None else local(p.grad) * count  # an average, by fully_shard
                for p in (self.parameters[name] for name in names)
            ]
        for p in self.parameters.values():
            p.grad = None
        return found

    # -- what only the hooks' own state tells -------------------------------------------------------------

    def _reshard(self) -> None:
        for part in self._parts:
            part.reshard()

    def _settle(self) -> None:
        """Leave no pass half done: after an exception, or forward passes without a backward pass."""
        for part in self._parts:
            if hasattr(part, "reset_iter_state") and part._get_fsdp_state()._is_root:
                part.reset_iter_state()
        self._reshard()

    def _groups(self) -> Iterator[Any]:
        for part in self._parts:
            state = part._get_fsdp_state()
            several = getattr(state, "_fsdp_param_groups", None)
            yield from (g for g in (several or [state._fsdp_param_group]) if g is not None)

    def _check_idle(self) -> None:
        """Refuse a model whose next backward pass would not give its gradient's average, or keeps an earlier one."""
        for group in self._groups():
            held = any(
                p.unsharded_accumulated_grad is not None
                or (hasattr(p, "_unsharded_param") and p._unsharded_param.grad is not None)
                for p in group.fsdp_params
            )
            own = getattr(group, "gradient_divide_factor", None) is not None or getattr(group, "_all_reduce_hook", None)
            if held or own or not (group.reduce_grads and group.all_reduce_grads):
                raise InputError(
                    "backward passes of a sharded model must average gradients over its processes",
                    got="gradients that are accumulated without being reduced" if not own
                    else "a divide factor or an all-reduce hook of its own",
                    why="derivatives are read from them",
                    fix="ask between steps, after set_requires_gradient_sync(True)" if not own
                    else "leave set_gradient_divide_factor and set_all_reduce_hook out",
                )  # fmt: skip


def shards_of(model: nn.Module) -> Shards | None:
    """Return the shards of a model that is sharded; ``None`` for all others."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # who has not imported it has no such model
    parts: list[Any] = [] if fsdp is None else [m for m in model.modules() if isinstance(m, fsdp.FSDPModule)]
    if fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules()):
        raise InputError(
            "a sharded model must be cut by fully_shard",
            got="FullyShardedDataParallel",
            why="its parameters are pieces of flat tensors",
            fix="use torch.distributed.fsdp.fully_shard",
        )
    if not parts and not any(hasattr(p, "to_local") for p in model.parameters()):
        return None
    return Shards(model, parts)


def refuse_options(device: Any, dtype: Any, regularizer: Any, first: torch.Tensor) -> None:
    """Refuse the objective's options that need whole parameters, ``first`` being one of them."""
    moved = device is not None and torch.device(device).type != first.device.type
    options = {"device=": device if moved else None, "dtype=": dtype, "regularizer=": regularizer}
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name} cannot be used with a sharded model",
                got=value,
                why="each process holds its own shard of the parameters only, and passes run on it where it is",
                fix="leave it out, or change the model before fully_shard",
            )


def refuse_shards(space: Space, what: str) -> None:
    """Refuse ``what`` where a vector is a shard."""
    if not space.whole:
        raise InputError(
            f"{what} needs whole vectors",
            got="a sharded model, of whose vectors each process holds its part",
            fix="multiply by vectors, or use a model that is not sharded",
        )


@dataclass(frozen=True)
class ShardedBatch(Batch):
    """A batch of a sharded model; ``counts`` is false where it only keeps other processes from waiting."""

    shards: Any = None

    def terms(self, leaves: Sequence[torch.Tensor] | None = None, data: Any = None) -> Terms:
        """Return the loss terms at ``leaves``, with a graph to the model's own parameters."""
        outputs: list[torch.Tensor] = []

        def watch(model: nn.Module, args: Any, returned: Any) -> None:
            outputs.extend(t for t in tree_leaves(returned) if isinstance(t, torch.Tensor) and t.requires_grad)

        handle = self.shards.model.register_forward_hook(watch)
        try:
            terms = super().terms(leaves, data)
        finally:
            handle.remove()
        if not self.counts:
            terms = replace(terms, numerator=_nothing(terms.numerator), weight=0.0)
        if torch.is_grad_enabled() and not terms.numerator.requires_grad and float(terms.weight) == 0:
            # it counts nothing here, but others wait for a backward pass
            terms = replace(terms, numerator=sum((_nothing(t) for t in outputs), terms.numerator))
        return terms

    def split(self, leaves: Sequence[torch.Tensor] | None = None, data: Any = None) -> Split:
        """Refuse: no derivative by the parameters can be taken of the outputs."""
        raise InputError(
            "the curvature at a model's outputs cannot be had of a sharded model",
            got="parameters that fully_shard has cut",
            why="its hooks allow no products with the Jacobian",
            fix="use ls.Hessian(objective), by central differences, or a model that is not sharded",
        )

    def gradient(
        self, terms: Terms, leaves: Sequence[torch.Tensor], *, create_graph: bool = False
    ) -> list[torch.Tensor] | None:
        """Return this process's shards of the derivatives of all processes' numerators, without a graph."""
        if create_graph or not terms.numerator.requires_grad:
            return None
        with explained(self.data, self._dtypes):
            terms.numerator.backward()
        return self.shards.gradients(self.space.names)

    def _ask(self, values: Sequence[torch.Tensor], ask: Callable[[Loss, nn.Module], T]) -> T:
        self.shards.put({**self.point.fixed, **dict(zip(self.space.names, values, strict=True))})
        buffers = {f"model.{name}": t.clone() for name, t in self.point.buffers.items()}
        seed_torch(self._seed, self.index)
        with explained(self.data, self._dtypes):
            answer: T = functional_call(self._bound, buffers, (ask,))
        return answer


def _nothing(tensor: torch.Tensor) -> torch.Tensor:
    """Return 0 with a graph to ``tensor`` in which every derivative is 0, also where it is not finite."""
    return tensor.masked_fill(torch.ones((), dtype=torch.bool, device=tensor.device), 0).sum()


@torch.no_grad()
def _write(p: nn.Parameter, values: torch.Tensor) -> None:
    """Copy ``values`` into the shard of a parameter, and leave its version as it was."""
    shard = local(p)
    if shard.data_ptr() != values.data_ptr() or values.dtype != shard.dtype:
        with torch.autograd._unsafe_preserve_version_counter(shard):
            shard.copy_(values)
