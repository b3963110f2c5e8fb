"""Central differences of the gradient: for models whose gradient torch cannot differentiate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from landscape.curvature.backends.base import Backend, constant
from landscape.curvature.columns import Columns
from landscape.errors import InputError
from landscape.objective import Batch, Objective, Point
from landscape.seeds import normal
from landscape.space import Space

LIMIT = 0.1  # relative error from which a product is refused
SAFETY = 3.0  # between how well two steps agree and the error that is stated
FACTOR = 10**0.5  # between two steps that are compared


class Difference(Backend):
    """(∇L(θ + hv/|v|) - ∇L(θ - hv/|v|)) |v| / 2h: two gradients a column.

    Before the first product the step h is chosen on the first batch among seven, in steps of √10: the one whose
    result agrees best with that of the next, for a random direction and for the gradient's. Three times their
    difference is the error that is stated; above 10 % products are refused. Attention and compiled parts of the
    model run as they are. Across a kink (ReLU) differences see the jump that derivatives do not.
    """

    name = "difference"
    exact = False

    def __init__(self, objective: Objective, point: Point, columns: Columns) -> None:
        super().__init__(objective, point, columns)
        self._step: float | None = None
        self.columns = Columns("loop")  # two gradients each, whatever the block

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        objective = self.objective
        step, depends = self._chosen() if self._step is None else self._step, False

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
        objective, space, ranks = self.objective, self.objective.space, self.objective.ranks
        size = float(space.norm(self.point.vector)) or 1.0
        best = torch.finfo(objective.coarsest).eps ** (1 / 3)
        steps = [size * best * FACTOR**power for power in range(-3, 4)]
        random = normal(space.n, objective.seed, 0, dtype=space.dtype, device=space.device)
        with objective.session(), ranks.together():
            for batch in objective.own_batches(self.point):
                pieces = objective.pieces(
                    lambda piece: [self._tried(piece, steps, random, best / size)], batch, objective
                )
                trial = next(iter(pieces))[0]
                if trial.gradient:  # a first batch may hold no counted label
                    break
        if ranks.any(bool(trial.gradient)) and not trial.gradient:  # what others found counts
            trial = _Trial([0.0] * len(trial.errors), 0.0, 0.0)
        *errors, floor = ranks.largest([*trial.errors, trial.floor])
        error = min(errors)
        step = steps[errors.index(error)]
        swallowed = self._swallowed(random, step)
        if not error <= LIMIT or swallowed > LIMIT:
            raise InputError(
                "central differences cannot resolve Hessian products here",
                got=f"a step of which {swallowed:.0%} is lost in {space.coarsest} parameters"
                if swallowed > LIMIT
                else f"results that differ by {error:.0%} at best between two steps",
                why="the difference of two gradients would be rounding, or jumps of a loss that is not smooth",
                fix="pass dtype=torch.float64 (or float32) to the objective, or backend='autograd'",
            )
        self._step, self.floor = step, floor
        self.bound = max(SAFETY * error, torch.finfo(objective.coarsest).eps)
        return step

    def _tried(self, batch: Batch, steps: list[float], random: torch.Tensor, rounding: float) -> _Trial:
        """Compare the products over ``batch`` of each step and the next, for a random direction and the gradient's."""
        objective, space = self.objective, self.objective.space
        differ = _Gradients(batch, self.point)
        gradient = differ.gradient()
        slope = float(space.norm(gradient))
        floor = rounding * slope  # rounding leaves about this much of a product when there is no curvature
        errors = [0.0] * (len(steps) - 1)
        for probe in (random, gradient) if slope else (random,):
            length = float(space.norm(probe))
            found = [differ.product(probe, step) for step in steps]
            pairs = [_relative(space, a, b, floor * length) for a, b in pairwise(found)]
            errors = [max(both) for both in zip(errors, pairs, strict=True)]
        if slope:
            floor /= max(float(objective.total(torch.as_tensor(differ.weight).double())), 1e-300)
        return _Trial(errors, floor, slope)

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


@dataclass(frozen=True)
class _Trial:
    """What a batch says of steps: how far the product of each is from that of the next one."""

    errors: list[float]
    floor: float
    gradient: float  # the gradient's length


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


def _relative(space: Space, a: torch.Tensor, b: torch.Tensor, floor: float) -> float:
    """Return |a - b| / max(|b|, floor); infinite where that says nothing."""
    size, off = max(float(space.norm(b)), floor), float(space.norm(a - b))
    return off / size if size > 0 and math.isfinite(off) else math.inf
