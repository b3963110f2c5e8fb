"""The search for eigenpairs: extend, look, restart, until every wanted pair is found and none can be missing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from landscape.progress import Bar
from landscape.results.outliers import ROUNDING
from landscape.spectra.eigenpairs.certainty import Look
from landscape.spectra.eigenpairs.selection import order
from landscape.spectra.lanczos import Krylov

# A probe comes when every wanted residual is within so many tolerances, and below the second number of its value:
# soon enough that its products help to converge the pairs, not so soon that they are not the pairs yet.
EARLY, EARLIEST = 30.0, 0.05

# How many probes are of use: each may bring up another copy, or follow a restart. More fight rounding.
PROBES_A_PAIR, PROBES = 2, 30


def search(krylov: Krylov, k: int, which: str, tol: float, budget: int, bar: Bar, keep: Callable[[], None]) -> None:
    """Grow ``krylov`` until the ``k`` wanted pairs are found or ``budget`` products are made.

    ``keep`` is called whenever the state is whole.
    """
    operator, shown = krylov.operator, 0.0

    def room() -> int:
        return (budget - operator.matvecs) // operator.cost

    while room() > 0:
        if krylov.filled >= k and (krylov.full or not krylov.width):
            look = Look.at(krylov, k, which, tol)
            done = 100 * _progress(look)
            bar.advance(max(0.0, done - shown), note=f"{int(look.met.sum())} of {k}, {operator.matvecs} products")
            shown = max(shown, done)
            if krylov.filled == operator.n or (_nearly(look) and _finished(look)):
                return
            if look.lacking or krylov.full:
                if krylov.full:
                    _restart(krylov, look)
                if look.lacking:
                    krylov.probe()
                krylov.width = krylov.count - krylov.filled  # decided: who goes on from here does not look again
            elif not krylov.lazy and look.met.any():
                krylov.turn(look.missing(), **({"short": 1.0} if look.met.all() else {}))
        sweep = operator.matvecs + operator.cost * (krylov.size // 2 if krylov.lazy else 1)
        while not krylov.full and room() > 0 and operator.matvecs < sweep:
            krylov.extend(room())
        krylov.settle()
        keep()


def _nearly(look: Look) -> bool:
    """Whether the pairs are known well enough to ask what may be missing."""
    near = np.minimum(EARLY * look.target, np.maximum(look.target, EARLIEST * np.abs(look.theta)))
    return bool(((look.estimates <= np.maximum(near, look.krylov.floor)) | look.stuck).all())


def _finished(look: Look) -> bool:
    """Whether every pair is met, and every one that will be called converged is sure; or no more can be done."""
    zero = np.abs(look.theta) <= ROUNDING * look.krylov.operator.eps * look.krylov.scale
    asked = (look.estimates <= look.target) & ~zero
    chances = look.chances()
    told = bool(((chances <= 1) | np.isinf(chances))[asked].all())
    many = len(look.krylov.probes) >= PROBES_A_PAIR * len(look.wanted) + PROBES
    return bool((look.met | look.stuck).all()) and (told or many)


def _restart(krylov: Krylov, look: Look) -> None:
    """Keep the wanted Ritz pairs and as many more as leave half of the basis free."""
    k = len(look.wanted)
    kept = min(max(k + 2, (k + krylov.size) // 2), krylov.size - 1, krylov.filled - 1)
    krylov.restart(look.values, look.coefficients, order(look.values, look.which)[:kept], look.levels)


def _progress(look: Look) -> float:
    """Return how far the worst estimate has come from |A| to its target, on a log scale, in [0, 1]."""
    tiny = 1e-300
    scale = max(look.krylov.scale, tiny)
    way = np.log(scale) - np.log(np.maximum(look.target, tiny))
    gone = np.log(scale) - np.log(np.maximum(look.estimates, tiny))
    return float(np.clip((gone / np.maximum(way, 1e-12)).min(), 0, 1))
