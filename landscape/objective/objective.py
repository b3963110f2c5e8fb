"""THE description of the loss: model, loss, data, selected parameters and mode make one weighted mean."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from landscape.distributed import Ranks
from landscape.errors import InputError
from landscape.objective.batches import Batches
from landscape.objective.classes import by_class
from landscape.objective.cost import CostEstimate, estimate
from landscape.objective.determinism import check_deterministic
from landscape.objective.gradient import ValueAndGradient
from landscape.objective.losses import CriterionLoss, as_loss
from landscape.objective.marks import Marks
from landscape.objective.metrics import metrics_named
from landscape.objective.pieces import Pieces
from landscape.objective.point import Batch, BoundLoss, Point, by_name
from landscape.objective.refusals import (
    counted,
    finite,
    refuse_constant,
    refuse_lazy,
    same_size,
    same_space,
    still_there,
)
from landscape.objective.regularizer import as_regularizer
from landscape.objective.sampling import chosen
from landscape.objective.session import in_mode, math_attention_only, plain_passes
from landscape.objective.sharded import ShardedBatch, local, refuse_options, shards_of
from landscape.objective.share import WHOLE, Share, refuse_shared, shared
from landscape.objective.sources import batch_size
from landscape.objective.totals import Addend, Totals
from landscape.objective.words import provenance, shown
from landscape.seeds import check_seed
from landscape.space import Selection, Space, select, unwrap


class Objective:
    """A loss over data as a function of the selected parameters.

    The value is Σ_b w_b L_b / Σ_b w_b over batches b, where w_b is what the batch's mean was divided by:
    examples, elements, counted labels or the sum of their class weights. It does not depend on how the
    data are batched. Nothing here ever changes the model, its gradients, flags or buffers, or any
    random generator.

    Parameters
    ----------
    model : torch.nn.Module
        Any module; ``torch.compile``, ``DataParallel`` and DDP wrappers are taken off. Of one that
        ``fully_shard`` has cut, vectors are the shards of this process; see ``group``.
    loss : torch.nn.Module, callable or "model"
        A torch criterion over ``(inputs, *targets)`` batches with ``reduction`` mean or sum, or a
        function ``(model, batch) -> loss`` or ``-> (loss, weight)``. Without a weight the loss counts
        as a mean over the batch's examples, and all batches must have the same size. ``"model"`` is the
        loss that a Hugging Face model returns for a dictionary with ``labels``, weighted by its counted
        labels. A criterion's inputs that are a tuple, list or mapping become arguments of the model where
        its ``forward`` takes them so.
    data : iterable of batches
        A loader, a list of batches, or a single batch (a tuple or dictionary of tensors). It is read
        in the order it gives and must give the same examples each time.
    params : str, re.Pattern, callable or list of str, optional
        Which parameters: a glob such as ``"blocks.*.attn.*"``, a regular expression, a predicate
        ``(name, parameter) -> bool``, or several globs. All that require a gradient by default.
    mode : {"eval", "train"}
        ``"eval"``: running statistics, no dropout. ``"train"``: batch statistics through copies of the
        buffers, and dropout masks that depend on ``seed`` and the batch's index only.
    seed : int
        Seeds every random choice that the loss makes.
    device, dtype : optional
        Where and in which precision to evaluate; the model's own by default. The model stays where it is.
    autocast : torch.dtype, optional
        ``torch.bfloat16`` or ``torch.float16``: forward passes run under ``torch.autocast`` with it, as in
        mixed-precision training. Off by default, also inside an autocast block of the caller.
    cache : {"auto", "device", "host", "none"}
        Where the data are held after the first pass. ``"auto"``: on the device (up to 1 GiB on a CPU, a
        quarter of a GPU's free memory), else in a quarter of the host's memory, else nowhere: each pass
        then reads them again. What is not on a GPU is copied there one batch ahead.
    regularizer : float or callable, optional
        What is added to the mean (to the sum, of a ``"sum"`` loss): a number wd adds 0.5 wd |theta|^2 over
        the selected parameters, whose gradient wd theta is SGD's weight decay; a function gets these
        parameters as a dictionary by name and returns a 0-d tensor. Nothing by default.
    group : torch.distributed.ProcessGroup, optional
        Processes that share the data: each builds the objective on the same model and its own part of the data,
        and asks the same questions in the same order. Values, gradients and products are then those of all the
        data, in every process. By default nothing is summed; the processes of a sharded model always share.

    Notes
    -----
    One value costs one forward pass over the data, one gradient a forward and a backward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        data: Any,
        *,
        params: Selection = None,
        mode: str = "eval",
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        autocast: torch.dtype | None = None,
        cache: str = "auto",
        regularizer: Any = None,
        group: Any = None,
    ) -> None:
        if mode not in ("eval", "train"):
            raise InputError("mode must be 'eval' or 'train'", got=mode, fix="pass mode='eval'")
        if autocast not in (None, torch.bfloat16, torch.float16):
            raise InputError("autocast must be a 16-bit dtype", got=autocast, fix="pass autocast=torch.bfloat16")
        self.model = unwrap(model)
        self.shards = shards_of(self.model)
        refuse_lazy(self.model)
        self.loss = as_loss(loss)
        self.regularizer = as_regularizer(regularizer)
        self.mode = mode
        self.seed = check_seed(seed)
        selected = select(self.model, params)
        self.selection = "all that require a gradient" if params is None else str(params)
        first = next(iter(selected.values()))
        self._dtype, self.autocast = dtype, autocast
        self.device = torch.device(device) if device is not None else first.device
        if self.shards is None:
            self.space = Space.of({name: self._placed(p.detach()) for name, p in selected.items()})
            self.ranks = Ranks(group, self.device)
        else:
            refuse_options(device, dtype, regularizer, first)
            self.space, self.ranks = self.shards.space(selected), self.shards.ranks(group, self.device)
        self._batch: Callable[..., Batch] = Batch if self.shards is None else partial(ShardedBatch, shards=self.shards)
        self.share: Share = WHOLE
        self.batches = Batches(data, self.device, dtype, cache)
        self._bound = BoundLoss(self.model, self.loss, self.device, autocast)
        self.pieces = Pieces()
        self.checked: set[str] = set()  # what has been found to hold

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self._dtype if tensor.is_floating_point() else None
        return tensor.to(device=self.device, dtype=dtype)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's own selected parameters by name, as they are now."""
        if self.shards is not None:
            return {name: self.shards.parameters[name] for name in self.space.names}
        return still_there(self.space, dict(self.model.named_parameters(remove_duplicate=False)))

    @property
    def coarsest(self) -> torch.dtype:
        """The dtype with the fewest digits that passes use: what limits how well derivatives are known."""
        return self.space.coarsest if self.autocast is None else self.autocast

    # -- points ---------------------------------------------------------------------------------

    @torch.inference_mode(False)
    def point(self, at: Any = None) -> Point:
        """Return a copy of where the model is now, or of ``at`` (a flat vector or tensors by name)."""
        if isinstance(at, Point):
            return same_space(at, self.space)
        fixed: dict[str, torch.Tensor] = {}
        for name, p in self.model.named_parameters() if self.shards is None else self.shards.parameters.items():
            if name not in self.space.slices:
                fixed[name] = self._placed(local(p.detach().clone() if p.requires_grad else p.detach()))
        buffers = {name: self._placed(b.detach().clone()) for name, b in self.model.named_buffers()}
        named = {} if at is None else by_name(at)
        for other in (fixed, buffers):
            given = {name: local(t.detach()) for name, t in named.items() if name in other}
            other |= {name: self._placed(t.clone()) for name, t in given.items()}
        if at is None:
            vector = self.vector()
        else:
            vector = self.space.flatten(at if isinstance(at, Mapping) else [torch.as_tensor(at)])
        return Point(self.space, vector, fixed, buffers, Marks(fixed))

    @torch.inference_mode(False)
    def vector(self) -> torch.Tensor:
        """Return a copy of the selected parameters as one flat vector (n,)."""
        return self.space.flatten([p.detach() for p in self.parameters.values()])

    # -- the one pass over the data ---------------------------------------------------------------

    def sum(
        self,
        per_batch: Callable[[Batch], Sequence[Addend]],
        at: Point,
        *,
        grad: bool = True,
        math_attention: bool = False,
    ) -> list[torch.Tensor]:
        """Sum what ``per_batch`` returns over all batches, in float64.

        Everything in the package that looks at data goes through here. ``per_batch`` gets a
        :class:`Batch` and returns numbers, tensors, or vectors as lists of their parts; during the call the model
        is in the objective's mode and the random generators are ours, and all of it is put back afterwards, also
        after an exception. A batch that does not fit into memory comes in pieces, each as a :class:`Batch` with the
        index of the whole.
        """
        with self.session(grad=grad, math_attention=math_attention):
            return self.sum_within(per_batch, at)

    def sum_within(self, per_batch: Callable[[Batch], Sequence[Addend]], at: Point) -> list[torch.Tensor]:
        """Do what :meth:`sum` does, inside a :meth:`session` that is open."""
        sizes: list[int] = []
        totals = self.ranks.sum(lambda: self._sum_of_own(per_batch, at, sizes))
        if sizes:
            largest, smallest = self.ranks.largest([sizes[-1], -sizes[-1]])
            same_size(round(largest), round(-smallest))
        return totals

    def _sum_of_own(
        self, per_batch: Callable[[Batch], Sequence[Addend]], at: Point, sizes: list[int]
    ) -> list[torch.Tensor]:
        """Sum over the batches that this process reads; note the ``sizes`` of those of a loss without weights."""
        totals = Totals(self.space, self.device, several=self.batches.coming > 1)
        for batch in self.own_batches(at):
            for returned in self.pieces(per_batch, batch, self):
                totals.add(returned)
                del returned  # before the next is made
            if not getattr(self.loss, "weighted", True):
                sizes.append(same_size(batch.size, sizes[-1] if sizes else None))
        return totals.sums

    def iterate(self, at: Point) -> Iterator[Batch]:
        """Yield every batch at the point ``at``; only inside a :meth:`session`, and not of shared data."""
        refuse_shared(self, "what has a part for each example", "build an objective without group= on a whole model")
        return self.own_batches(at)

    def own_batches(self, at: Point) -> Iterator[Batch]:
        """Yield the batches that this process reads, all of them unless it shares the data; as :meth:`iterate`."""
        at.check()
        index, start = self.share.batches_before, self.share.examples_before
        waiting = 0 if self.shards is None else round(self.ranks.largest([self.batches.coming])[0])
        for data in self.batches:
            size = batch_size(data)
            batch = self._batch(index, data, size, at, self.space, self._bound, self.seed, start, self.regularizer)
            index, start, waiting = index + 1, start + size, waiting - 1
            yield batch
        for _ in range(waiting):  # for processes that have more batches
            yield replace(batch, counts=False)

    @contextmanager
    def session(self, *, grad: bool = True, math_attention: bool = False) -> Iterator[None]:
        """Put the model into the objective's mode for the block, and put everything back after it.

        ``math_attention`` uses the one attention kernel that has a second derivative.
        """
        with (
            self.batches.undisturbed(),
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            torch.autocast(self.device.type, enabled=False),
            math_attention_only if math_attention else nullcontext(),
            plain_passes,
            in_mode(self.model, train=self.mode == "train"),
            nullcontext() if self.shards is None else self.shards.lent(),
        ):
            if self.ranks.group is not None and self.share is WHOLE:
                self.share = shared(self)
            yield

    # -- questions --------------------------------------------------------------------------------

    def evaluate(self, metrics: str | Sequence[str] = ("loss",), at: Any = None) -> dict[str, torch.Tensor]:
        """Return several metrics at one point from one forward pass over the data.

        Parameters
        ----------
        metrics : str or sequence of str
            Names from ``landscape.objective.METRICS``: ``"loss"``, ``"accuracy"``, ``"error"``. Accuracy is the
            share of counted labels that the outputs name: of a cross-entropy by the largest output, of a
            binary loss by the side of the threshold, for each element of the targets. Other losses have none.
        at : Point, tensor (n,) or dict of tensors, optional
            Where; the model's present parameters by default.

        Returns
        -------
        dict of str to torch.Tensor
            0-d float64 tensors. A NaN loss stays NaN.
        """
        functions = metrics_named(metrics)

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            terms = batch.terms()
            parts = [part for f in functions.values() for part in f(terms, self.loss)]
            return parts if batch.counts else [0.0 for _ in parts]

        sums = self.sum(per_batch, self.point(at), grad=False)
        return {
            name: numerator / (self.total(weight) if name == "loss" else counted(weight))
            for name, numerator, weight in zip(functions, sums[::2], sums[1::2], strict=True)
        }

    def value(self, at: Any = None) -> torch.Tensor:
        """Return the exact weighted mean loss over all the data, a 0-d float64 tensor; one forward pass."""
        return self.evaluate(("loss",), at)["loss"]

    def gradient(self, at: Any = None) -> torch.Tensor:
        """Return the gradient of :meth:`value` as a flat vector (n,); one forward and backward pass."""
        return self.value_and_gradient(at)[1]

    def value_and_gradient(self, at: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return value (0-d, float64) and gradient (n,) from one forward and backward pass."""
        per_batch = ValueAndGradient()
        loss, weight, gradient = self.sum(per_batch, self.point(at))
        self.check_depends(per_batch.depends)
        weight = self.total(weight)
        return loss / weight, gradient.div_(weight).to(self.space.dtype)

    def total(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what summed numerators divide by, given the summed weights: 1 for a ``"sum"`` loss."""
        return torch.ones_like(weight) if self.loss.reduction == "sum" else counted(weight)

    def check_depends(self, depends: bool) -> None:
        """Refuse to differentiate a loss that has no graph to any selected parameter in any batch."""
        refuse_constant(self.ranks.any(depends))

    def check_finite(self, at: Point | None = None) -> torch.Tensor:
        """Return the value at ``at``; raise :class:`~landscape.errors.NonFiniteError` when it is not finite."""
        return finite(self.value(at))

    def subsample(self, examples: int, *, seed: int = 0) -> Objective:
        """Return the same objective over a fixed random choice of ``examples`` examples.

        The choice is a function of ``seed`` alone; all tensors of a batch must have the examples as
        leading dimension. With at least as many ``examples`` as there are, all of them stay. They come in
        batches of the largest size that the data have, so a small choice is one batch, whose graph the
        Hessian keeps.
        """
        refuse_shared(self, "a choice of examples", "choose them in each process's own data")
        with self.session(grad=False):
            batches = chosen(self.batches, examples, seed)
        return self.over(batches)

    def over(self, data: Any, *, dtype: torch.dtype | None = None) -> Objective:
        """Return the same loss over other ``data``, in another precision and without autocast if ``dtype`` is given."""
        other = copy.copy(self)
        if dtype is not None:
            other._dtype, other.autocast = dtype, None
            dtypes = tuple(dtype if d.is_floating_point else d for d in self.space.dtypes)
            other.space = replace(self.space, dtypes=dtypes)
            other._bound = BoundLoss(self.model, self.loss, self.device, None)
            other.pieces, other.checked = Pieces(), set()
        other.batches = Batches(data, self.device, other._dtype)
        return other

    def by_class(self) -> dict[int, Objective]:
        """Return for each class the same loss over its examples alone.

        For criteria over ``(inputs, targets)`` with one integer label an example, in eval mode. Labels that do not
        count (``ignore_index``, a class weight of 0) are left out. The Hessian is the mean of those of the classes
        weighted with ``weight()``; a regularizer is part of each.

        Returns
        -------
        dict of int to Objective
            By label, ascending. None of them holds data: each pass picks the class's examples out of this
            objective's batches.

        Notes
        -----
        Costs a pass over the data, and three forward passes of the first batch.
        """
        return by_class(self)

    def weight(self) -> torch.Tensor:
        """Return what the mean divides by, 0-d float64: counted examples, labels, class weights; 1 for a sum."""
        (weight,) = self.sum(lambda batch: [batch.terms().weight * batch.counts], self.point(), grad=False)
        return self.total(weight.double())

    # -- before the work ------------------------------------------------------------------------------

    def check_deterministic(self, at: Any = None) -> None:
        """Refuse a loss that changes from call to call, and name the module at fault; checked once.

        Raises
        ------
        InputError
            When value or gradient of the first batch, computed twice, differ by more than the square root
            of the precision: something draws from a generator of its own, or keeps a state.

        Notes
        -----
        Costs two gradients of the first batch, and nothing when asked again.
        """
        if "deterministic" not in self.checked:
            check_deterministic(self, self.point(at))
            self.checked.add("deterministic")

    def estimate_cost(self, op: Any, products: int = 1, columns: int = 1) -> CostEstimate:
        """Return the seconds and peak bytes that ``products`` products with ``op`` will take.

        Parameters
        ----------
        op : LinearOperator
            What will be multiplied with. It is not changed: the trial runs on a copy of it.
        products : int
            How many vectors will be multiplied.
        columns : int
            How many of them travel together, as in ``op @ V``.

        Returns
        -------
        CostEstimate
            ``seconds``, ``peak_bytes``, ``products``, ``batches``, ``backend``; as text "20 products: about 12 s
            and 1.3 GB". The peak counts tensors: parameters, held data, vectors and what passes need for a time.

        Notes
        -----
        Costs a few products on the first batch, and reading the data once if that has not been done.
        """
        refuse_shared(self, "an estimate of the cost", "ask it of an objective without group= on a whole model")
        return estimate(self, op, products, columns)

    # -- words --------------------------------------------------------------------------------------

    def provenance(self) -> dict[str, Any]:
        """Return what the numbers are of: loss, mode, dtype, device, seed, parameters, data."""
        return provenance(self)

    @cached_property
    def is_classification(self) -> bool:
        """Whether the loss is a cross-entropy over class labels."""
        return isinstance(self.loss, CriterionLoss) and isinstance(
            self.loss.criterion, nn.CrossEntropyLoss | nn.NLLLoss
        )

    def __repr__(self) -> str:
        return shown(self)
