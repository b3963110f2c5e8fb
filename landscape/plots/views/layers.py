"""Eigenvalues by layer, which layers are coupled, and what layers on their own do not see."""

from __future__ import annotations

import numpy as np

from landscape.plots.scales import Axis, even_values, text, typeset
from landscape.plots.sheets import Bars, Matrix, Reference, Sheet
from landscape.plots.style import SKY, check_size
from landscape.plots.titles import heading
from landscape.plots.views.family import below, eigenvalues, numbers_of, plural
from landscape.results import LayerCurvature
from landscape.results.base import number

_NAMED, _NUMBERED, _LETTERS = 30, 8, 16


def layers(result: LayerCurvature, *, title: str | None = None, size: tuple[float, float] | None = None) -> Sheet:
    """Draw each block's eigenvalues in the order of the network, the coupling of blocks, and the share within them."""
    found = numbers_of(result, eigenvalues(list(result.members.values())))
    rows = len(found.names) if isinstance(found, Bars) else 12
    what = f"Curvature of {len(result)} {plural(result.by, len(result))} and of the whole"
    height = max(3.4, 0.6 + 0.27 * rows)
    within = _within(result)
    low = 0.9 + 0.27 * len(within.names)
    return Sheet(
        *heading(result, what, title),
        [[found, _coupling(result)], [within, None]],
        check_size(size, (12.5, height + low + 1.6)),
        [1.15, 1.0],
        [height, low],
    )


def _coupling(result: LayerCurvature) -> Matrix:
    values, count = result.coupling, len(result)
    names, axis = list(result), ""
    if count > _NAMED or max(map(len, names)) > _LETTERS:
        stride = 1 if count <= _NAMED else 10
        names = [str(i + 1) if i == 0 or (i + 1) % stride == 0 else "" for i in range(count)]
        axis = f"{result.by}, counted from the first"
    blank = np.zeros(values.shape, bool)
    top = float(np.nanmax(values, initial=0.0)) or 1.0
    return Matrix(values, names, names, 0.0, top, "share of |A|²", ~np.isfinite(values), blank,
                  count <= _NUMBERED, f"Between which {plural(result.by, 2)} the squares of A lie",
                  "the diagonal is what each sees alone", axis, ramp="share")  # fmt: skip


def _within(result: LayerCurvature) -> Bars:
    """Return the shares that lie within blocks: of all squares, and of each top eigenvalue."""
    low, high = result.missed_interval()
    shares = np.concatenate([[1 - result.missed], result.top_within])
    nothing = np.full(len(result.top_within), np.nan)
    texts = [typeset(number(1 - result.missed, result.missed_stderr))] + [
        typeset(f"{share:.1%} of {value:.4g}")
        for share, value in zip(result.top_within, result.top_values, strict=True)
    ]
    bottom, top = float(np.nanmin(shares, initial=0.0)), float(np.nanmax(shares, initial=1.0))
    marks = even_values(bottom, top, 5)
    return Bars(
        ["all of |A|²", *[f"λ{below(i + 1)} of the whole" for i in range(len(result.top_within))]],
        shares,
        np.concatenate([[1 - high], nothing]),
        np.concatenate([[1 - low], nothing]),
        Axis(
            "share",
            limits=(1.02 * bottom, 1.02 * top + 0.4 * (top - bottom)),
            ticks={float(v): text(float(v)) for v in marks if bottom <= v <= top},
        ),
        texts,
        colours=[SKY] * len(shares),
        references=[Reference(0.0, along="x")],
        title=f"How much lies within {plural(result.by, 2)} (95 % interval)",
    )
