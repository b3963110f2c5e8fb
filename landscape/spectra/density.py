"""The spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import SpectralDensity
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed, rademacher
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator


def spectral_density(op: Any, *, probes: int = 8, steps: int = 80, seed: int = 0) -> SpectralDensity:
    """Estimate how the eigenvalues of a symmetric operator are distributed.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    probes : int
        Random vectors; the band of the density comes from their spread, so at least 2 for one.
    steps : int
        Lanczos steps for each; capped at n.
    seed : int
        Probe i is a function of (seed, i): more probes extend fewer.

    Returns
    -------
    SpectralDensity
        Nodes and weights; ``density(grid)``, ``cdf(grid)`` and ``bands(grid)`` need no further products.

    Notes
    -----
    ``probes * steps`` products. Memory: ``steps + 1`` vectors. Each probe's quadrature has the exact
    moments vᵀAᵏv up to degree 2·steps-1. A node's smoothing width is its Ritz residual, at most the gap
    to its neighbours: converged outliers stay sharp and the bulk is smooth, at any scale.

    References
    ----------
    G. Golub, G. Meurant, Matrices, Moments and Quadrature (2010); B. Ghorbani, S. Krishnan, Y. Xiao,
    An investigation into neural net optimization via Hessian eigenvalue density (2019), arXiv:1901.10159.
    """
    if probes < 1 or steps < 1:
        raise InputError("probes and steps must be at least 1", got=f"{probes} and {steps}", fix="pass 8 and 80")
    operator = Operator(op)
    check_seed(seed)
    steps = min(steps, operator.n)
    shape = (probes, steps)
    nodes, weights, widths = np.full(shape, np.nan), np.zeros(shape), np.full(shape, np.nan)
    done, status, message = 0, "complete", f"{probes} probes of {steps} Lanczos steps"
    with Cost() as cost, Bar("spectral density", total=probes * steps) as bar:
        try:
            for probe in range(probes):
                theta, weight, width = _quadrature(operator, steps, seed, probe, bar)
                count = len(theta)
                nodes[probe, :count], weights[probe, :count], widths[probe, :count] = theta, weight, width
                done += 1
        except KeyboardInterrupt:
            if done == 0:
                raise
            status, message = "interrupted", f"stopped by Ctrl-C after {done} of {probes} probes"
    return SpectralDensity.make(
        nodes[:done],
        weights[:done],
        widths[:done],
        n=operator.n,
        matvecs=operator.matvecs,
        status=status,
        message=message,
        provenance=collect(
            cost, matvecs=operator.matvecs, estimator="stochastic Lanczos quadrature, signs", probe_seed=seed,
            steps=steps, **operator.provenance(),
        ),
    )  # fmt: skip


def _quadrature(
    operator: Operator, steps: int, seed: int, probe: int, bar: Bar
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes, weights and smoothing widths of one probe."""
    start = rademacher(operator.n, seed, probe, dtype=operator.dtype, device=operator.device)
    krylov = Krylov(operator, steps, start, seed)
    for _ in range(steps):
        krylov.extend()
        bar.advance(1, note=f"probe {probe + 1}")
        if krylov.beta == 0:  # the probe's whole subspace is found: its quadrature is exact
            break
    nodes, coefficients, residuals = krylov.ritz()
    gaps = np.gradient(nodes) if len(nodes) > 1 else np.zeros(1)
    return nodes, coefficients[0] ** 2, np.minimum(residuals, gaps)
