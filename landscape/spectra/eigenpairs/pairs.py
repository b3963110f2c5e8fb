"""From Ritz pairs to eigenpairs with true residuals, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from landscape.results.outliers import ROUNDING
from landscape.seeds import rademacher
from landscape.spectra.eigenpairs.certainty import Look
from landscape.spectra.eigenpairs.selection import shown
from landscape.spectra.operators import Operator


@dataclass
class Pairs:
    """Eigenpairs as they are returned: ``values`` (k,), ``vectors`` (n, k), ``residuals`` (k,), and which are what."""

    values: np.ndarray
    vectors: torch.Tensor
    residuals: np.ndarray
    sure: np.ndarray  # that none is missing above it
    tol: float
    floor: float
    products: int  # made for the residuals
    blind: np.ndarray  # that rounding does not let this be known
    noise: np.ndarray  # what of the residuals is the operator's, which is not quite symmetric, linear or repeatable

    @property
    def zero(self) -> np.ndarray:
        """Which are zero to rounding."""
        return (np.abs(self.values) <= self.floor) & (self.residuals <= self.floor)

    @property
    def exact(self) -> np.ndarray:
        """Which residuals are small enough."""
        return (self.residuals <= self.tol * np.abs(self.values)) & ~self.zero

    @property
    def converged(self) -> np.ndarray:
        """Which are the values asked for, to the tolerance."""
        return self.exact & self.sure

    def status(self, operator: Operator, interrupted: bool, matvecs: int) -> tuple[str, str]:
        """Return the status and its words."""
        k, good = len(self.values), int(self.converged.sum())
        zero, hidden = int(self.zero.sum()), self.exact & ~self.sure
        unsure = int(hidden.sum())
        limited = int(((self.residuals <= self.floor) & ~self.exact & ~self.zero).sum())
        parts = [f"{good} of {k} pairs have a relative residual of at most {self.tol:g}"]
        if zero:
            parts.append(f"{zero} are zero to rounding, which no relative tolerance can tell from noise")
        if limited:
            precision = str(operator.dtype).removeprefix("torch.")
            remedy = "use float64, or loosen tol" if operator.dtype == torch.float32 else "loosen tol"
            parts.append(f"{limited} are as exact as {precision} makes them beside the largest value: {remedy}")
        if unsure:
            remedy = "raise max_matvecs or basis, loosen tol, or use float64"
            if self.blind[hidden].all():
                remedy = "rounding hides them: use float64, or loosen tol"
            parts.append(f"{unsure} are eigenvalues, but others may be missing above them: {remedy}")
        noisy = (self.noise > self.tol * np.abs(self.values)) & (self.residuals > self.floor) & ~self.exact
        if noisy.any():
            parts.append(f"of {int(noisy.sum())} the residual is noise of the operator, whose products are symmetric, "
                         f"linear and repeatable only to {(self.noise / np.abs(self.values))[noisy].max():.1g} of the "
                         "value, and more of them do not help: make it so, use float64, or loosen tol")  # fmt: skip
        if left := k - good - zero - limited - unsure - int(noisy.sum()):
            parts.append(f"{left} are not converged: raise max_matvecs or basis, loosen tol, or use float64")
        message = "; ".join(parts) + f" ({matvecs} products)"
        if interrupted:
            return "interrupted", "stopped by Ctrl-C: " + message
        return ("converged" if good == k else "not converged"), message


def pairs_of(look: Look, operator: Operator, seed: int, *, checked: bool = True) -> Pairs:
    """Return the wanted pairs of ``look`` with their true residuals.

    A Ritz vector v is a combination of vectors that were multiplied, so that A v is the same combination of their
    products, and the residual is known without another one, up to rounding and to whatever of A is not linear. One
    product with a random combination of all the pairs measures both. The pairs for which that could decide
    between converged and not are multiplied themselves, in one block. Not ``checked``, nothing is multiplied.
    """
    tol, values, residuals, before = look.tol, look.theta.copy(), look.estimates.copy(), operator.matvecs
    chances, noise = look.chances(), look.noise
    sure = _settled(look) & (chances <= 1)
    vectors = look.krylov.vectors(look.coefficients[:, look.wanted])
    floor = ROUNDING * operator.eps * max(look.krylov.scale, float(np.abs(values).max()))
    if checked:
        error = _unlike(look, operator, vectors, seed)  # of all together: no single one is likely to be worse
        target = tol * np.abs(values)
        doubtful = (residuals <= target) & (np.hypot(residuals, error) > target)
        residuals, noise = np.hypot(residuals, error), np.hypot(noise, error)
        if doubtful.any():
            rows = torch.from_numpy(np.flatnonzero(doubtful)).to(vectors.device)
            values[doubtful], vectors[:, rows], residuals[doubtful] = _measured(operator, vectors[:, rows])
    found = shown(values, look.which)
    rows = torch.from_numpy(found).to(vectors.device)
    blind, made = np.isinf(chances), operator.matvecs - before
    return Pairs(
        values[found], vectors[:, rows], residuals[found], sure[found], tol, floor, made, blind[found], noise[found]
    )


def _unlike(look: Look, operator: Operator, vectors: torch.Tensor, seed: int) -> float:
    """Return how far one product with a random combination is from what the residuals by linearity say."""
    signs = rademacher(vectors.shape[1], seed, 2_000_000, dtype=operator.dtype, device=operator.device)
    left = look.krylov.combined(look.left[:, look.wanted])
    product = (operator @ (vectors @ signs)[:, None])[:, 0]
    return operator.norm(product - vectors @ (signs * torch.from_numpy(look.theta).to(vectors)) - left @ signs)


def _measured(operator: Operator, vectors: torch.Tensor) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Return Rayleigh quotients, unit vectors and residuals, one product each."""
    lengths = [operator.norm(v) for v in vectors.T]
    vectors = vectors / torch.tensor(lengths, dtype=vectors.dtype, device=vectors.device)
    products = operator @ vectors
    values = np.array([operator.dot(v, p) for v, p in zip(vectors.T, products.T, strict=True)])
    rest = products - vectors * torch.from_numpy(values).to(vectors)
    return values, vectors, np.array([operator.norm(r) for r in rest.T])


def _settled(look: Look) -> np.ndarray:
    """Return for each pair whether all that are wanted more are known well enough to stand above it."""
    theta, estimates = look.theta, look.estimates
    apart = np.abs(theta[:, None] - theta[None, :])
    above = np.tri(len(theta), k=-1, dtype=bool)
    found: np.ndarray = (look.met[None, :] | (estimates[None, :] <= apart) | ~above).all(axis=1)
    return found
