"""Matrices, and the operators of other libraries, as operators of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.space import Space


class Matrix(LinearOperator):
    """A matrix, or another library's operator, as one of ours: see :func:`aslinearoperator`."""

    def __init__(self, source: Any, space: Space, codomain: Space, symmetric: bool, psd: bool) -> None:
        super().__init__(space, codomain)
        self.source, self.symmetric, self.psd = source, symmetric, psd

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._by(self.source, block, self.codomain)

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        source = self.source if self.symmetric else getattr(self.source, "T", None)
        return super()._rmatmat(block) if source is None else self._by(source, block, self.space)

    @staticmethod
    def _by(source: Any, block: torch.Tensor, target: Space) -> torch.Tensor:
        if isinstance(source, torch.Tensor):
            return source @ block
        if _speaks_numpy(source):
            product = torch.as_tensor(np.asarray(source @ block.cpu().numpy()))
        else:  # all that it promises is `op @ v`
            product = torch.stack([torch.as_tensor(source @ v).detach() for v in block.unbind(1)], dim=1)
        return product.to(device=target.device, dtype=target.dtype)

    def provenance(self) -> dict[str, Any]:
        """Return the source's type and size."""
        m, n = self.shape
        return {**super().provenance(), "operator": f"{type(self.source).__name__}[{m}x{n}]"}


def _speaks_numpy(source: Any) -> bool:
    return hasattr(source, "dtype") and not isinstance(source.dtype, torch.dtype)


def aslinearoperator(
    source: Any,
    space: Space | None = None,
    codomain: Space | None = None,
    *,
    symmetric: bool | None = None,
    psd: bool = False,
) -> LinearOperator:
    """Return a matrix or another library's operator as an operator of ours.

    Parameters
    ----------
    source : tensor, array, SciPy matrix or any object with ``@`` and ``.shape``, shape (m, n)
        What it does; an operator of ours is returned as it is.
    space, codomain : Space, optional
        What the entries of a vector and of a product stand for; plain numbers by default.
    symmetric : bool, optional
        Whether it equals its adjoint. By default a tensor or an array is looked at, and another library's
        operator counts as symmetric only if its attribute of that name says so.
    psd : bool
        Whether it is symmetric without negative eigenvalues; believed.
    """
    if isinstance(source, LinearOperator):
        return source
    shape = tuple(getattr(source, "shape", ()))
    if len(shape) != 2 or not hasattr(source, "__matmul__"):
        raise InputError("an operator must have `@` and a shape (m, n)", got=f"{type(source).__name__} {shape}",
                         fix="pass a matrix or an object with both")  # fmt: skip
    source = torch.as_tensor(source) if isinstance(source, np.ndarray) else source
    m, n = shape
    space = plain_space(n, source) if space is None else space
    if codomain is None:
        codomain = space if m == n else plain_space(m, source)
    if shape != (codomain.n, space.n):
        raise InputError(f"a matrix beside this operator must be {codomain.n} by {space.n}", got=f"{m} by {n}",
                         fix="check which parameters it belongs to")  # fmt: skip
    if isinstance(source, torch.Tensor):
        source = source.detach().to(device=space.device, dtype=space.dtype)
        if symmetric is None:
            slack = 10 * torch.finfo(source.dtype).eps * float(source.abs().max()) if source.numel() else 0.0
            symmetric = m == n and bool(torch.allclose(source, source.T, rtol=0, atol=slack))
    elif symmetric is None:
        symmetric = bool(getattr(source, "symmetric", False))
    return Matrix(source, space, codomain, symmetric, psd)


def plain_space(n: int, like: Any) -> Space:
    """Return the space of vectors of ``n`` plain numbers, in the precision and on the device of ``like``."""
    dtype = getattr(like, "dtype", torch.get_default_dtype())
    wide = dtype not in (torch.float32, torch.float16, torch.bfloat16, np.float32, np.float16)
    place = torch.device("cpu") if _speaks_numpy(like) else torch.device(getattr(like, "device", "cpu"))
    return Space(("all",), (torch.Size([n]),), (torch.float64 if wide else torch.float32,), place)
