"""The objective: the one owner of the pass over the data."""

from landscape.objective.metrics import METRICS
from landscape.objective.objective import Batch, Objective, Point

__all__ = ["METRICS", "Batch", "Objective", "Point"]
