"""Results: labelled, with status, cost and provenance; saved to and loaded from one file each."""

from landscape.results.base import Result
from landscape.results.checkup import Checkup
from landscape.results.density import SpectralDensity
from landscape.results.diagonal import DiagonalResult
from landscape.results.eigen import EigenResult
from landscape.results.estimate import Estimate
from landscape.results.family import Family
from landscape.results.gradients import GradientConflict, GradientStatistics
from landscape.results.layers import LayerCurvature
from landscape.results.recording import Recording
from landscape.results.store import load
from landscape.results.subspace import SubspaceResult
from landscape.results.surfaces import Projection, Surface
from landscape.results.trace import TraceResult

__all__ = [
    "Checkup",
    "DiagonalResult",
    "EigenResult",
    "Estimate",
    "Family",
    "GradientConflict",
    "GradientStatistics",
    "LayerCurvature",
    "Projection",
    "Recording",
    "Result",
    "SpectralDensity",
    "SubspaceResult",
    "Surface",
    "TraceResult",
    "load",
]
