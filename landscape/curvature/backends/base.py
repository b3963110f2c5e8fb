"""What a backend is, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from landscape.curvature.columns import Columns
from landscape.curvature.twice import Twice
from landscape.objective import Objective, Point


class Backend(ABC):
    """One way of making products with the Hessian of ``objective`` at ``point``.

    Attributes
    ----------
    bound : float
        The largest relative error that it states for its products, known after the first one.
    floor : float
        The length of a unit vector's product below which the error is relative to this length.
    value : torch.Tensor, optional
        The objective's value, where a product has given it on the way.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True  # differentiates the gradient, which must have a graph

    def __init__(self, objective: Objective, point: Point, columns: Columns) -> None:
        self.objective, self.point, self.columns = objective, point, columns
        self.twice = Twice()
        self.floor = 0.0
        self.value: torch.Tensor | None = None
        self.bound = 1e3 * torch.finfo(objective.coarsest).eps

    @abstractmethod
    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k); raise ``Unsupported`` where torch cannot."""

    @abstractmethod
    def describe(self) -> str:
        """Return in words how products are made."""

    def _words(self, *parts: str) -> str:
        """Return the parts that are not empty, with those that every backend of exact derivatives shares."""
        kernel = "math attention kernel, as the fused one has no second derivative" if self.twice.attention else ""
        return ", ".join(part for part in (*parts, kernel, self.columns.words) if part)


def constant(weight: torch.Tensor | float) -> torch.Tensor | float:
    """Return a weight without a graph."""
    return weight.detach() if isinstance(weight, torch.Tensor) else weight
