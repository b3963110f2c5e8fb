"""Linear operators known by their products: vectors, blocks, dense and SciPy forms, and torch's own functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from landscape.errors import InputError, is_out_of_memory
from landscape.objective import Objective
from landscape.objective.sharded import refuse_shards
from landscape.space import Selection, Space


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
        if isinstance(other, LinearOperator):
            return _algebra().Chain([self, other])
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

    # -- operators made of this one -------------------------------------------------------------

    def adjoint(self) -> LinearOperator:
        """Return the adjoint operator; the operator itself where it is symmetric."""
        found: LinearOperator = _algebra().adjoint(self)
        return found

    @property
    def T(self) -> LinearOperator:
        """The adjoint."""
        return self.adjoint()

    def __mul__(self, c: Any) -> LinearOperator:
        return self._combined((c, self))

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> LinearOperator:
        return self._combined((1 / _algebra().number(c, zero=False), self))

    def __neg__(self) -> LinearOperator:
        return self._combined((-1.0, self))

    def __add__(self, other: Any) -> LinearOperator:
        return self._combined((1.0, self), (1.0, other))

    def __radd__(self, other: Any) -> LinearOperator:
        if isinstance(other, int) and other == 0:  # where `sum` starts
            return self
        return self._combined((1.0, other), (1.0, self))

    def __sub__(self, other: Any) -> LinearOperator:
        return self._combined((1.0, self), (-1.0, other))

    def __rsub__(self, other: Any) -> LinearOperator:
        return self._combined((1.0, other), (-1.0, self))

    def _combined(self, *terms: tuple[Any, Any]) -> LinearOperator:
        found: LinearOperator = _algebra().combined(self, terms)
        return found

    def shift(self, s: float) -> LinearOperator:
        """Return A + s I."""
        return self._combined((1.0, self), (s, _algebra().identity(self)))

    def restrict(self, params: Selection) -> LinearOperator:
        """Return the rows and columns of some parameters, on a space of their own.

        ``params`` is a glob, a regular expression, a predicate ``(name, tensor) -> bool`` or a list of globs,
        as in :class:`~landscape.Objective`; the predicate's tensor has a shape and a dtype and no values. A
        product costs one of the whole operator. Of an operator between two spaces, such as a Jacobian, the
        columns are restricted.
        """
        from landscape.curvature.algebra.restriction import Restricted

        return Restricted(self, params)

    def deflate(self, vectors: Any) -> LinearOperator:
        """Return (I - Q Qᵀ) A (I - Q Qᵀ), where the columns of Q are an orthonormal basis of ``vectors``.

        ``vectors`` are columns (n, k), one vector (n,) or by parameter name, or an
        :class:`~landscape.results.EigenResult`. They need not be orthonormal. Memory: Q in float64.
        """
        from landscape.curvature.algebra.restriction import Deflated

        return Deflated(self, vectors)

    def blocks(self, by: Any = "layer") -> Any:
        """Return the operator without what couples different layers, or other blocks of parameters.

        The view is an operator, and a mapping from the blocks' names to the operator restricted to each. See
        :class:`~landscape.curvature.algebra.blocks.BlockDiagonal` for ``by`` and for the cost.
        """
        from landscape.curvature.algebra.blocks import BlockDiagonal

        return BlockDiagonal(self, by)

    def inverse(
        self,
        damping: float = 0.0,
        *,
        tol: float | None = None,
        max_products: int = 1000,
        on_failure: str = "raise",
    ) -> LinearOperator:
        """Return (A + damping I)^-1, whose products are made by conjugate gradients.

        See :class:`~landscape.curvature.algebra.inverse.Inverse` for the parameters.
        """
        from landscape.curvature.algebra.inverse import Inverse

        return Inverse(self, damping, tol=tol, max_products=max_products, on_failure=on_failure)

    # -- other forms ----------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let ``torch.mv``, ``torch.mm``, ``torch.matmul``, ``tensor @ op`` and ``scalar * op`` take an operator."""
        forward, reflected = _FUNCTIONS.get(func, ("", ""))
        if kwargs or not forward or len(args) != 2:
            return NotImplemented
        left, right = args
        return getattr(left, forward)(right) if isinstance(left, LinearOperator) else getattr(right, reflected)(left)

    def to_dense(self) -> torch.Tensor:
        """Return the operator as an (m, n) tensor; costs n products, or m of the adjoint if those are fewer."""
        refuse_shards(self.space, "a dense matrix")
        m, n = self.shape
        by_rows = not self.symmetric and m < n
        eye = torch.eye(min(m, n) if by_rows else n, dtype=self.dtype, device=self.device)
        dense: torch.Tensor = eye @ self if by_rows else self @ eye
        return dense

    def to_scipy(self) -> Any:
        """Return a :class:`scipy.sparse.linalg.LinearOperator`; vectors travel through host memory."""
        from scipy.sparse.linalg import LinearOperator as SciPyOperator

        refuse_shards(self.space, "an operator of SciPy")
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


def _algebra() -> Any:
    """Return the module of composites, which are operators themselves and so cannot be imported above."""
    from landscape.curvature.algebra import arithmetic

    return arithmetic


_BY_NAME = {
    "matmul": ("__matmul__", "__rmatmul__"),
    "mm": ("__matmul__", "__rmatmul__"),
    "mv": ("__matmul__", "__rmatmul__"),
    "mul": ("__mul__", "__rmul__"),
    "add": ("__add__", "__radd__"),
    "sub": ("__sub__", "__rsub__"),
}

#: torch's functions and tensor methods -> the operator's own method, when it stands left and right
_FUNCTIONS: dict[Any, tuple[str, str]] = {
    function: methods
    for name, methods in _BY_NAME.items()
    for place, key in ((torch, name), (torch.Tensor, name), (torch.Tensor, f"__{name}__"))
    if (function := getattr(place, key, None)) is not None
}
