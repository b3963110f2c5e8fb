"""A symmetric linear operator on the selected parameters: products, dense form, SciPy form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.space import Space


class LinearOperator(ABC):
    """A symmetric operator of shape (n, n) that is known by its products.

    ``op @ v`` takes a flat vector (n,), a block of columns (n, k), or a dictionary of tensors by
    parameter name, as tensors or NumPy arrays, and gives back the same kind.

    Attributes
    ----------
    space : Space
        What the entries of a vector stand for.
    matvecs : int
        Products made so far; a block of k columns counts k.
    symmetric, psd, deterministic : bool
        What may be relied on; checked by the contract tests.
    """

    symmetric = True
    psd = False
    deterministic = True

    def __init__(self, space: Space) -> None:
        self.space = space
        self.matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.space.n, self.space.n

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its vectors."""
        return self.space.dtype

    @property
    def device(self) -> torch.device:
        """The device of its vectors."""
        return self.space.device

    @abstractmethod
    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is, for results."""
        return {"operator": type(self).__name__}

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Mapping):
            by_name = self.space.unflatten(self @ self.space.flatten(other))
            arrays = all(isinstance(t, np.ndarray) for t in other.values())
            return {name: t.cpu().numpy() for name, t in by_name.items()} if arrays else by_name
        if isinstance(other, np.ndarray):
            result: torch.Tensor = self @ torch.from_numpy(np.require(other, requirements=["C", "W"]))
            return result.cpu().numpy()
        if not isinstance(other, torch.Tensor) or other.ndim not in (1, 2) or other.shape[0] != self.space.n:
            shown = f"shape {tuple(other.shape)}" if hasattr(other, "shape") else type(other).__name__
            raise InputError(
                f"the operator is {self.space.n} by {self.space.n} and multiplies vectors of that length",
                got=shown,
                fix=f"pass a tensor of shape ({self.space.n},) or ({self.space.n}, k), or tensors by parameter name",
            )
        block = other.detach().to(device=self.device, dtype=self.dtype)
        columns = block[:, None] if block.ndim == 1 else block
        self.matvecs += columns.shape[1]
        product = self._matmat(columns) if columns.shape[1] else torch.empty_like(columns)
        return product[:, 0] if block.ndim == 1 else product

    def to_dense(self) -> torch.Tensor:
        """Return the operator as an (n, n) tensor; costs n products and n² numbers."""
        dense: torch.Tensor = self @ torch.eye(self.space.n, dtype=self.dtype, device=self.device)
        return dense

    def to_scipy(self) -> Any:
        """Return a :class:`scipy.sparse.linalg.LinearOperator`; vectors travel through host memory."""
        from scipy.sparse.linalg import LinearOperator as SciPyOperator

        host_dtype = np.float64 if self.dtype == torch.float64 else np.float32

        def product(v: np.ndarray) -> np.ndarray:
            return self @ np.ascontiguousarray(v, dtype=host_dtype)

        def vector_product(v: np.ndarray) -> np.ndarray:
            return product(v.reshape(-1))

        return SciPyOperator(
            self.shape, matvec=vector_product, rmatvec=vector_product, matmat=product, dtype=host_dtype
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.space.n}, dtype={self.dtype}, device={self.device})"
