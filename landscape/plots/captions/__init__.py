"""Captions: what is drawn, of what, how sure it is, and how to read it, in plain words."""

from landscape.plots.captions.whole import caption

__all__ = ["caption"]
