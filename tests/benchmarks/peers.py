"""Other libraries behind one face: eigenpairs, traces and densities, with their products counted from outside.

All are imported where they are used; one that is not installed raises ``ImportError``, which the tables print.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
Pairs = tuple[np.ndarray, Tensor]  # values (k,), vectors (n, k)


class Stopped(Exception):
    """The products that were allowed are made."""


@dataclass
class Counter:
    """Counts the calls of products, and ends the work after ``limit`` of them."""

    limit: float = float("inf")
    count: int = 0

    def of(self, product: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``product``, counted."""

        def counted(*args: Any) -> Any:
            if self.count >= self.limit:
                raise Stopped
            self.count += 1
            return product(*args)

        return counted


def arpack(product: Callable[[Any], Any], n: int, k: int, tol: float, counter: Counter) -> Pairs:
    """Return the largest ``k`` by SciPy's ARPACK, from a start vector that is the same each time."""
    operator = LinearOperator((n, n), matvec=counter.of(product), dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    values, vectors = eigsh(operator, k=k, which="LA", tol=tol, v0=start)
    return values, torch.from_numpy(vectors)


# -- curvlinops ----------------------------------------------------------------------------------------------------


def curvlinops_operator(model: nn.Module, data: list[Any]) -> Any:
    """Return its Hessian."""
    from curvlinops import HessianLinearOperator

    parameters = list(model.parameters())
    return HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)


def curvlinops_trace(matrix: Tensor, method: str, products: int, seed: int) -> float:
    """Return its trace of a matrix by ``"hutch++"`` or ``"xtrace"``."""
    from curvlinops import hutchpp_trace, xtrace

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return float((hutchpp_trace if method == "hutch++" else xtrace)(matrix, products))


# -- hessian-eigenthings -------------------------------------------------------------------------------------------


def eigenthings_operator(model: nn.Module, data: list[Any]) -> Any:
    """Return its Hessian, by automatic differentiation."""
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(model, data, supervised_loss(functional.cross_entropy))


def eigenthings_matrix(matrix: Tensor, counter: Counter) -> Any:
    """Return a matrix as an operator of its kind."""
    from hessian_eigenthings.operators.base import LambdaOperator

    return LambdaOperator(counter.of(lambda v: matrix @ v), len(matrix), dtype=matrix.dtype)


def eigenthings_pairs(operator: Any, k: int, tol: float, steps: int, counter: Counter) -> Pairs:
    """Return the largest ``k`` after ``steps`` of its Lanczos, which has no rule of its own for how many."""
    from hessian_eigenthings import lanczos
    from hessian_eigenthings.operators.base import LambdaOperator

    counted = LambdaOperator(counter.of(operator.matvec), operator.size, operator.device, operator.dtype)
    found = lanczos(counted, k=k, max_iter=steps, tol=tol, which="LA", reorthogonalize=True, seed=0)
    return found.eigenvalues.cpu().numpy(), found.eigenvectors.T


# -- PyHessian -----------------------------------------------------------------------------------------------------


def pyhessian_operator(model: nn.Module, data: list[Any]) -> Any:
    """Return its Hessian of one batch, whose graph it keeps."""
    from pyhessian import hessian

    return hessian(model, nn.CrossEntropyLoss(), data=data[0], cuda=next(model.parameters()).is_cuda)


@contextmanager
def _products(counter: Counter, matrix: Tensor | None = None) -> Iterator[None]:
    """Count the products of PyHessian, and let them be those of ``matrix`` where one is given."""
    module = sys.modules["pyhessian.hessian"]
    product = module.hessian_vector_product
    if matrix is not None:

        def product(_: Any, parameters: list[Tensor], v: list[Tensor]) -> list[Tensor]:
            flat = matrix @ torch.cat([part.reshape(-1) for part in v])
            parts = flat.split([p.numel() for p in parameters])
            return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

    with mock.patch.object(module, "hessian_vector_product", counter.of(product)):
        yield


def pyhessian_pairs(operator: Any, k: int, tol: float, counter: Counter) -> Pairs:
    """Return the ``k`` largest in magnitude by its power iteration; when stopped, the vectors that it had finished."""
    module = sys.modules["pyhessian.hessian"]
    orthonormal, vectors = module.orthnormal, []

    def noted(w: list[Tensor], finished: list[list[Tensor]]) -> Any:  # is called with them before every product
        vectors[:] = finished
        return orthonormal(w, finished)

    values: list[float] = []
    with _products(counter), mock.patch.object(module, "orthnormal", noted), suppress(Stopped):
        values, vectors = operator.eigenvalues(maxIter=100, tol=tol, top_n=k)
    columns = [torch.cat([part.detach().reshape(-1) for part in v]) for v in vectors]
    return np.array(values), torch.stack(columns, dim=1) if columns else torch.zeros(0)


def pyhessian_trace(operator: Any, matrix: Tensor, counter: Counter, seed: int) -> float:
    """Return its trace of a matrix, stopped by its own rule."""
    with torch.random.fork_rng(devices=[]), _products(counter, matrix):
        torch.manual_seed(seed)
        samples = operator.trace(maxIter=1000, tol=1e-3)
    return float(np.mean(samples))


def _eig(matrix: Tensor, *, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """Stand in for ``torch.eig``, which PyHessian's density calls and torch no longer has."""
    assert eigenvectors
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def pyhessian_density(
    operator: Any, matrix: Tensor, probes: int, steps: int, counter: Counter, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return grid and density of a matrix, smoothed as in its plot: a variance of 1e-5 of the range, at least 1e-5.

    The grid has 10,000 points and reaches 0.01 past the nodes, and the density is divided by its sum.
    """
    with (
        torch.random.fork_rng(devices=[]),
        _products(counter, matrix),
        mock.patch.object(torch, "eig", _eig, create=True),
    ):
        torch.manual_seed(seed)
        nodes, weights = (np.array(part, dtype=float) for part in operator.density(iter=steps, n_v=probes))
    low, high = nodes.min(axis=1).mean() - 0.01, nodes.max(axis=1).mean() + 0.01
    grid = np.linspace(low, high, 10_000)
    variance = 1e-5 * max(1.0, high - low)
    density = np.zeros_like(grid)
    for node, weight in zip(nodes.ravel(), weights.ravel(), strict=True):
        density += weight * np.exp(-((grid - node) ** 2) / (2 * variance))
    return grid, density / (density.sum() * (grid[1] - grid[0]))
