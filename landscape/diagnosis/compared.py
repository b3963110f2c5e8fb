"""Products of the Hessian beside central differences of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from landscape.curvature import Hessian
from landscape.errors import InputError
from landscape.objective import Objective
from landscape.seeds import normal

COARSE = 1e-2  # relative error from which differences say little
SHARPEST = 1e-6  # relative error that no rounding explains, in float64
SHARE = 0.1  # of the whole error, from which a parameter is named


@dataclass(frozen=True)
class Compared:
    """How far products are from central differences.

    Attributes
    ----------
    objective : Objective
        What was differentiated.
    off : float
        The largest distance of two products, relative to them.
    bound : float
        The relative error that a second step leaves to the differences.
    where : list of str
        The parameters that most of the distance is in.
    why : str
        Why nothing was compared.
    unresolved : str
        Why the differences tell nothing.
    """

    objective: Objective
    off: float = 0.0
    bound: float = 0.0
    where: tuple[str, ...] = ()
    why: str = ""
    unresolved: str = ""

    @property
    def clear(self) -> bool:
        """Whether the differences have digits to compare with."""
        return not (self.why or self.unresolved) and (self.bound <= COARSE or self.off == 0)

    @property
    def agree(self) -> bool:
        """Whether the two are as close as the differences can tell, or as rounding leaves them."""
        rounding = SHARPEST if self.objective.coarsest == torch.float64 else COARSE
        return not (self.why or self.unresolved) and self.off <= max(self.bound, rounding)


def compare(make: Callable[[Objective], Any], objectives: list[Objective]) -> Compared:
    """Return the comparison on the first of ``objectives`` on which it is clear, else that on the first."""
    found: list[Compared] = []
    for objective in objectives:
        found.append(_compared(make(objective), objective))
        if found[-1].clear or found[-1].why:
            return found[-1]
    return found[0]


def _compared(op: Any, objective: Objective) -> Compared:
    if not isinstance(op, Hessian):
        return Compared(objective, why=f"{type(op).__name__} is not the derivative of the gradient")
    space = objective.space
    # the vectors that differences choose their step by: of these a second step has told the error
    probes = [normal(space.n, objective.seed, 0, dtype=space.dtype, device=space.device), objective.gradient()]
    block = torch.stack([v / float(space.norm(v)) for v in probes if bool(v.any())], dim=1)
    products = op @ block
    if op.backend == "difference":
        return Compared(objective, why=f"products are central differences themselves, known to {op.bound:.0e}")
    other = Hessian(objective, backend="difference")
    try:
        expected = other @ block
    except InputError as error:
        return Compared(objective, unresolved=error.found)
    errors = products - expected
    sizes = [max(float(space.norm(v)), other.floor) for v in expected.unbind(1)]
    off = max(float(space.norm(e)) / size for e, size in zip(errors.unbind(1), sizes, strict=True))
    each = {name: float(errors[where].norm()) for name, where in space.slices.items()}
    most = SHARE * float(errors.norm())
    where = tuple(name for name in sorted(each, key=lambda name: -each[name]) if each[name] > most)
    return Compared(objective, off, other.bound, where)
