"""The objective: the one owner of the pass over the data."""

from landscape.objective.metrics import METRICS
from landscape.objective.objective import Objective
from landscape.objective.point import Batch, Point

__all__ = ["METRICS", "Batch", "Objective", "Point"]
