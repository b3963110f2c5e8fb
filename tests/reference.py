"""The slow truth: plain torch in float64, every derivative written out densely, in loops."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from landscape.seeds import seed_torch
from tests.problems import N, Problem, problem

Tensor = torch.Tensor


class _ElementaryWeightNorm(TorchFunctionMode):
    """Torch's own kernel forgets, in its second derivative, that the norm depends on the direction."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch._weight_norm:
            direction, length, dim = args
            others = [d for d in range(direction.ndim) if d != dim]
            return direction * (length / direction.square().sum(others, keepdim=True).sqrt())
        return function(*args, **(kwargs or {}))


@contextmanager
def _twice() -> Iterator[None]:
    """Use kernels whose second derivative is there and right; leave the random state as it was."""
    with ExitStack() as stack:
        for context in (torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH), _ElementaryWeightNorm()):
            stack.enter_context(context)
        yield


@dataclass(frozen=True)
class Row:
    """What a criterion makes of one class distribution or, without classes, of one example."""

    criterion: nn.Module
    at: Any  # which entries of all outputs it reads
    outputs: Tensor  # (1, ...)
    target: Tensor  # (1, ...)

    @property
    def numerator(self) -> Tensor:
        return _reduced(self.criterion, "sum")(self.outputs, self.target)

    @property
    def weight(self) -> float:
        """What torch itself divides by in a mean, asked of it at outputs where the loss is not 0."""
        probe = torch.linspace(0.3, 0.7, self.outputs.numel(), dtype=torch.float64).view(self.outputs.shape)
        mean = "batchmean" if isinstance(self.criterion, nn.KLDivLoss) else "mean"
        ratio = _reduced(self.criterion, "sum")(probe, self.target) / _reduced(self.criterion, mean)(probe, self.target)
        return 0.0 if ratio.isnan() else float(ratio)

    @property
    def times(self) -> float:
        """How often the row's likelihood counts: the weight of its label."""
        return self.weight if isinstance(self.criterion, nn.CrossEntropyLoss | nn.NLLLoss) else 1.0

    def draws(self) -> Iterator[tuple[float, Tensor]]:
        """Yield the probability of each label under the model, and the slope of its -log likelihood.

        Entries that are independent are drawn one by one: their slopes have mean zero, so nothing mixes.
        """
        z, kind = self.outputs.detach().reshape(-1), type(self.criterion)
        unit = torch.eye(len(z), dtype=torch.float64)
        if kind in (nn.CrossEntropyLoss, nn.NLLLoss, nn.KLDivLoss):
            p = z.softmax(0) if kind is nn.CrossEntropyLoss else z.exp()
            for c, e in enumerate(unit):
                yield float(p[c]), (p if kind is nn.CrossEntropyLoss else 0) - e
        elif kind is nn.MSELoss:  # variance 1/2: labels at one standard deviation to either side
            for e in unit:
                for side in (-1, 1):
                    yield 0.5, 2 * side * math.sqrt(0.5) * e
        elif kind in (nn.BCEWithLogitsLoss, nn.BCELoss):
            q = z.sigmoid() if kind is nn.BCEWithLogitsLoss else z
            slope = 1 if kind is nn.BCEWithLogitsLoss else 1 / (q * (1 - q))
            for one, e, times in zip(q, unit * slope, self._counts(), strict=True):
                yield float(one * times), (one - 1) * e
                yield float((1 - one) * times), one * e
        else:
            raise NotImplementedError(f"the labels of {kind.__name__}")

    def _counts(self) -> Tensor:
        """How often each bit counts: its weight, and ``pos_weight`` where the label is 1."""
        y, weight = self.target.reshape(-1), self.criterion.weight
        positive = getattr(self.criterion, "pos_weight", None)
        return (
            (1 if weight is None else weight) * (1 if positive is None else positive * y + 1 - y) * torch.ones_like(y)
        )


_FUNCTIONS: dict[Any, nn.Module] = {functional.cross_entropy: nn.CrossEntropyLoss(), functional.mse_loss: nn.MSELoss()}


def _reduced(criterion: nn.Module, reduction: str) -> nn.Module:
    other = copy.copy(criterion)
    other.reduction = reduction
    return other


class Dense:
    """Every operator of one problem as a matrix, over parameters (n,) in the order of ``model.named_parameters()``.

    The model sees the data in batches of ``sizes`` (it matters to batch norm and dropout in train mode);
    the loss then sees all outputs at once, so no average over batches is taken anywhere.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        select: Callable[[str, nn.Parameter], bool] | None = None,
        train: bool = False,
        sizes: int | tuple[int, ...] = N,
        seed: int = 0,
    ) -> None:
        self.problem = copy.deepcopy(problem).to(torch.float64)
        self.criterion = _FUNCTIONS.get(problem.loss, self.problem.loss)
        model = self.problem.model.train(train)
        keep = select or (lambda name, p: p.requires_grad)
        chosen = {name: p.requires_grad_(True) for name, p in model.named_parameters() if keep(name, p)}
        self.names, self.leaves = list(chosen), list(chosen.values())
        parts = []
        with _twice():
            for index, (x, _) in enumerate(self.problem.batches(sizes)):
                seed_torch(seed, index)  # what fixes the masks of dropout
                parts.append(model(x))
            self.outputs = torch.cat(parts)
            self._value = self.loss(self.outputs)

    def loss(self, outputs: Tensor) -> Tensor:
        """Return the pooled loss of all outputs."""
        return self.problem.pooled(lambda _: outputs, self.problem.inputs, self.problem.targets)

    def _gradient(self, scalar: Tensor, *, graph: bool = False) -> Tensor:
        if not scalar.requires_grad:
            return torch.zeros(sum(leaf.numel() for leaf in self.leaves), dtype=torch.float64)
        parts = torch.autograd.grad(scalar, self.leaves, retain_graph=True, create_graph=graph, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    @property
    def value(self) -> Tensor:
        return self._value.detach()

    @cached_property
    def gradient(self) -> Tensor:
        return self._gradient(self._value)

    @cached_property
    def _with_graph(self) -> Tensor:
        return self._gradient(self._value, graph=True)

    @cached_property
    def hessian(self) -> Tensor:
        return torch.stack([self._gradient(entry) for entry in self._with_graph])

    def hessian_times(self, block: Tensor) -> Tensor:
        """Return the Hessian's products with the columns of ``block``: for models whose Hessian takes long."""
        return torch.stack([self._gradient(self._with_graph @ column.double()) for column in block.T], dim=1)

    @cached_property
    def jacobian(self) -> Tensor:
        """The derivatives of all outputs (outputs, n), in data order."""
        return torch.stack([self._gradient(entry) for entry in self.outputs.reshape(-1)])

    @cached_property
    def ntk(self) -> Tensor:
        """The tangent kernel on all the data (outputs, outputs)."""
        return self.jacobian @ self.jacobian.T

    # -- the loss as a function of the outputs ------------------------------------------------------

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of a criterion, ignored ones left out."""
        criterion, outputs, targets = self.criterion, self.outputs, self.problem.targets
        index = torch.arange(outputs.numel()).reshape(outputs.shape)
        classes = isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss)
        if classes:
            index = index.movedim(1, -1).reshape(-1, outputs.shape[1])
            soft = targets.is_floating_point()
            targets = targets.movedim(1, -1).reshape(index.shape) if soft else targets.reshape(-1)
        found = [
            Row(criterion, at, outputs.reshape(-1)[at][None], y[None]) for at, y in zip(index, targets, strict=True)
        ]
        return [row for row in found if row.weight]

    @cached_property
    def total(self) -> float:
        """What the numerators' sum is divided by."""
        return 1.0 if self.criterion.reduction == "sum" else sum(row.weight for row in self.rows)

    @cached_property
    def output_hessian(self) -> Tensor:
        """The Hessian of the pooled loss by all outputs, that of the softmax for losses of log-probabilities."""
        if isinstance(self.criterion, nn.NLLLoss | nn.KLDivLoss):
            full = torch.zeros(self.outputs.numel(), self.outputs.numel(), dtype=torch.float64)
            for row in self.rows:
                p = row.outputs.detach()[0].exp()
                times = row.weight if isinstance(self.criterion, nn.NLLLoss) else 1.0
                full[row.at[:, None], row.at] = times * (p.diag() - p[:, None] * p) / self.total
            return full
        flat = self.outputs.detach().reshape(-1).requires_grad_()
        slope = torch.autograd.grad(self.loss(flat.view(self.outputs.shape)), flat, create_graph=True)[0]
        if not slope.requires_grad:
            return torch.zeros(len(flat), len(flat), dtype=torch.float64)
        return torch.stack([torch.autograd.grad(entry, flat, retain_graph=True)[0] for entry in slope])

    @cached_property
    def ggn(self) -> Tensor:
        return self.jacobian.T @ self.output_hessian @ self.jacobian

    @cached_property
    def fisher(self) -> Tensor:
        """Σ over rows and over the labels that the model itself would draw, each gradient with itself."""
        total = torch.zeros_like(self._outer(self.gradient))
        for row in self.rows:
            J = self.jacobian[row.at.reshape(-1)]
            for probability, slope in row.draws():
                total += row.times * probability * self._outer(J.T @ slope)
        return total / self.total

    @cached_property
    def empirical_fisher(self) -> Tensor:
        """Σ over rows (of a function, examples) of the gradient at the row's own label with itself.

        A weight says how often a label counts, so it enters once: roots of it enter the gradients.
        """
        if not isinstance(self.criterion, nn.Module):
            g, w = self._examples
            return g.T @ (w[:, None] * g) / w.sum()
        criterion = copy.copy(self.criterion)
        weight = getattr(criterion, "weight", None)
        if weight is not None and not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
            criterion._buffers = {**criterion._buffers, "weight": weight.sqrt()}
        rows = [replace(row, criterion=criterion) for row in self.rows]
        parts = [self._outer(self._gradient(row.numerator)) / row.times for row in rows]
        return torch.stack(parts).sum(0) / self.total

    @cached_property
    def gradient_covariance(self) -> Tensor:
        """Σ over examples of (g_i - g) with itself, weighted as the objective weighs the examples."""
        g, w = self._examples
        centred = g - (w[:, None] * g).sum(0) / w.sum()
        return centred.T @ (w[:, None] * centred) / w.sum()

    @cached_property
    def _examples(self) -> tuple[Tensor, Tensor]:
        """The gradients of the examples' own mean losses (examples, n), and what these were divided by."""
        found = []
        for i, y in enumerate(self.problem.targets):
            outputs = self.outputs[i : i + 1]
            if isinstance(self.criterion, nn.Module):
                mean, weight = self.criterion(outputs, y[None]), Row(self.criterion, i, outputs, y[None]).weight
                weight = 1.0 if self.criterion.reduction == "sum" else weight
            else:
                returned = self.criterion(lambda _, z=outputs: z, (self.problem.inputs[i : i + 1], y[None]))
                mean, weight = returned if isinstance(returned, tuple) else (returned, 1.0)
            if weight:
                found.append((self._gradient(mean), float(weight)))
        return torch.stack([g for g, _ in found]), torch.tensor([w for _, w in found], dtype=torch.float64)

    @staticmethod
    def _outer(v: Tensor) -> Tensor:
        return v[:, None] * v


@lru_cache(maxsize=64)
def known(model: str, loss: str) -> Dense:
    """Return the matrices of a problem in eval mode, where batches do not matter; made once for several operators."""
    return Dense(problem(model, loss))


@dataclass
class Truth:
    """Value, gradient (n,) and Hessian (n, n) in the order of ``model.named_parameters()``."""

    value: Tensor
    gradient: Tensor
    hessian: Tensor
    names: list[str]


def truth(
    problem: Problem,
    *,
    hessian: bool = True,
    select: Callable[[str, nn.Parameter], bool] | None = None,
    train: bool = False,
) -> Truth:
    """Differentiate the pooled loss of a deep copy of the model, entry by entry."""
    dense = Dense(problem, select=select, train=train)
    return Truth(dense.value, dense.gradient, dense.hessian if hessian else torch.zeros(0, 0), dense.names)


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    """Assert that the largest difference is at most ``tolerance`` times the largest entry of ``b``."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape
    error = float((a - b).abs().max())
    scale = float(b.abs().max())
    assert error <= tolerance * max(scale, 1e-3), f"differs by {error:.3g}, largest entry {scale:.3g}"
