"""Central differences of the gradient: for models whose gradient torch cannot differentiate."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from landscape.curvature.backends.base import Backend, constant
from landscape.curvature.columns import Columns
from landscape.errors import InputError
from landscape.objective import Batch, Objective, Point
from landscape.seeds import normal
from landscape.space import Space

LIMIT = 0.1  # relative error from which a product is refused
SAFETY = 10.0  # between how well two steps agree, along two directions, and the error that is stated
FACTOR = 10**0.5  # between two steps that are compared
STEPS = tuple(range(1, -11, -1))  # powers of it, times a distance and the cube root of the precision
WORSE = 10.0  # than the best step so far: where to stop
NOISE = 300.0  # roundings of the gradient, over the longest step, below which a product is taken to be zero


class Difference(Backend):
    """(∇L(θ + hv/|v|) - ∇L(θ - hv/|v|)) |v| / 2h: two gradients a column.

    Before the first product the step h is chosen, in steps of 1/√10 down from √10 times |θ| times the cube root of
    the precision (and from 1 times it, if |θ| is less): the one whose product with the Hessian of all data agrees
    best with that of the one before, for a random direction and for the gradient's. Ten times their difference is
    the error that is stated; where they differ by more than 10 %, products are refused. That costs 12 to 48
    gradients, twice that for the smaller |θ|. Attention and compiled parts of the model run as they are. Across a
    kink (ReLU) differences see the jump that derivatives do not: such models take short steps, and float64.
    """

    name = "difference"
    exact = False

    def __init__(self, objective: Objective, point: Point, columns: Columns) -> None:
        super().__init__(objective, point, columns)
        self._step: float | None = None
        self._partial = False  # the step was chosen on a part of the data
        self.columns = Columns("loop")  # two gradients each, whatever the block

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        partial = self.objective.ranks.any(self.objective.batches.partial)  # one decision for all processes
        if self._step is None or (self._partial and not partial):
            self._step, self._partial = self._chosen(), partial
        return self._product(block, self._step)

    def _product(self, block: torch.Tensor, step: float) -> torch.Tensor:
        objective, depends = self.objective, False

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            nonlocal depends
            differ = _Gradients(batch, self.point)
            product = torch.stack([differ.product(v, step) for v in block.unbind(1)], dim=1)
            depends = depends or differ.depends
            return [batch.terms().weight if differ.weight is None else differ.weight, product]

        weight, product = objective.sum(per_batch, self.point)
        objective.check_depends(depends or not bool(block.any()))
        return (product / objective.total(weight)).to(objective.space.dtype)

    def _chosen(self) -> float:
        """Return the step, a distance in parameter space, once the error that it leaves is known."""
        objective, space = self.objective, self.objective.space
        eps = torch.finfo(objective.coarsest).eps
        size = float(space.norm(self.point.vector))
        scales = [size] if size >= 1 else [size, 1.0] if size else [1.0]
        gradient = objective.gradient(self.point)
        slope = float(space.norm(gradient))
        longest = scales[-1] * eps ** (1 / 3) * FACTOR
        floor = NOISE * eps * slope / longest
        random = normal(space.n, objective.seed, 0, dtype=space.dtype, device=space.device)
        probes = torch.stack([random, gradient] if slope else [random]).T
        lengths = [float(space.norm(probe)) for probe in probes.unbind(1)]
        errors: dict[float, float] = {}
        for scale in scales:
            before, best = None, math.inf
            for power in STEPS:
                step = scale * eps ** (1 / 3) * FACTOR**power
                products = self._product(probes, step)
                if before is not None:
                    pairs = zip(products.unbind(1), before.unbind(1), lengths, strict=True)
                    errors[step] = max(
                        _relative(space, a, b, floor * length, eps * slope / step * length) for a, b, length in pairs
                    )
                    best = min(best, errors[step])
                    if best <= LIMIT and errors[step] > WORSE * best:  # shorter ones are lost in rounding
                        break
                before = products
        step = min(errors, key=lambda step: errors[step])
        error, swallowed = errors[step], self._swallowed(random, step)
        if not error <= LIMIT or swallowed > LIMIT:
            raise InputError(
                "central differences cannot resolve Hessian products here",
                got=f"a step of which {swallowed:.0%} is lost in {space.coarsest} parameters"
                if swallowed > LIMIT
                else f"results that differ by {error:.0%} at best between two steps",
                why="the difference of two gradients would be rounding, or jumps of a loss that is not smooth",
                fix="pass dtype=torch.float64 (or float32) to the objective, or backend='autograd'",
            )
        self.floor, self.bound = floor, max(SAFETY * error, eps)
        return step

    def _swallowed(self, v: torch.Tensor, step: float) -> float:
        """Return which share of a step along ``v`` (n,) rounding takes away."""
        space, at = self.objective.space, self.point.vector
        move = v * (step / float(space.norm(v)))
        ahead, here = (
            torch.cat(
                [part.to(dtype).double().reshape(-1) for part, dtype in zip(space.split(x), space.dtypes, strict=True)]
            )
            for x in (at + move, at)
        )
        return float(space.norm(ahead - here - move) / space.norm(move))

    def describe(self) -> str:
        """Return how products are made."""
        step = "" if self._step is None else f"step {self._step:.1e}, error about {self.bound:.0e} by a second step"
        return f"difference ({self._words('central differences of the gradient', step)})"


class _Gradients:
    """Gradients of one batch near a point."""

    def __init__(self, batch: Batch, point: Point) -> None:
        self._batch, self._point = batch, point
        self.weight: torch.Tensor | float | None = None
        self.depends = False

    def gradient(self, point: Point | None = None) -> torch.Tensor:
        """Return the gradient of the numerator at ``point`` (n,)."""
        batch = replace(self._batch, point=self._point if point is None else point)
        leaves = batch.leaves()
        terms = batch.terms(leaves)
        self.weight = constant(terms.weight)
        parts = batch.gradient(terms, leaves)
        self.depends = self.depends or parts is not None
        return batch.space.flatten([torch.zeros_like(leaf) for leaf in leaves] if parts is None else parts)

    def product(self, v: torch.Tensor, step: float) -> torch.Tensor:
        """Return the central difference along ``v`` (n,), times its length."""
        length = float(self._batch.space.norm(v))
        if length == 0:
            return torch.zeros_like(v)
        move = v * (step / length)
        at = self._point.vector
        ahead, behind = (self.gradient(self._point.moved(at + sign * move)) for sign in (1, -1))
        return (ahead - behind).mul_(length / (2 * step))


def _relative(space: Space, a: torch.Tensor, b: torch.Tensor, floor: float, noise: float) -> float:
    """Return |a - b|, or the ``noise`` of a if that is more, over max(|a|, floor); infinite where that says nothing."""
    size, off = max(float(space.norm(a)), floor), max(float(space.norm(a - b)), noise)
    return off / size if size > 0 and math.isfinite(off) else math.inf
