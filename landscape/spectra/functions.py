"""A function of an operator as an operator: products by the Lanczos process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.seeds import rademacher
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

STEPS = 100  # most Lanczos steps for one product
STRIDE = 4  # steps between two looks at whether they suffice


class FunctionOf:
    """f(A): its product with v is ``|v| V f(T) e₁`` from the Krylov space V of v.

    vᵀf(A)v is then the Gauss quadrature of stochastic Lanczos quadrature, and every estimator of the trace works on
    f(A) as it does on A: parts by parameter and error bars included.

    How many steps are made is found on probe 0, by going on until the quadrature no longer changes, and
    is the same for all products. ``bias`` is by how much that quadrature differs from the one with half the
    steps, a bound of its error once more steps bring it closer; ``settled`` says whether they do.

    S. Ubaru, J. Chen, Y. Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix
    Anal. Appl. 38 (2017).
    """

    def __init__(self, op: Any, function: Callable[[np.ndarray], np.ndarray], name: str, *, seed: int, tol: float,
                 most: int) -> None:  # fmt: skip
        self.operator = Operator(op)
        self.function, self.name, self.seed = function, name, seed
        n = self.operator.n
        self.shape, self.dtype, self.device = (n, n), self.operator.dtype, self.operator.device
        self.space = getattr(op, "space", None)
        self.most = max(1, min(STEPS, n, most))
        self.steps, self.bias, self.settled = self._enough(tol)
        self.trial = self.operator.matvecs

    def _enough(self, tol: float) -> tuple[int, float, bool]:
        """Return how many steps probe 0 needs, the difference to half of them, and whether they suffice."""
        probe = rademacher(self.operator.n, self.seed, 0, dtype=self.dtype, device=self.device)
        krylov = Krylov(self.operator, self.most, probe, self.seed)
        before, settled = np.inf, False
        while krylov.filled < self.most and not settled:
            krylov.extend()
            if krylov.filled % STRIDE and krylov.filled < self.most and krylov.beta > 0:
                continue
            now = self._quadrature(krylov, krylov.filled)
            settled = krylov.beta == 0 or abs(now - before) <= tol * abs(now)
            before = now
        m = krylov.filled
        if krylov.beta == 0:
            return m, 0.0, True
        return m, self.operator.n * abs(before - self._quadrature(krylov, (m + 1) // 2)), settled

    def _quadrature(self, krylov: Krylov, m: int) -> float:
        return float(self._first_column(krylov.T[:m, :m])[0])

    def _first_column(self, T: np.ndarray) -> np.ndarray:
        """Return f(T) e₁."""
        nodes, vectors = np.linalg.eigh(T)
        with np.errstate(all="ignore"):
            values = np.asarray(self.function(nodes), dtype=np.float64)
        if values.shape != nodes.shape:
            raise InputError("function must return one value for each eigenvalue", got=f"shape {values.shape}",
                             why=f"it was given {nodes.shape}", fix="write it with NumPy's functions")  # fmt: skip
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.name} must be finite on the operator's spectrum",
                got=f"none at the Ritz value {float(nodes[~np.isfinite(values)][0]):.3g}",
                why="the operator has eigenvalues there or beyond",
                fix="add damping, as in ls.trace(A.shift(0.1), function='log'), and take the GGN if the damping that "
                "the Hessian needs is too large",
            )
        column: np.ndarray = vectors @ (values * vectors[0])
        return column

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        """Return f(A) times a vector (n,) or the columns of a block (n, k)."""
        if block.ndim == 1:
            return self._product(block)
        return torch.stack([self._product(v) for v in block.unbind(1)], dim=1)

    def _product(self, v: torch.Tensor) -> torch.Tensor:
        length = self.operator.norm(v)
        if length == 0:
            return torch.zeros_like(v)
        krylov = Krylov(self.operator, self.steps, v, self.seed)
        while krylov.filled < self.steps and (krylov.filled == 0 or krylov.beta > 0):
            krylov.extend()
        return krylov.vectors(length * self._first_column(krylov.T)[:, None])[:, 0]

    def provenance(self) -> dict[str, Any]:
        """Return the operator's facts, and the function."""
        return {**self.operator.provenance(), "function": self.name, "lanczos_steps": self.steps}
