"""Figures and reports, drawn from results alone: nothing here computes on a network.

Importing this package imports neither matplotlib nor plotly; drawing imports the one that draws.
"""

from landscape.plots.captions import caption
from landscape.plots.drawing import compare, draw
from landscape.plots.files import render
from landscape.plots.report import report

__all__ = ["caption", "compare", "draw", "render", "report"]
