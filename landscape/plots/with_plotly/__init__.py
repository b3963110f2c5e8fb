"""Sheets painted by plotly: interactive, with the same numbers and colours."""

from landscape.plots.with_plotly.paint import paint

__all__ = ["paint"]
