"""One look for both backends: colours, ramps and sizes as plain data."""

from __future__ import annotations

from landscape.errors import InputError

#: Okabe and Ito's colours, told apart by every kind of colour vision; used in this order.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = PALETTE

INK, MUTED, GRID = "#222222", "#808080", "#E4E4E4"
NOT_FINITE, NOT_EVALUATED = "#9A9A9A", "#F0F0F0"

#: Viridis: even steps of the loss look like even steps.
_SEQUENTIAL = (
    "#440154 #48186a #472d7b #424086 #3b528b #33638d #2c728e #26828e #21918c "
    "#1fa088 #28ae80 #3fbc73 #5ec962 #84d44b #addc30 #d8e219 #fde725"
)
#: Red below zero, blue above, both legible without red-green vision.
_DIVERGING = "#840924 #bd2d35 #dd7059 #f5ac8b #fdddcb #f7f6f6 #d4e6f1 #9bc9e0 #569fc9 #2b73b3 #10457e"
#: Light to dark red for the steps of a path: it stands out on every colour of the surfaces.
_STEPS = "#ffeea3 #fedd7e #febd57 #fd9c42 #fd6e33 #f33b25 #da141e #b60026 #800026"
STEPS = tuple(_STEPS.split(" "))

RAMPS = {
    "sequential": tuple(_SEQUENTIAL.split(" ")),
    "diverging": tuple(_DIVERGING.split(" ")),
    "share": tuple(_DIVERGING.split(" ")[5:]),  # from nothing to all of it
    "steps": STEPS,
}

#: Font sizes in points.
TITLE, SUBTITLE, LABEL, SMALL = 13.0, 9.5, 10.0, 8.5
LINE, THIN = 1.6, 0.8
#: Figure sizes are given in inches; interactive figures use this many pixels an inch.
PIXELS = 96

DASHES = {"solid": "-", "dash": "--", "dot": ":"}


def check_size(size: tuple[float, float] | None, default: tuple[float, float]) -> tuple[float, float]:
    """Return the (width, height) in inches to draw at."""
    if size is None:
        return default
    try:
        width, height = (float(side) for side in size)
    except (TypeError, ValueError):
        width = height = -1.0
    if not (1 <= width <= 100 and 1 <= height <= 100):
        raise InputError(
            "size must be (width, height) in inches, each from 1 to 100", got=size, fix="pass for example size=(7, 5)"
        )
    return width, height
