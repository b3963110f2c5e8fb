"""Whether products are those of a symmetric operator: wrong second derivatives of custom functions are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from landscape.errors import InputError, NonFiniteError
from landscape.objective import Batch, Objective, Point
from landscape.seeds import normal
from landscape.space import Space

PAIRS = 2
TOLERANCE = 1e-3  # a wrong derivative is off by more; what is less can be rounding
SHOWN = 3  # parameters that are named


def check_symmetric(
    objective: Objective,
    point: Point,
    what: str,
    product: Callable[[torch.Tensor], torch.Tensor],
    bound: Callable[[], tuple[float, float]],
) -> None:
    """Compare uᵀHv with vᵀHu on random pairs over the first batch; H is called ``what``.

    ``bound`` gives, after the first product, the relative error of products and the length of a unit vector's
    product from which on it is meant. Raises :class:`~landscape.errors.InputError` with the parameters whose
    own blocks are not symmetric, or where derivatives are nothing but rounding, and
    :class:`~landscape.errors.NonFiniteError` for products with a NaN. Cost: four products of the first batch.
    """
    space = objective.space
    with _first_batch(objective, point):
        for pair in range(PAIRS):
            block = torch.empty(2, space.n, dtype=space.dtype, device=space.device).T
            for i, column in enumerate(block.unbind(1)):
                column.copy_(normal(space.n, objective.seed, 2 * pair + i, dtype=space.dtype, device=space.device))
            products = product(block)
            _check_finite(objective, what, products)
            error, floor = bound()
            tolerance = min(0.25, max(TOLERANCE, 100 * torch.finfo(objective.coarsest).eps ** 0.5, 10 * error))
            off = _asymmetry(space, block, products, floor)
            if off <= tolerance:
                continue
            if _is_rounding(objective, point, tolerance):
                raise InputError(
                    f"products with the {what} are rounding at this point",
                    got="a loss of zero to rounding, or a gradient that changes with the last digit of the parameters",
                    why="hardly a digit of the second derivatives is right",
                    fix="pass dtype=torch.float64 to the objective",
                )
            raise InputError(
                f"products with the {what} are not symmetric",
                got=f"uᵀHv and vᵀHu that differ by {off:.1%}{_where(objective, product, tolerance, floor)}",
                why="a derivative in the model or the loss is wrong, as in some custom autograd.Function, or leaves "
                "out a part of the function, as that of a padding token or of a spectral norm's iteration",
                fix="check it with torch.autograd.gradcheck and gradgradcheck",
            )


def _check_finite(objective: Objective, what: str, products: torch.Tensor) -> None:
    if not objective.ranks.any(not bool(torch.isfinite(products).all())):
        return
    half = torch.finfo(objective.coarsest).bits == 16
    raise NonFiniteError(
        f"products with the {what} are not finite",
        got=f"NaN or infinity with {objective.coarsest} parameters, where the loss itself is finite",
        why="a derivative leaves the range of the format, as those of normalisation layers do in half precision"
        if half
        else "a derivative does not exist at the point, as that of a root or a norm at zero",
        fix="pass dtype=torch.float32 to the objective" if half else "add a small number inside the root",
    )


def _is_rounding(objective: Objective, point: Point, tolerance: float) -> bool:
    """Whether the loss is zero to rounding, or a change of the parameters by theirs moves the gradient as much."""
    space, eps = objective.space, torch.finfo(objective.coarsest).eps
    noise = normal(space.n, objective.seed, 0, dtype=space.dtype, device=space.device)
    value, here = objective.value_and_gradient(point)
    there = objective.gradient(point.moved(point.vector * (1 + 2 * eps * noise)))
    return abs(float(value)) <= 10 * eps or float(space.norm(here - there)) > tolerance * float(space.norm(here))


@contextmanager
def _first_batch(objective: Objective, point: Point) -> Iterator[None]:
    """Let the first batch stand for the data, unless it counts nothing or does not depend on the parameters."""

    def per_batch(batch: Batch) -> list[torch.Tensor | float]:
        terms = batch.terms(batch.leaves())
        return [terms.weight, float(terms.numerator.requires_grad)]

    with objective.batches.undisturbed(), objective.batches.limited():
        weight, depends = objective.sum(per_batch, point)
        if depends and (objective.loss.reduction == "sum" or weight):
            yield
            return
    yield


def _asymmetry(space: Space, block: torch.Tensor, products: torch.Tensor, floor: float) -> float:
    """Return |uᵀHv - vᵀHu| relative to |Hu| + |Hv|, for two columns."""
    (u, v), (hu, hv) = block.T, products.T
    size = max(float(space.norm(hu) + space.norm(hv)), floor * float(space.norm(u) + space.norm(v)))
    return abs(float(space.dot(u, hv) - space.dot(v, hu))) / size if size else 0.0


def _where(
    objective: Objective, product: Callable[[torch.Tensor], torch.Tensor], tolerance: float, floor: float
) -> str:
    """Return in words whose own blocks are not symmetric."""
    space, found = objective.space, []
    for name, where in space.slices.items():
        block = torch.zeros(space.n, 2, dtype=space.dtype, device=space.device)
        for i in range(2):
            block[where, i] = normal(
                where.stop - where.start, objective.seed, i, dtype=space.dtype, device=space.device
            )
        products = torch.zeros_like(block)
        products[where] = product(block)[where]
        if _asymmetry(space, block, products, floor) > tolerance:
            found.append(name)
        if len(found) == SHOWN:
            break
    return f" in {', '.join(found)}" if found else ""
