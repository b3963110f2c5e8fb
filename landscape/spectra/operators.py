"""What a solver needs of an operator, and how anything symmetric is brought into that form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse

from landscape.errors import InputError, NonFiniteError
from landscape.space import dot64


class Operator:
    """Any symmetric ``A`` with ``@`` and ``.shape``: an operator of ours, a tensor, a NumPy or SciPy matrix.

    Counts its products, and refuses ones that are not finite: on the CPU at once, on an accelerator, which must not
    wait for the host at each product, as soon as an inner product is brought to the host. A tensor, an array or a
    sparse matrix must be symmetric; an operator that declares ``symmetric = False`` is refused.
    """

    cost = 1  # products of the source for one product

    def __init__(self, source: Any) -> None:
        shape = tuple(getattr(source, "shape", ()))
        if len(shape) != 2 or shape[0] != shape[1] or not hasattr(source, "__matmul__"):
            raise InputError(
                "an operator must be square and have `@`",
                got=f"{type(source).__name__} of shape {shape}",
                fix="pass ls.Hessian(objective) or a symmetric matrix",
            )
        if not shape[0] or str(getattr(source, "dtype", "")).endswith("bool"):
            raise InputError(
                "an operator must have rows, and numbers for entries",
                got="none" if not shape[0] else "truth values",
                fix="pass ls.Hessian(objective) or a symmetric matrix of floats",
            )
        self.n = int(shape[0])
        self.matvecs = 0
        self._source = source
        self._numpy = not isinstance(getattr(source, "dtype", None), torch.dtype) and hasattr(source, "dtype")
        if self._numpy:
            self.dtype = torch.float32 if source.dtype == np.float32 else torch.float64
        else:
            declared = getattr(source, "dtype", torch.get_default_dtype())
            self.dtype = torch.float64 if declared == torch.float64 else torch.float32
        self.device = torch.device("cpu") if self._numpy else torch.device(getattr(source, "device", "cpu"))
        self._space = getattr(source, "space", None)
        if self._space is not None and not self._space.whole:
            raise InputError(
                "solvers need vectors in one piece",
                got="an operator of a sharded model",
                why="each process holds a part of them only, and would take decisions of its own",
                fix="pass group= with a whole model in each process",
            )
        self._check_symmetric()

    def _check_symmetric(self) -> None:
        source = self._source
        if isinstance(source, torch.Tensor | np.ndarray):
            dense = torch.as_tensor(source)
            scale = float(dense.abs().nan_to_num(0.0, posinf=0.0).max()) if dense.numel() else 0.0
            symmetric = bool(torch.allclose(dense, dense.T, atol=1e-5 * scale, rtol=0, equal_nan=True))
        elif issparse(source):
            symmetric = bool(abs(source - source.T).max() <= 1e-5 * abs(source).max())
        else:
            symmetric = getattr(source, "symmetric", True)
        if not symmetric:
            raise InputError(
                "the operator must be symmetric",
                got="one that is not",
                why="its eigenvalues need not be real and Lanczos would be wrong",
                fix="pass (A + A.T) / 2, or A.T @ A for singular values",
            )

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k)."""
        self.matvecs += block.shape[1]
        if self._numpy:
            product = torch.as_tensor(np.asarray(self._source @ block.numpy()), dtype=self.dtype)
        elif isinstance(self._source, torch.Tensor):
            product = self._source.to(self.dtype) @ block
        elif self._space is not None:
            product = self._source @ block
        else:  # an operator of someone else's: all it promises is `op @ v`
            product = torch.stack([self._column(v) for v in block.unbind(1)], dim=1)
        if product.device.type == "cpu" and not bool(torch.isfinite(product).all()):
            raise not_finite()
        return product

    def _column(self, v: torch.Tensor) -> torch.Tensor:
        product = torch.as_tensor(self._source @ v).detach().to(v)
        if product.shape != v.shape:
            raise InputError(
                f"a product of the operator must be a vector of length {self.n}",
                got=f"shape {tuple(product.shape)}",
                fix="return a tensor of the shape of v from `op @ v`",
            )
        return product

    def inner(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the inner product in float64, on the vectors' device."""
        return self._space.dot(u, v) if self._space is not None else dot64(u, v)

    def dot(self, u: torch.Tensor, v: torch.Tensor) -> float:
        """Return the inner product in float64."""
        found = float(self.inner(u, v))
        if not math.isfinite(found):
            raise not_finite()
        return found

    def norm(self, v: torch.Tensor) -> float:
        """Return the Euclidean norm in float64."""
        return self.dot(v, v) ** 0.5

    @property
    def slices(self) -> Mapping[str, slice]:
        """Where named parts lie in a vector; one part when the operator has no names."""
        return self._space.slices if self._space is not None else {"all": slice(0, self.n)}

    def provenance(self) -> dict[str, Any]:
        """Return what the operator says of itself."""
        describe = getattr(self._source, "provenance", None)
        return describe() if callable(describe) else {"operator": f"{type(self._source).__name__} {self.n} x {self.n}"}

    @property
    def eps(self) -> float:
        """The rounding unit of its vectors."""
        return torch.finfo(self.dtype).eps


def not_finite() -> NonFiniteError:
    """Return the error that says that a product is not finite."""
    return NonFiniteError(
        "a product of the operator is not finite",
        got="NaN or infinity",
        why="no eigenvalue can be computed from it",
        fix="check the loss and its derivatives at this point (an overflow, a square root at 0)",
    )
