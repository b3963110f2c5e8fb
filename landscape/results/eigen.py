"""Eigenpairs with their residuals."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.results.base import FromProducts, Result, host
from landscape.results.outliers import Outliers, among_pairs


class EigenResult(FromProducts):
    """Eigenpairs with their true residuals.

    ``values`` (k,), ``residuals`` (k,) and ``converged`` (k,) are NumPy arrays in the order asked for
    (``which``): the largest first for ``"LA"``, the smallest first for ``"SA"``, the nearest first for a shift.
    ``vectors`` is an (n, k) tensor, one unit eigenvector a column. ``residuals`` are ``|A v - λ v|``: there is a
    true eigenvalue within that distance of each value.
    """

    kind = "eigenpairs"

    @classmethod
    def make(
        cls,
        values: Any,
        residuals: Any,
        converged: Any,
        vectors: Any,
        *,
        which: str,
        sigma: float | None = None,
        tol: float,
        matvecs: int,
        status: str,
        message: str,
        provenance: dict[str, Any],
    ) -> EigenResult:
        """Label the arrays; ``vectors`` stay on their device until saved."""
        result = cls._build(
            {
                "values": (
                    "pair",
                    host(values, np.float64),
                    {"long_name": "eigenvalue", "units": "loss / parameter²"},
                ),
                "residuals": ("pair", host(residuals, np.float64), {"long_name": "|Av - λv|"}),
                "converged": ("pair", host(converged, bool)),
            },
            {"pair": np.arange(len(values))},
            status=status,
            message=message,
            provenance=provenance,
            which=which,
            tol=tol,
            matvecs=matvecs,
            n=int(vectors.shape[0]),
            **({} if sigma is None else {"sigma": float(sigma)}),
        )
        result._cache["vectors"] = vectors
        return result

    @property
    def values(self) -> np.ndarray:
        """The eigenvalues, float64, shape (k,)."""
        return self.dataset["values"].to_numpy()

    @property
    def residuals(self) -> np.ndarray:
        """The true residual norms, float64, shape (k,)."""
        return self.dataset["residuals"].to_numpy()

    @property
    def converged(self) -> np.ndarray:
        """Pair by pair: whether the residual is at most ``tol`` |λ|, and no eigenvalue before it can be missing."""
        return self.dataset["converged"].to_numpy()

    @property
    def vectors(self) -> Any:
        """The eigenvectors as a torch tensor, shape (n, k)."""
        if "vectors" not in self._cache:
            import torch

            if "vectors" not in self.dataset:
                raise InputError(
                    "the result holds no eigenvectors",
                    got="a file saved without eigenvectors",
                    fix="compute it again, and save it with vectors=True",
                )
            self._cache["vectors"] = torch.from_numpy(self.dataset["vectors"].to_numpy())
        return self._cache["vectors"]

    def outliers(self, end: str | None = None, expected: int | None = None) -> Outliers:
        """Return how many eigenvalues stand apart at the ``"upper"`` or ``"lower"`` end, beside those that follow.

        The rule and its reference are those of :func:`landscape.results.outliers.count_outliers`; it needs some 10 or
        20 converged values beyond the gap. How many are ``expected`` may be said beforehand.
        """
        return among_pairs(self.values, self.converged, str(self.dataset.attrs["which"]), end, expected)

    def save(self, path: Any, *, vectors: bool = True) -> Any:
        """Write to one netCDF file; ``vectors=False`` leaves the n by k eigenvectors out."""
        labelled = self.dataset.drop_vars("vectors", errors="ignore")
        if vectors:
            labelled = labelled.assign(vectors=(("parameter", "pair"), host(self.vectors)))
        return Result.save(EigenResult(labelled), path)

    def summary(self) -> dict[str, str]:
        """Return each eigenvalue with its residual."""
        return {
            f"λ{i + 1}": f"{value:.6g}  (residual {residual:.1e}{'' if good else ', not converged'})"
            for i, (value, residual, good) in enumerate(zip(self.values, self.residuals, self.converged, strict=True))
        }
