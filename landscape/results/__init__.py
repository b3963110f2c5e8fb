"""Results: labelled, with status, cost and provenance; saved to and loaded from one file each."""

from landscape.results.base import Result
from landscape.results.gradients import GradientConflict, GradientStatistics
from landscape.results.recording import Recording
from landscape.results.spectra import EigenResult, SpectralDensity, TraceResult
from landscape.results.store import load, save
from landscape.results.surfaces import Projection, Surface

__all__ = [
    "EigenResult",
    "GradientConflict",
    "GradientStatistics",
    "Projection",
    "Recording",
    "Result",
    "SpectralDensity",
    "Surface",
    "TraceResult",
    "load",
    "save",
]
