"""What one batch adds to the value and the gradient."""

from __future__ import annotations

import torch

from landscape.objective.point import Batch
from landscape.objective.totals import Addend


class ValueAndGradient:
    """A batch's numerator, weight and gradient, in its parts; ``depends`` says whether any batch has a gradient."""

    def __init__(self) -> None:
        self.depends = False

    def __call__(self, batch: Batch) -> list[Addend]:
        """Return the parts of one batch."""
        leaves = batch.leaves()
        terms = batch.terms(leaves)
        parts = batch.gradient(terms, leaves)
        self.depends = self.depends or parts is not None
        return [terms.numerator, terms.weight, [torch.zeros_like(leaf) for leaf in leaves] if parts is None else parts]
