"""Questions asked of a symmetric operator: eigenpairs, trace, diagonal, spectral density."""

from landscape.spectra import subspace
from landscape.spectra.density import spectral_density
from landscape.spectra.diagonal import diagonal
from landscape.spectra.each import each
from landscape.spectra.eigsh import eigsh
from landscape.spectra.layers import eigsh_by_layer
from landscape.spectra.norms import effective_rank, frobenius_norm
from landscape.spectra.trace import trace

__all__ = [
    "diagonal",
    "each",
    "effective_rank",
    "eigsh",
    "eigsh_by_layer",
    "frobenius_norm",
    "spectral_density",
    "subspace",
    "trace",
]
