"""Forward over reverse: the directional derivative of the gradient, by dual numbers."""

from __future__ import annotations

import torch

from landscape.curvature.backends.base import Backend, constant
from landscape.curvature.dual import dual_level, duals, tangents
from landscape.curvature.unsupported import recognised
from landscape.objective import Batch


class Forward(Backend):
    """Each column costs a forward and a backward pass in dual numbers; no graph of the gradient is needed."""

    name = "forward"
    _random: bool | None = None

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        objective = self.objective
        depends = False

        def per_batch(batch: Batch) -> list[torch.Tensor | float]:
            nonlocal depends
            seen: list[tuple[torch.Tensor | float, bool]] = []
            with recognised():
                product = self.columns(
                    block,
                    lambda v: self._dual(batch, v, seen),
                    None if self._draws(batch) else lambda vs: self._mapped(batch, vs),
                )
            if not seen:  # all columns were batched
                terms = batch.terms()
                seen.append((constant(terms.weight), terms.numerator.requires_grad))
            depends = depends or seen[0][1]
            return [seen[0][0], product]

        weight, product = objective.sum(per_batch, self.point, math_attention=True)
        objective.check_depends(depends)
        return product.div_(objective.total(weight)).to(objective.space.dtype)

    def _draws(self, batch: Batch) -> bool:
        """Whether the loss draws random numbers, found out once."""
        if self._random is None:
            with torch.no_grad():
                batch.terms()
            self._random = batch.drew()
        return self._random

    def _dual(self, batch: Batch, v: torch.Tensor, seen: list[tuple[torch.Tensor | float, bool]]) -> torch.Tensor:
        """Return the product with ``v`` (n,); the batch's weight, and whether it has a gradient, go into ``seen``."""
        leaves = batch.leaves()
        with dual_level():
            with self.twice:
                terms = batch.terms(duals(leaves, batch.space.split(v)))
            gradients = batch.gradient(terms, leaves)
            found = None if gradients is None else batch.space.flatten(tangents(gradients))
        seen.append((constant(terms.weight), found is not None))
        return torch.zeros_like(v) if found is None else found

    def _mapped(self, batch: Batch, vectors: torch.Tensor) -> torch.Tensor:
        """Return the products with ``vectors`` (k, n)."""
        leaves = [leaf.detach() for leaf in batch.leaves()]

        def numerator(values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            with self.twice:
                terms = batch.terms(values)
            unit = batch.unit(terms)
            unit = torch.ones((), device=vectors.device) if unit is None else unit
            return terms.numerator * unit, unit

        def gradient(values: list[torch.Tensor]) -> list[torch.Tensor]:
            parts, unit = torch.func.grad(numerator, has_aux=True)(values)
            return [part.to(vectors.dtype) / unit for part in parts]

        along = [t.to(leaf.dtype) for t, leaf in zip(batch.space.split(vectors), leaves, strict=True)]
        product = torch.func.vmap(lambda ts: torch.func.jvp(gradient, (leaves,), (ts,))[1], randomness="same")
        parts = [part.detach().reshape(len(vectors), -1) for part in product(along)]
        return torch.cat(parts, dim=-1)

    def describe(self) -> str:
        """Return how products are made."""
        return f"forward ({self._words('forward over reverse')})"
