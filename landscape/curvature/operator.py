"""Linear operators known by their products: vectors, blocks, dense and SciPy forms, and torch's own functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from landscape.errors import InputError, is_out_of_memory
from landscape.objective import Objective
from landscape.space import Space


@runtime_checkable
class TensorOperator(Protocol):
    """What a solver written for matrices may rely on: a matrix and every operator here offer it."""

    @property
    def shape(self) -> Any:
        """(m, n)."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its vectors."""

    @property
    def device(self) -> torch.device:
        """The device of its vectors."""

    @property
    def T(self) -> Any:
        """The adjoint."""

    def __matmul__(self, other: Any) -> Any:
        """Return the product with a vector (n,) or the columns of a block (n, k)."""


class LinearOperator(ABC):
    """An operator of shape (m, n) that is known by its products.

    ``op @ v`` takes a flat vector (n,), a block of columns (n, k), or a dictionary of tensors by
    parameter name, as tensors or NumPy arrays, and gives back the same kind; ``u @ op`` is the product of
    the adjoint with a vector (m,) or the rows of a block (k, m). ``torch.mv``, ``torch.mm`` and
    ``torch.matmul`` take an operator where they take a matrix.

    Attributes
    ----------
    space, codomain : Space
        What the entries of a vector, and those of a product, stand for.
    matvecs : int
        Products made so far, those of the adjoint included; a block of k columns counts k.
    symmetric, psd, deterministic : bool
        What may be relied on; checked by the contract tests.
    columns : int, optional
        Most columns that are multiplied at a time. Where memory does not suffice it is halved, and
        stays there.
    """

    symmetric = True
    psd = False
    deterministic = True
    columns: int | None = None

    __array_ufunc__ = None  # NumPy leaves `array @ op` and `scalar * op` to us

    def __init__(self, space: Space, codomain: Space | None = None) -> None:
        self.space = space
        self.codomain = space if codomain is None else codomain
        self.matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): the lengths of a product and of a vector."""
        return self.codomain.n, self.space.n

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its vectors."""
        return self.space.dtype

    @property
    def device(self) -> torch.device:
        """The device of its vectors."""
        return self.space.device

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives that its products read."""
        own: Objective | None = getattr(self, "objective", None)
        return () if own is None else (own,)

    @abstractmethod
    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products (m, k) with the columns of ``block`` (n, k)."""

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products (n, k) of the adjoint with the columns of ``block`` (m, k)."""
        if self.symmetric:
            return self._matmat(block)
        raise InputError("this operator has no adjoint", got=type(self).__name__,
                         fix="multiply by the operator itself")  # fmt: skip

    def provenance(self) -> dict[str, Any]:
        """Return what this operator is, for results."""
        limit = {} if self.columns is None else {"columns at a time": self.columns}
        return {"operator": type(self).__name__, **limit}

    # -- products -------------------------------------------------------------------------------

    def __matmul__(self, other: Any) -> Any:
        return self._product(other, adjoint=False)

    def __rmatmul__(self, other: Any) -> Any:
        if isinstance(other, torch.Tensor | np.ndarray) and other.ndim == 2:
            return self._product(other.T, adjoint=True).T
        return self._product(other, adjoint=True)

    def matvec(self, v: Any) -> Any:
        """Return ``op @ v``."""
        return self @ v

    def matmat(self, block: Any) -> Any:
        """Return ``op @ block`` for the columns of ``block`` (n, k)."""
        return self @ block

    def rmatvec(self, u: Any) -> Any:
        """Return the product of the adjoint with ``u`` (m,)."""
        return self._product(u, adjoint=True)

    def rmatmat(self, block: Any) -> Any:
        """Return the products of the adjoint with the columns of ``block`` (m, k)."""
        return self._product(block, adjoint=True)

    def _product(self, other: Any, *, adjoint: bool) -> Any:
        """Return the product with a vector or a block, in the form in which it came."""
        space, codomain = (self.codomain, self.space) if adjoint else (self.space, self.codomain)
        if isinstance(other, Mapping):
            by_name = codomain.unflatten(self._product(space.flatten(other), adjoint=adjoint))
            arrays = all(isinstance(t, np.ndarray) for t in other.values())
            return {name: t.cpu().numpy() for name, t in by_name.items()} if arrays else by_name
        if isinstance(other, np.ndarray):
            tensor = torch.from_numpy(np.require(other, requirements=["C", "W"]))
            result: torch.Tensor = self._product(tensor, adjoint=adjoint)
            return result.cpu().numpy()
        if not isinstance(other, torch.Tensor) or other.ndim not in (1, 2) or other.shape[0] != space.n:
            shown = f"shape {tuple(other.shape)}" if hasattr(other, "shape") else type(other).__name__
            raise InputError(
                f"the operator is {codomain.n} by {space.n} and multiplies vectors of length {space.n}",
                got=shown,
                fix=f"pass a tensor of shape ({space.n},) or ({space.n}, k), or tensors by parameter name",
            )
        block = other.detach().to(device=space.device, dtype=space.dtype)
        columns = block[:, None] if block.ndim == 1 else block
        self.matvecs += columns.shape[1]
        product = self._by_columns(columns, adjoint)
        return product[:, 0] if block.ndim == 1 else product

    def _by_columns(self, block: torch.Tensor, adjoint: bool) -> torch.Tensor:
        """Multiply as many columns at a time as ``columns`` allows and memory holds."""
        multiply, target = (self._rmatmat, self.space) if adjoint else (self._matmat, self.codomain)
        count, done = block.shape[1], 0
        result = None
        while done < count:
            width = min(count - done, self.columns or count)
            product = None
            try:
                product = multiply(block[:, done : done + width])
            except (RuntimeError, MemoryError) as error:
                if width == 1 or not is_out_of_memory(error):
                    raise
            if product is None:  # here the failed attempt's memory is free again
                self.columns = (width + 1) // 2
                continue
            if width == count:
                return product
            if result is None:
                result = product.new_empty(target.n, count)
            result[:, done : done + width] = product
            done += width
        return torch.empty(target.n, 0, dtype=target.dtype, device=target.device) if result is None else result

    # -- other forms ----------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let ``torch.mv``, ``torch.mm``, ``torch.matmul`` and ``tensor @ op`` multiply by an operator."""
        if kwargs or len(args) != 2 or func not in _PRODUCTS:
            return NotImplemented
        left, right = args
        return left @ right if isinstance(left, LinearOperator) else right.__rmatmul__(left)

    def to_dense(self) -> torch.Tensor:
        """Return the operator as an (m, n) tensor; costs n products, or m of the adjoint if those are fewer."""
        m, n = self.shape
        by_rows = not self.symmetric and m < n
        eye = torch.eye(min(m, n) if by_rows else n, dtype=self.dtype, device=self.device)
        dense: torch.Tensor = eye @ self if by_rows else self @ eye
        return dense

    def to_scipy(self) -> Any:
        """Return a :class:`scipy.sparse.linalg.LinearOperator`; vectors travel through host memory."""
        from scipy.sparse.linalg import LinearOperator as SciPyOperator

        host_dtype = np.float64 if self.dtype == torch.float64 else np.float32

        def product(v: np.ndarray) -> np.ndarray:
            return self @ np.ascontiguousarray(v, dtype=host_dtype)

        def adjoint_product(v: np.ndarray) -> np.ndarray:
            return self.rmatmat(np.ascontiguousarray(v, dtype=host_dtype))

        return SciPyOperator(
            self.shape,
            matvec=lambda v: product(v.reshape(-1)),
            rmatvec=lambda v: adjoint_product(v.reshape(-1)),
            matmat=product,
            rmatmat=adjoint_product,
            dtype=host_dtype,
        )

    def __repr__(self) -> str:
        m, n = self.shape
        size = f"n={n}" if m == n else f"shape=({m}, {n})"
        return f"{type(self).__name__}({size}, dtype={self.dtype}, device={self.device})"


_PRODUCTS = {
    torch.matmul, torch.mm, torch.mv,
    torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.mv, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__,
}  # fmt: skip
