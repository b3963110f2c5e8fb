"""Watching training: when to look, what to measure, where to write."""

from landscape.monitor.metrics import METRICS, GradientCoherence, GradientConflict, Metric, Moment, Sharpness
from landscape.monitor.monitor import Monitor

__all__ = ["METRICS", "GradientCoherence", "GradientConflict", "Metric", "Moment", "Monitor", "Sharpness"]
