"""Sheets painted by matplotlib, through its object interface only: no pyplot, no global settings."""

from landscape.plots.with_matplotlib.paint import paint

__all__ = ["paint"]
