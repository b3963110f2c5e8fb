"""Axes: linear, logarithmic, and one that is linear near zero and logarithmic beyond, with its ticks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Symlog:
    """Linear within ±``threshold``, logarithmic beyond: one unit for the linear part, one for each decade."""

    threshold: float

    def forward(self, values: Any) -> np.ndarray:
        """Return where ``values`` lie along the axis."""
        ratio = np.asarray(values, float) / self.threshold
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.sign(ratio) * (1 + np.log10(np.abs(ratio)))
        return np.where(np.abs(ratio) <= 1, ratio, far)

    def inverse(self, places: Any) -> np.ndarray:
        """Return the values at ``places`` along the axis."""
        places = np.asarray(places, float)
        far = np.sign(places) * 10.0 ** (np.minimum(np.abs(places), 300.0) - 1)
        return np.where(np.abs(places) <= 1, places, far) * self.threshold

    def ticks(self, low: float, high: float, most: int = 9) -> np.ndarray:
        """Return values to label: zero, the threshold and whole decades, at most about ``most`` of them."""
        first = int(np.floor(np.log10(self.threshold))) + 1
        last = int(np.floor(np.log10(max(abs(low), abs(high), self.threshold)) + 1e-9))
        decades = np.arange(first, last + 1)
        sides = (low < 0) + (high > 0)
        stride = max(1, int(np.ceil(len(decades) * sides / most)))
        sizes = 10.0 ** decades[::-1][::stride].astype(float)
        if len(sizes) == 0:
            sizes = np.array([self.threshold])
        found = np.concatenate([-sizes[::1], [0.0], sizes[::-1]])
        return found[(found >= low) & (found <= high)]


@dataclass(frozen=True)
class Axis:
    """What stands along an axis.

    Attributes
    ----------
    label : str
        The quantity, with its unit.
    scale : "linear", "log" or Symlog
        How values are placed.
    limits : (low, high), optional
        The visible range, in values.
    ticks : dict, optional
        Value -> text, where the backend's own ticks would not do.
    """

    label: str = ""
    scale: str | Symlog = "linear"
    limits: tuple[float, float] | None = None
    ticks: dict[float, str] = field(default_factory=dict)

    def place(self, values: Any) -> np.ndarray:
        """Return ``values`` as a backend without symlog axes must be given them."""
        array = np.asarray(values, float)
        return self.scale.forward(array) if isinstance(self.scale, Symlog) else array


def text(value: float) -> str:
    """Return ``value`` in at most four digits, the way a person would write it."""
    if value == 0:
        return "0"
    if not np.isfinite(value):
        return str(value)
    if 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.4g}'):.10g}".replace("-", "−")
    return typeset(f"{value:.3g}")


def typeset(numbers: str) -> str:
    """Return ``numbers`` with minus signs, and with powers of ten as 2.5·10⁷ where Python writes 2.5e+07."""
    return _POWER.sub(_power, numbers).replace("-", "−")


_POWER = re.compile(r"(\d+(?:\.\d+)?)e([+-]\d+)")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(found: re.Match[str]) -> str:
    lead, exponent = found.groups()
    return f"{'' if lead == '1' else f'{lead}·'}10{str(int(exponent)).translate(_RAISED)}"


def symlog_axis(
    label: str, threshold: float, low: float, high: float, *, inside: str = "", margin: float = 0.04
) -> Axis:
    """Return a symlog axis from ``low`` to ``high``, with a small margin as a share of its length, and its ticks named.

    A second line of its label says where it is linear; ``inside`` is what lies there, in words.
    """
    scale = Symlog(threshold)
    start, end = scale.forward([low, high])
    beyond = margin * max(end - start, 1e-9)
    low, high = (float(v) for v in scale.inverse([start - beyond, end + beyond]))
    linear = f"linear within ±{text(float(f'{threshold:.2g}'))}{f' ({inside})' if inside else ''}, logarithmic beyond"
    return Axis(f"{label}\n{linear}", scale, (low, high), {float(v): text(float(v)) for v in scale.ticks(low, high)})


def is_wide(values: Any, decades: float = 1.0) -> bool:
    """Whether finite ``values`` are all positive and span more than ``decades``."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return bool(len(finite) and finite.min() > 0 and np.log10(finite.max() / finite.min()) > decades)


def even_values(low: float, high: float, about: int) -> np.ndarray:
    """Return evenly spaced round values that cover [low, high], about ``about`` of them."""
    if not high > low:
        half = max(abs(low), 1.0) * 1e-3
        low, high = low - half, high + half
    rough = (high - low) / max(about, 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda m: abs(np.log(m * power / rough)))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return np.arange(first, last + 1) * step


def log_ticks(low: float, high: float, most: int = 8) -> np.ndarray:
    """Return 1, 2, 5 times powers of ten within [low, high], or only the powers when there are many."""
    exponents = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for marks in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        found = np.array([m * 10.0**e for e in exponents for m in marks])
        found = found[(found >= low * 0.999) & (found <= high * 1.001)]
        if len(found) <= most:
            return found
    return found[:: int(np.ceil(len(found) / most))]
