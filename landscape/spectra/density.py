"""The spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.progress import Bar
from landscape.results import SpectralDensity
from landscape.results.atoms import OTHERS
from landscape.results.partial import Partial
from landscape.results.provenance import Cost, collect
from landscape.seeds import check_seed, rademacher
from landscape.spectra.identity import agree, moments
from landscape.spectra.lanczos import Krylov
from landscape.spectra.operators import Operator

_ARRAYS = ("nodes", "weights", "residuals", "crossed")


def spectral_density(
    op: Any,
    *,
    probes: int = 8,
    steps: int = 80,
    seed: int = 0,
    extend: SpectralDensity | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> SpectralDensity:
    """Estimate how the eigenvalues of a symmetric operator are distributed.

    Parameters
    ----------
    op : operator or matrix, shape (n, n)
        Any symmetric object with ``@`` and ``.shape``.
    probes : int
        Random vectors; bands need at least 2.
    steps : int
        Lanczos steps for each; capped at n.
    seed : int
        Probe i is a function of (seed, i): more probes extend fewer.
    extend : SpectralDensity, optional
        An earlier result, computed or loaded, of the same operator with the same ``seed`` and ``steps``, finished or
        interrupted: its probes are kept and only those missing up to ``probes`` are run. One product verifies that the
        operator is the same.
    out : path, optional
        Write the result there (``.nc``). Whole probes are kept beside it meanwhile: after a kill the same call goes on
        from them, at the cost of one more product.
    overwrite : bool
        Replace ``out`` if it is there.

    Returns
    -------
    SpectralDensity
        Nodes and weights; ``density(grid)``, ``cdf(grid)``, ``bands(grid)``, ``atoms``, ``moment(j)`` and
        ``outliers()`` need no further products. After Ctrl-C, the probes so far.

    Raises
    ------
    InputError
        When ``extend`` is of another operator, seed or number of steps.
    NonFiniteError
        When a product is not finite.

    Notes
    -----
    ``probes * steps`` products. Memory: ``steps + 3`` vectors. Each probe's quadrature has the exact
    moments vᵀAʲv up to degree 2·steps-1. An eigenvalue that every probe has resolved, and whose multiplicity their
    overlaps tell, becomes an atom of its exact share; this takes its random weight, the largest part of the variance,
    out of everything. The rest is smoothed at widths set by the Ritz residuals and gaps, at any scale. Steps resolve
    structure, probes narrow the bands.

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
    rows: list[dict[str, np.ndarray]] = []
    before = 0
    partial = Partial(out, _key(operator, steps, seed), overwrite=overwrite)
    with Cost() as cost, Bar("spectral density", total=probes * steps) as bar:
        if partial.found and _same_operator(operator, partial.found, seed):
            rows, before = _rows(partial.found), int(partial.found["matvecs"])
        if extend is not None and len(earlier := _earlier(operator, extend, steps, seed)) > len(rows):
            rows, before = earlier, extend.matvecs
        bar.advance(min(len(rows), probes) * steps)

        def state() -> dict[str, np.ndarray]:
            return {**_stacked(rows), "matvecs": np.array(before + operator.matvecs)}

        interrupted = False
        try:
            while len(rows) < probes:
                rows.append(_quadrature(operator, steps, seed, len(rows), bar))
                partial.save(state)
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
            partial.save(state, now=True)
    matvecs = before + operator.matvecs
    message = f"{len(rows)} probe{'s' * (len(rows) > 1)} of {steps} Lanczos step{'s' * (steps > 1)}"
    if interrupted:
        message = f"stopped by Ctrl-C after {len(rows)} of {probes} probes; extend= or the same call with out= goes on"
    found = SpectralDensity.make(
        **_stacked(rows),
        n=operator.n,
        matvecs=matvecs,
        status="interrupted" if interrupted else "complete",
        message=message,
        provenance=collect(
            cost, matvecs=matvecs, estimator="stochastic Lanczos quadrature, signs", probe_seed=seed,
            steps=steps, **operator.provenance(),
        ),
        eps=operator.eps,
    )  # fmt: skip
    if not interrupted:
        partial.finish(found)
    return found


def _quadrature(operator: Operator, steps: int, seed: int, probe: int, bar: Bar) -> dict[str, np.ndarray]:
    """Return nodes, weights, residuals and the weights between probes; NaN ends a short row."""
    krylov = Krylov(operator, steps, _start(operator, seed, probe), seed)
    while krylov.filled < steps and krylov.count > krylov.filled:  # else the probe's whole subspace is found
        krylov.extend()
        bar.advance(1, note=f"probe {probe + 1}")
    nodes, coefficients, residuals = krylov.ritz()
    found = {
        "nodes": nodes,
        "weights": coefficients[0] ** 2,
        "residuals": residuals,
        "crossed": np.full((OTHERS, len(nodes)), np.nan),
    }
    for other in range(min(probe, OTHERS)):
        overlaps = krylov.basis[: len(nodes)] @ _start(operator, seed, other)
        found["crossed"][other] = coefficients[0] * (overlaps.double().cpu().numpy() @ coefficients) / operator.n**0.5
    short = steps - len(nodes)
    for name, row in found.items():
        blank = 0.0 if name == "weights" else np.nan
        found[name] = np.concatenate([row, np.full((*row.shape[:-1], short), blank)], axis=-1)
    return found


def _start(operator: Operator, seed: int, probe: int) -> Any:
    return rademacher(operator.n, seed, probe, dtype=operator.dtype, device=operator.device)


def _rows(arrays: Any) -> list[dict[str, np.ndarray]]:
    return [{name: np.asarray(arrays[name])[i] for name in _ARRAYS} for i in range(len(arrays["nodes"]))]


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in _ARRAYS}


def _key(operator: Operator, steps: int, seed: int) -> dict[str, Any]:
    """Return what decides which probes these are; that the operator is the same, one product shows."""
    return {"question": "spectral density", "n": operator.n, "dtype": str(operator.dtype), "steps": steps, "seed": seed}


def _earlier(operator: Operator, extend: Any, steps: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Return the probes of an earlier result, if they are those that would be run."""
    if not isinstance(extend, SpectralDensity):
        raise InputError("extend must be a spectral density", got=type(extend).__name__,
                         fix="pass what ls.spectral_density returned, or ls.load of its file")  # fmt: skip
    drawn = extend.provenance.get("probe_seed")
    for name, wanted, given in (
        ("size", operator.n, extend.n),
        ("steps", steps, int(extend.dataset.sizes["step"])),
        ("seed", seed, drawn),
    ):
        if wanted != given:
            raise InputError(
                f"extend must be of the same operator, steps and seed: the {name} differs",
                got=f"{given} instead of {wanted}",
                why="its probes would not be those that are missing",
                fix=f"pass {name}={given}" if name != "size" else "pass the operator that it was computed of",
            )
    arrays = {name: extend.dataset[name].to_numpy() for name in _ARRAYS}
    if not _same_operator(operator, arrays, seed):
        raise InputError(
            "extend must be of the same operator",
            got="one whose product with the first probe differs",
            why="the probes would be of two spectra",
            fix="pass the operator that it was computed of, at the same parameters and on the same data",
        )
    return _rows(arrays)


def _same_operator(operator: Operator, arrays: Any, seed: int) -> bool:
    """Whether vᵀAv and |Av|² of the first probe are those of its quadrature; one product."""
    nodes, weights = np.nan_to_num(arrays["nodes"][0]), arrays["weights"][0]
    earlier = [(weights * nodes).sum(), (weights * nodes**2).sum()]
    return agree(earlier, moments(operator, _start(operator, seed, 0)), operator.eps)
