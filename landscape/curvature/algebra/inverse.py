"""Inverse products by conjugate gradients, each with its true residual."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from landscape.curvature.algebra.arithmetic import Composite, name_of
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError, NonFiniteError, NotConvergedError
from landscape.objective.sharded import refuse_shards

#: Relative residual asked for by default, by the dtype of the vectors.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}

ROUNDING = 10.0  # multiples of rounding, relative to the largest curvature met, below which one is zero
MARGIN = 0.5  # of tol, at which the updated residual is taken to be small enough for the true one to be looked at


class Inverse(Composite):
    """(A + damping I)^-1 for a symmetric positive definite A + damping I, by conjugate gradients.

    Parameters
    ----------
    operator : LinearOperator, shape (n, n)
        A; it must be symmetric.
    damping : float
        Added to the diagonal, at least 0.
    tol : float, optional
        What the true residual |b - (A + damping I) x| / |b| of every column b is brought to; 1e-6 for
        float64 vectors and 1e-4 for float32 by default.
    max_products : int
        Most products for one column.
    on_failure : {"raise", "warn"}
        What to do when that does not suffice: an error, or a warning and the x reached.

    Attributes
    ----------
    residuals : list of float
        The true relative residuals of the columns that were last solved side by side.

    Raises
    ------
    InputError
        At a product, when a direction of negative curvature is met: A + damping I is not positive definite.
    NotConvergedError
        At a product, when ``tol`` is not reached.

    Notes
    -----
    The columns of a block are solved side by side, and one that has converged costs nothing more. Vectors
    are in the operator's dtype and coefficients in float64. Where the updated residual has drifted from the
    true one, the iteration starts again from the latter. Memory: 6 vectors for each column.

    References
    ----------
    M. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems (1952).
    """

    def __init__(
        self,
        operator: LinearOperator,
        damping: float = 0.0,
        *,
        tol: float | None = None,
        max_products: int = 1000,
        on_failure: str = "raise",
    ) -> None:
        refuse_shards(operator.space, "an inverse")
        if not operator.symmetric:
            raise InputError("conjugate gradients need a symmetric operator", got=type(operator).__name__,
                             fix="solve the normal equations with (A.T @ A).inverse(damping)")  # fmt: skip
        if not 0 <= damping < math.inf:
            raise InputError("damping must be a finite number, at least 0", got=damping, fix="pass damping=1e-3")
        if tol is not None and not tol > 0:
            raise InputError("tol must be positive", got=tol, fix="pass for example tol=1e-3")
        if max_products < 2:
            raise InputError("max_products must be at least 2", got=max_products,
                             why="one product steps and one verifies", fix="raise it")  # fmt: skip
        if on_failure not in ("raise", "warn"):
            raise InputError("on_failure must be 'raise' or 'warn'", got=on_failure, fix="use 'raise'")
        super().__init__([operator.shift(damping) if damping else operator], operator.space)
        self.psd = self.parts[0].psd
        self.tol = TOLERANCES[self.dtype] if tol is None else tol
        self.damping, self.max_products, self.on_failure = damping, max_products, on_failure
        self.residuals: list[float] = []

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        b = block.T.contiguous()
        largest = b.abs().amax(dim=1)
        if not bool(torch.isfinite(largest).all()):
            raise NonFiniteError("the right-hand side is not finite", got="NaN or infinity", fix="check the vector")
        b = b / torch.where(largest > 0, largest, 1.0)[:, None]  # squares of entries neither overflow nor vanish
        norms = self._dots(b, b) ** 0.5
        b = b / torch.where(norms > 0, norms, 1.0)[:, None].to(b)
        solved, scales, self.residuals = _Solve(self, b).run()
        for x, factor in zip(solved, (largest.double() * norms / scales.to(norms)).tolist(), strict=True):
            x.copy_(x.double() * factor)  # the dtype may hold the product and not the factor
        return solved.T

    def _dots(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.space.dot(a, b) for a, b in zip(u, v, strict=True)])

    def words(self) -> str:
        """Return the part's name with the exponent -1."""
        return f"{name_of(self.parts[0])}^-1"

    def provenance(self) -> dict[str, Any]:
        """Return the operator's facts, and how it is inverted."""
        return {**super().provenance(), "inverse": {"method": "conjugate gradients", "tol": self.tol,
                                                    "damping": self.damping}}  # fmt: skip


class _Solve:
    """One run over the unit rows of ``b`` (k, n); zero rows stay zero.

    Row j of the solution is kept in units of 1 / ``scale[j]``, the curvature along b_j, so that operators of
    any scale leave its entries within the range of float32.
    """

    def __init__(self, inverse: Inverse, b: torch.Tensor) -> None:
        self.inverse, self.operator, self.b = inverse, inverse.parts[0], b
        self.x = torch.zeros_like(b)
        self.residuals = self._norms(b)
        self.scales: dict[int, float] = {}
        self.products = [0] * len(b)
        self.smallest, self.largest = math.inf, 0.0  # curvatures met

    def run(self) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
        """Return solutions (k, n), their scales (k,) and their true residuals."""
        left = [j for j, norm in enumerate(self.residuals) if norm > 0]
        r, failed = self.b[left], []
        while left:
            self._iterate(left, r)
            r = self.b[left] - self._product(left, self.x[left]) / self._column([self._scale(j) for j in left])
            again = []
            for i, (j, norm) in enumerate(zip(left, self._norms(r), strict=True)):
                better = norm <= 0.5 * self.residuals[j]
                self.residuals[j] = norm
                if not norm <= self.inverse.tol:
                    again.append(i) if better and self._may_go_on(j) else failed.append(j)
            r, left = r[again], [left[i] for i in again]
        if failed:
            self._fail(failed)
        return self.x, torch.tensor([self._scale(j) for j in range(len(self.b))], dtype=torch.float64), self.residuals

    def _iterate(self, rows: list[int], r: torch.Tensor) -> None:
        """Conjugate gradients on ``rows`` from their residuals ``r``, until those are small or products run out."""
        enough = (MARGIN * self.inverse.tol) ** 2
        r, p, rr = r.clone(), r, self._squares(r)
        while rows:
            q = self._product(rows, p)
            pq, pp = self.inverse._dots(p, q).tolist(), self._squares(p)
            ahead = []
            for i, j in enumerate(rows):
                curvature = pq[i] / pp[i]
                self._check(curvature)
                if curvature > 0:  # else it is zero to rounding: no step can be made along p
                    alpha = rr[i] / pq[i]
                    self.x[j].add_(p[i], alpha=alpha * self.scales.setdefault(j, curvature))
                    r[i].sub_(q[i], alpha=alpha)
                    ahead.append(i)
            new = self._squares(r)
            kept = [i for i in ahead if new[i] > enough and self._may_go_on(rows[i])]
            p = r[kept] + self._column([new[i] / rr[i] for i in kept]) * p[kept]
            r, rr, rows = r[kept], [new[i] for i in kept], [rows[i] for i in kept]

    def _may_go_on(self, j: int) -> bool:
        return self.products[j] + 2 <= self.inverse.max_products  # a step and the last look

    def _product(self, rows: list[int], p: torch.Tensor) -> torch.Tensor:
        for j in rows:
            self.products[j] += 1
        product: torch.Tensor = self.operator @ p.T
        return product.T.contiguous()

    def _check(self, curvature: float) -> None:
        if not math.isfinite(curvature):
            raise NonFiniteError("a product of the operator is not finite", got="NaN or infinity",
                                 fix="check the loss and its derivatives at this point")  # fmt: skip
        self.smallest, self.largest = min(self.smallest, curvature), max(self.largest, abs(curvature))
        if curvature < -self._zero():
            raise InputError(
                "the operator is not positive definite",
                got=f"a direction of curvature {curvature:.3g}, where its largest so far is {self.largest:.3g}",
                why="conjugate gradients solve positive definite systems only",
                fix=f"raise damping by more than {-curvature:.3g}, or use the GGN in place of the Hessian",
            )

    def _zero(self) -> float:
        return ROUNDING * torch.finfo(self.inverse.dtype).eps * self.largest

    def _fail(self, rows: list[int]) -> None:
        worst = max(self.residuals[j] for j in rows)
        products = max(self.products[j] for j in rows)
        fix = "raise damping or max_products, or loosen tol"
        why = ""
        if self.smallest <= self._zero():
            why, fix = "the operator is singular to rounding", "raise damping"
        elif all(map(self._may_go_on, rows)):
            why = f"{str(self.inverse.dtype).removeprefix('torch.')} makes the products no more exact than that"
            fix = "use float64, raise damping or loosen tol"
        error = NotConvergedError(
            f"{len(rows)} of {len(self.b)} inverse products did not reach the relative residual {self.inverse.tol:g}",
            got=f"{worst:.3g} after {products} products", why=why, fix=fix,
        )  # fmt: skip
        if self.inverse.on_failure == "raise":
            raise error
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)

    def _squares(self, rows: torch.Tensor) -> list[float]:
        found: list[float] = self.inverse._dots(rows, rows).tolist() if len(rows) else []
        return found

    def _norms(self, rows: torch.Tensor) -> list[float]:
        return [square**0.5 for square in self._squares(rows)]

    def _scale(self, j: int) -> float:
        return self.scales.get(j, 1.0)

    def _column(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.b.device).to(self.b.dtype)[:, None]
