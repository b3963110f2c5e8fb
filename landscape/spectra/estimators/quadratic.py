"""Functions of the operator that its products give without further approximation: A², A³ and what is made of them."""

from __future__ import annotations

import numpy as np
import torch

from landscape.spectra.estimators.deflation import Deflation
from landscape.spectra.estimators.measures import Measure
from landscape.spectra.estimators.work import CHUNK


def _dots(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Return the inner products of the columns of ``a`` and ``b``, shape (columns, 1), in float64."""
    found = [(x.double() @ y.double()).cpu() for x, y in zip(a.unbind(1), b.unbind(1), strict=True)]
    return torch.stack(found).numpy()[:, None]


class Square(Measure):
    """tr A² from |Bv|², one product a probe."""

    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return |A|² - |B|²."""
        return np.array([0.0 if deflation is None else deflation.norm2()])

    def rows(self, probes: torch.Tensor, rest: torch.Tensor) -> np.ndarray:
        """Return |Bv|²."""
        return _dots(rest, rest)


class Norm(Square):
    """The Frobenius norm."""

    def value(self, means: np.ndarray) -> np.ndarray:
        """Return the root."""
        return np.sqrt(np.maximum(means[..., 0], 0.0))


class Participation(Measure):
    """(tr A)² / tr A², both from the same products."""

    @property
    def guide(self) -> Measure:
        """The square: a pilot knows the ratio's error too badly."""
        return Square(self.work)

    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return the known parts of tr A and tr A²."""
        return np.zeros(2) if deflation is None else np.array([np.trace(deflation.T), deflation.norm2()])

    def rows(self, probes: torch.Tensor, rest: torch.Tensor) -> np.ndarray:
        """Return vᵀBv and |Bv|²."""
        return np.concatenate([_dots(probes, rest), _dots(rest, rest)], axis=1)

    def value(self, means: np.ndarray) -> np.ndarray:
        """Return the ratio; 0 for the zero operator."""
        squares = np.maximum(means[..., 1], 0.0)
        return np.divide(means[..., 0] ** 2, squares, out=np.zeros_like(squares), where=squares > 0)


class Cube(Measure):
    """tr A³ from (Bv)ᵀB(Bv), two products a probe."""

    per_probe = 2
    deflation: Deflation | None = None

    @property
    def guide(self) -> Measure:
        """The square, which needs no product that the pilot has not made."""
        return Square(self.work)

    def known(self, deflation: Deflation | None) -> np.ndarray:
        """Return tr A³ - tr B³."""
        self.deflation = deflation
        return np.array([0.0 if deflation is None else deflation.cube(self.work)])

    def rows(self, probes: torch.Tensor, rest: torch.Tensor) -> np.ndarray:
        """Return (Bv)ᵀB(Bv)."""
        found = []
        for part in rest.split(CHUNK, dim=1):
            again = self.work.multiply(part) if self.deflation is None else self.deflation.multiply(self.work, part)
            found.append(_dots(part, again))
        return np.concatenate(found)
