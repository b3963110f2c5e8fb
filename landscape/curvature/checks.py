"""Whether products are those of a symmetric operator: wrong second derivatives of custom functions are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from landscape.errors import InputError, NonFiniteError
from landscape.objective import Objective, Point
from landscape.seeds import normal
from landscape.space import Space

PAIRS = 2
SHOWN = 3  # parameters that are named


def check_symmetric(
    objective: Objective,
    point: Point,
    what: str,
    product: Callable[[torch.Tensor], torch.Tensor],
    bound: Callable[[], tuple[float, float]],
) -> None:
    """Compare uᵀHv with vᵀHu on random pairs over the first batch; once for each objective and ``what``, H's name.

    ``bound`` gives, after the first product, the relative error of products and the length of a unit vector's
    product from which on it is meant. Raises :class:`~landscape.errors.InputError` with the parameters whose
    own blocks are not symmetric, and :class:`~landscape.errors.NonFiniteError` for products with a NaN.
    Cost: four products of the first batch.
    """
    if what in objective.checked:
        return
    space = objective.space
    block = torch.empty(2 * PAIRS, space.n, dtype=space.dtype, device=space.device).T
    for i, column in enumerate(block.unbind(1)):
        column.copy_(normal(space.n, objective.seed, i, dtype=space.dtype, device=space.device))
    with _first_batch(objective, point):
        products = product(block)
    if objective.ranks.any(not bool(torch.isfinite(products).all())):
        half = torch.finfo(objective.coarsest).bits == 16
        raise NonFiniteError(
            f"products with the {what} are not finite",
            got=f"NaN or infinity with {objective.coarsest} parameters, where the loss itself is finite",
            why="a derivative leaves the range of the format, as those of normalisation layers do in half precision"
            if half
            else "a derivative does not exist at the point, as that of a root or a norm at zero",
            fix="pass dtype=torch.float32 to the objective" if half else "add a small number inside the root",
        )
    error, floor = bound()
    tolerance = min(0.25, max(10 * torch.finfo(objective.coarsest).eps ** 0.5, 10 * error))
    worst = max(_asymmetry(space, block, products, floor, i) for i in range(0, 2 * PAIRS, 2))
    if worst > tolerance:
        raise InputError(
            f"products with the {what} are not symmetric",
            got=f"uᵀHv and vᵀHu that differ by {worst:.1%}{_where(objective, product, tolerance, floor)}",
            why="a derivative in the model or the loss is wrong, most often of a custom autograd.Function",
            fix="check it with torch.autograd.gradcheck and gradgradcheck",
        )
    objective.checked.add(what)


@contextmanager
def _first_batch(objective: Objective, point: Point) -> Iterator[None]:
    """Let the first batch stand for the data, unless it counts nothing."""
    with objective.batches.undisturbed(), objective.batches.limited():
        (weight,) = objective.sum(lambda batch: [batch.terms().weight], point, grad=False)
        if objective.loss.reduction == "sum" or weight:
            yield
            return
    yield


def _asymmetry(space: Space, block: torch.Tensor, products: torch.Tensor, floor: float, i: int) -> float:
    """Return |uᵀHv - vᵀHu| relative to |Hu| + |Hv|, for the columns i and i + 1."""
    (u, v), (hu, hv) = block.T[i : i + 2], products.T[i : i + 2]
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
        if _asymmetry(space, block, products, floor, 0) > tolerance:
            found.append(name)
        if len(found) == SHOWN:
            break
    return f" in {', '.join(found)}" if found else ""
