"""Parts of an operator: some of its parameters, or all directions but some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from landscape.curvature.algebra.arithmetic import Composite, check_square, is_endomorphism, name_of
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.objective.sharded import refuse_shards
from landscape.space import Selection, Space, dot64


class Restricted(Composite):
    """The rows and columns of some parameters; a product costs one of the whole operator.

    Of an operator between two spaces, such as a Jacobian, only the columns are restricted.
    """

    def __init__(self, operator: LinearOperator, params: Selection) -> None:
        self._both = is_endomorphism(operator)
        space = operator.space.restrict(params)
        super().__init__([operator], space, space if self._both else operator.codomain)
        self.symmetric, self.psd = operator.symmetric, operator.psd

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = self.parts[0] @ self._embedded(block)
        return self._taken(whole) if self._both else whole

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._taken(self.parts[0].rmatmat(self._embedded(block) if self._both else block))

    def _embedded(self, block: torch.Tensor) -> torch.Tensor:
        whole = block.new_zeros(self.parts[0].space.n, block.shape[1])
        places = self.parts[0].space.slices
        for name, part in self.space.slices.items():
            whole[places[name]] = block[part]
        return whole

    def _taken(self, whole: torch.Tensor) -> torch.Tensor:
        places = self.parts[0].space.slices
        return torch.cat([whole[places[name]] for name in self.space.names]).to(self.space.dtype)

    def words(self) -> str:
        """Return the part's name, called restricted."""
        return f"restricted {name_of(self.parts[0])}"

    def provenance(self) -> dict[str, Any]:
        """Return the whole operator's facts, with the parameters that are left."""
        names = self.space.names
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        own = {"count": self.space.n, "tensors": len(names), "selection": shown}
        return {**super().provenance(), "parameters": own}


class Deflated(Composite):
    """(I - Q Qᵀ) A (I - Q Qᵀ), where the columns of Q are an orthonormal basis of some vectors.

    Memory: Q (n, k) in float64.
    """

    def __init__(self, operator: LinearOperator, vectors: Any) -> None:
        check_square(operator, "deflate")
        refuse_shards(operator.space, "deflation")
        super().__init__([operator], operator.space)
        self.symmetric, self.psd = operator.symmetric, operator.psd
        self.basis = orthonormal(_columns(vectors, operator.space))

    def _project(self, block: torch.Tensor) -> torch.Tensor:
        wide = block.double()
        return (wide - self.basis @ (self.basis.T @ wide)).to(block.dtype)

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._project(self.parts[0] @ self._project(block))

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._project(self.parts[0].rmatmat(self._project(block)))

    def words(self) -> str:
        """Return the part's name, called deflated."""
        return f"deflated {name_of(self.parts[0])}"

    def provenance(self) -> dict[str, Any]:
        """Return the part's facts, and how many directions were taken out."""
        return {**super().provenance(), "deflated directions": self.basis.shape[1]}


def _columns(vectors: Any, space: Space) -> torch.Tensor:
    """Return ``vectors``, or the ``.vectors`` of a result, as columns (n, k)."""
    found = getattr(vectors, "vectors", vectors)
    if isinstance(found, Mapping):
        found = space.flatten(found)
    columns = torch.as_tensor(found).detach().to(space.device)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != space.n or not bool(torch.isfinite(columns).all()):
        raise InputError(f"deflate takes finite vectors as columns of a ({space.n}, k) tensor",
                         got=f"shape {tuple(columns.shape)}", fix="pass for example eigsh(A, k).vectors")  # fmt: skip
    return columns


def orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis (n, r) in float64 of the span of ``columns`` (n, k), r <= k.

    Two passes of classical Gram-Schmidt; a column that is a combination of those before it, to the
    rounding of its dtype, adds nothing.
    """
    rounding = 10 * torch.finfo(columns.dtype).eps if columns.is_floating_point() else 1e-14
    basis = torch.zeros(columns.shape[0], columns.shape[1], dtype=torch.float64, device=columns.device)
    rank = 0
    for column in columns.unbind(1):
        largest = float(column.abs().max())
        if largest == 0:
            continue
        v = column.double() / largest  # squares of its entries neither overflow nor vanish
        v /= dot64(v, v).sqrt()
        found = basis[:, :rank]
        for _ in range(2):
            v = v - found @ (found.T @ v)
            if float(dot64(v, v).sqrt()) <= rounding:
                break
            v = v / dot64(v, v).sqrt()
        else:
            basis[:, rank] = v
            rank += 1
    return basis[:, :rank]
