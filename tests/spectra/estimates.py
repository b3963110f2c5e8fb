"""Operators for tests of estimates: spectra on which intervals are hard to get right, and ways for work to end."""

from __future__ import annotations

import torch

from tests.spectra.matrices import with_spectrum

N = 60


def _powers(n: int, exponent: float) -> torch.Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64) ** -exponent


#: name -> eigenvalues and dtype
SPECTRA = {
    "flat": (torch.linspace(-0.5, 3, N).double(), torch.float64),
    "power law": (_powers(N, 1.0), torch.float64),
    "one outlier": (torch.cat([torch.tensor([50.0]), torch.full((N - 1,), 0.02)]).double(), torch.float64),
    "network": (torch.cat([torch.linspace(50, 10, 10).double(), 0.5 * _powers(N - 10, 0.7)]), torch.float32),
    "trace near zero": (torch.linspace(-1, 1, N).double() + 0.01, torch.float64),
}


def matrix(name: str) -> torch.Tensor:
    values, dtype = SPECTRA[name]
    return with_spectrum(values, dtype=dtype)


def slack(found: torch.Tensor) -> float:
    """Return what the rounding of a dense product of ``found`` may come to in its trace."""
    return 100 * torch.finfo(found.dtype).eps * float(torch.linalg.matrix_norm(found))


class Killed(BaseException):
    """What cannot be caught: it stands for kill -9."""


class Ending:
    """A matrix that ends with ``end`` at one of its products, and says how many it made."""

    def __init__(self, matrix: torch.Tensor, at: int, end: type[BaseException] = KeyboardInterrupt) -> None:
        self.matrix, self.at, self.end = matrix, at, end
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device
        self.products = 0

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        if self.products == self.at:
            self.at = -1
            raise self.end
        self.products += 1
        return self.matrix @ v
