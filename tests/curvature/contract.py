"""What every operator promises, checked against its dense form."""

from __future__ import annotations

import numpy as np
import torch

from landscape.curvature import LinearOperator
from tests.reference import close


def block(n: int, k: int = 3, dtype: torch.dtype = torch.float64, seed: int = 11) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def keeps_its_promises(op: LinearOperator, dense: torch.Tensor | None = None, tolerance: float = 1e-12) -> None:
    """Check products in each form, linearity, the adjoint, and the tags ``symmetric``, ``psd``, ``deterministic``."""
    m, n = op.shape
    assert (m, n) == (op.codomain.n, op.space.n)
    found = op.to_dense()
    assert found.shape == (m, n)
    assert found.dtype == op.dtype
    dense = found if dense is None else dense
    close(found, dense, tolerance)

    V, U = block(n, dtype=op.dtype), block(m, dtype=op.dtype, seed=12)
    before = op.matvecs
    product = op @ V
    assert op.matvecs == before + 3
    close(product, dense @ V.double(), tolerance)
    for i in range(3):
        close(op @ V[:, i], product[:, i], tolerance)
    close(op @ (2 * V[:, 0] - 3 * V[:, 1]), 2 * product[:, 0] - 3 * product[:, 1], 10 * tolerance)
    assert not bool((op @ torch.zeros_like(V)).any())
    assert (op @ V[:, :0]).shape == (m, 0)
    kept = V.clone()
    (op @ V).add_(1.0)  # a product is the caller's own
    assert torch.equal(V, kept)
    if op.deterministic:
        assert torch.equal(op @ V, product)

    by_name = op @ op.space.unflatten(V[:, 0])
    assert list(by_name) == list(op.codomain.names)
    close(op.codomain.flatten(by_name), product[:, 0], tolerance)
    array = op @ V.numpy()
    assert isinstance(array, np.ndarray)
    close(torch.from_numpy(array), product, tolerance)

    close(op.T @ U, dense.T @ U.double(), tolerance)
    close(U.T @ op, (dense.T @ U.double()).T, tolerance)
    close(torch.from_numpy(U[:, 0].numpy() @ op), dense.T @ U[:, 0].double(), tolerance)
    scale = max(float(product.norm() * U.norm()), 1e-30)
    assert abs(float((op @ V[:, 0]) @ U[:, 0] - V[:, 0] @ (op.T @ U[:, 0]))) <= tolerance * scale
    if op.symmetric:
        assert op.space == op.codomain
        close(found, found.T, tolerance)
    if op.psd:
        assert op.symmetric
        values = torch.linalg.eigvalsh((found + found.T).double() / 2)
        assert float(values[0]) >= -tolerance * max(float(values[-1]), 1e-3)

    scipy = op.to_scipy()
    assert scipy.shape == (m, n)
    close(torch.from_numpy(scipy @ V.numpy()), product, tolerance)
    close(torch.from_numpy(scipy.T @ U[:, 0].numpy()), dense.T @ U[:, 0].double(), tolerance)
    facts = op.provenance()
    assert isinstance(facts["operator"], str)
    assert facts["operator"]
