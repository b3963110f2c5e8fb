"""Questions asked of a symmetric operator: eigenpairs, trace, spectral density."""

from landscape.spectra import subspace
from landscape.spectra.density import spectral_density
from landscape.spectra.each import each
from landscape.spectra.eigsh import eigsh
from landscape.spectra.layers import eigsh_by_layer
from landscape.spectra.trace import trace

__all__ = ["each", "eigsh", "eigsh_by_layer", "spectral_density", "subspace", "trace"]
