"""Surfaces, directions and trajectories."""

from landscape.surfaces import directions
from landscape.surfaces.basis import Directions
from landscape.surfaces.checkpoint import load_state
from landscape.surfaces.surface import surface
from landscape.surfaces.trajectory import Trajectory

__all__ = ["Directions", "Trajectory", "directions", "load_state", "surface"]
