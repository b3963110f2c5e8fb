"""What the gradients of single examples say together."""

from __future__ import annotations

import numpy as np

from landscape.errors import InputError
from landscape.plots.scales import Axis, is_wide
from landscape.plots.sheets import Bars, Reference, Sheet, Table
from landscape.plots.style import check_size
from landscape.plots.titles import heading, shorten
from landscape.results.gradients import GradientStatistics

#: What each quantity is called in a table.
WORDS = {
    "coherence": "coherence",
    "alpha": "coherence / examples",
    "diversity": "gradient diversity",
    "gradient_norm2": "|mean gradient|²",
    "noise_trace": "gradient variance, tr Σ",
    "noise_scale": "noise scale (examples)",
    "gsnr": "gradient signal / noise",
}


def gradients(
    result: GradientStatistics, *, top: int = 40, title: str | None = None, size: tuple[float, float] | None = None
) -> Sheet:
    """Draw coherence by parameter, in the network's order, beside every quantity with its standard error.

    Of more than ``top`` parameters the highest and the lowest halves are shown.
    """
    if not isinstance(top, int) or top < 2:
        raise InputError("top must be at least 2 parameters", got=top, fix="pass for example top=40")
    values = result.dataset["coherence_by_parameter"].to_numpy()
    names = [str(name) for name in result.dataset["parameter"].to_numpy()]
    chosen = np.arange(len(values))
    note = "Coherence by parameter"
    if len(values) > top:
        order = np.argsort(values, kind="stable")
        chosen = np.sort(np.concatenate([order[: top // 2], order[-(top - top // 2) :]]))
        note = f"Coherence by parameter: the {top // 2} lowest and {top - top // 2} highest of {len(values)}"
    shown = values[chosen]
    nothing = np.full(len(shown), np.nan)
    dots = Bars(
        [shorten(names[i]) for i in chosen],
        shown,
        nothing,
        nothing,
        Axis(
            f"coherence (1: unrelated examples, {result.examples}: identical ones)",
            "log" if is_wide(shown) else "linear",
        ),
        dots=True,
        references=[Reference(1.0, "orthogonal gradients", along="x")],
        title=note,
    )
    table = Table(
        [(WORDS.get(name, name.replace("_", " ")), text) for name, text in result.summary().items()],
        title="All parameters together",
        note="± one standard error (jackknife)",
    )
    height = max(4.4, 1.7 + 0.25 * len(shown))
    what = f"Gradients of {result.examples} examples"
    return Sheet(*heading(result, what, title), [[dots, table]], check_size(size, (11.0, height)), [1.5, 1.0])
