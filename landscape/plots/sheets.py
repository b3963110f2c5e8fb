"""What a figure shows, before any library draws it.

A view turns a result into a ``Sheet``: a title and a grid of panels. Each backend paints sheets. Both
therefore show the same numbers, and a new plot is written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from landscape.plots.scales import Axis
from landscape.plots.style import BLUE, LINE, MUTED

GAP = 0.5  # lines between two rows of prose


@dataclass(frozen=True)
class Curve:
    """Points, with or without a line, and how sure they are.

    ``low`` and ``high`` are drawn as a shaded band (``interval="band"``) or as bars
    (``interval="bars"``). ``hollow`` marks points that are not the answer that was asked for.
    """

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    colour: str = BLUE
    line: str = "solid"  # "solid", "dash", "dot" or "" for none
    marker: str = ""  # "", "circle", "cross" or "diamond"
    hollow: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    interval: str = "band"
    stems: bool = False
    width: float = LINE
    opacity: float = 1.0


@dataclass(frozen=True)
class Path:
    """A path through a plane, coloured by step, its start and end marked."""

    x: np.ndarray
    y: np.ndarray
    steps: np.ndarray
    z: np.ndarray | None = None


@dataclass(frozen=True)
class Reference:
    """A thin line at a value that means something."""

    value: float
    text: str = ""
    along: str = "y"  # the axis that the value belongs to
    line: str = "solid"


@dataclass(frozen=True)
class Span:
    """A shaded stretch of the x axis."""

    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Curves:
    """Curves over two axes."""

    x: Axis
    y: Axis
    curves: list[Curve] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    path: Path | None = None
    title: str = ""
    note: str = ""
    remark: str = ""  # words in a free corner of the panel
    legend: bool = True  # otherwise the labels stand at another panel, or are too many


@dataclass(frozen=True)
class Bars:
    """Named values, one a row from the top, with intervals; as bars from zero or as dots."""

    names: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    axis: Axis
    texts: list[str] | None = None
    dots: bool = False
    colours: list[str] | None = None
    references: list[Reference] = field(default_factory=list)
    title: str = ""


@dataclass(frozen=True)
class Matrix:
    """A labelled matrix of numbers; ``greyed`` cells carry no information, ``marked`` cells matter."""

    values: np.ndarray
    rows: list[str]
    columns: list[str]
    low: float
    high: float
    label: str
    greyed: np.ndarray
    marked: np.ndarray
    show_numbers: bool = True
    title: str = ""
    note: str = ""
    axis: str = ""  # what the names on both axes are
    compact: bool = False  # one small panel among others: its colour bar stays within the panel
    ramp: str = "diverging"


@dataclass(frozen=True)
class Plane:
    """A metric over a plane.

    ``colour`` is what the colours and levels count in: the value, its logarithm, or the place between
    levels given by hand; ``levels``, ``low`` and ``high`` are in the same count, and ``ticks`` names
    places along it with values.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    colour: np.ndarray
    low: float
    high: float
    levels: np.ndarray
    ticks: dict[float, str]
    x_axis: Axis
    y_axis: Axis
    label: str
    not_finite: np.ndarray
    not_evaluated: np.ndarray
    filled: bool = True  # contours; otherwise one coloured cell a point
    path: Path | None = None
    centre: bool = True
    title: str = ""
    own_scale: bool = True  # whether it carries a colour bar of its own
    equal: bool = True  # whether a unit is as long in both directions
    note: str = ""


@dataclass(frozen=True)
class Space:
    """The same in three dimensions: ``colour`` is the height."""

    plane: Plane
    centre_height: float
    title: str = ""
    azimuth: float = -57.0  # from where it is seen, in degrees
    elevation: float = 34.0


class Line(NamedTuple):
    """One line of a table: a name, the colour of it, a text, and how many lines are left free above."""

    name: str
    colour: str
    text: str
    above: float = 0.0


@dataclass(frozen=True)
class Table:
    """Rows of (name, text).

    A text stands at the right edge or, with ``letters``, beside its name in lines of so many letters; where
    ``folded`` is set, below its name. ``colours`` are those of the names.
    """

    rows: list[tuple[str, str]]
    title: str = ""
    note: str = ""
    letters: int = 0
    folded: bool = False
    colours: list[str] | None = None

    @property
    def lines(self) -> list[Line]:
        """The rows, and what they are broken into."""
        colours = self.colours or [MUTED] * len(self.rows)
        if not self.letters:
            return [Line(name, c, words) for (name, words), c in zip(self.rows, colours, strict=True)]
        found: list[Line] = []
        for (name, words), colour in zip(self.rows, colours, strict=True):
            lines = [line for part in words.split("\n") for line in wrap(part, self.letters)]
            first, *others = ["", *lines] if self.folded else lines
            found.append(Line(name, colour, first, GAP if found else 0.0))
            found += [Line("", colour, line) for line in others]
        return found

    @property
    def height(self) -> float:
        """How many rows of short texts it is as high as, its note included."""
        return self.pitch * sum(1 + line.above for line in self.lines) + bool(self.note or not self.letters)

    @property
    def pitch(self) -> float:
        """How high a line is, beside a row of short texts."""
        return 0.8 if self.letters else 1.0

    @property
    def beside(self) -> float:
        """How many inches to the right of the names their texts begin."""
        return 0.12 if self.folded else 0.25 + 0.085 * max((len(name) for name, _ in self.rows), default=0)


Panel = Curves | Bars | Matrix | Plane | Space | Table


@dataclass(frozen=True)
class Sheet:
    """A figure: a title, where its numbers are from, and a grid of panels (None leaves a gap)."""

    title: str
    subtitle: str
    rows: list[list[Panel | None]]
    size: tuple[float, float]
    widths: list[float] | None = None
    heights: list[float] | None = None
