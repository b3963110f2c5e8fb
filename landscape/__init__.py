"""Loss landscapes and training dynamics for PyTorch.

Every public name is loaded on first use, so that ``import landscape`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from landscape.version import __version__

if TYPE_CHECKING:
    from landscape import errors as errors
    from landscape import plots as plots
    from landscape import progress as progress
    from landscape.curvature import GGN as GGN
    from landscape.curvature import NTK as NTK
    from landscape.curvature import Fisher as Fisher
    from landscape.curvature import GradientCovariance as GradientCovariance
    from landscape.curvature import Hessian as Hessian
    from landscape.curvature import InverseFisher as InverseFisher
    from landscape.curvature import Jacobian as Jacobian
    from landscape.curvature import aslinearoperator as aslinearoperator
    from landscape.curvature import preconditioned as preconditioned
    from landscape.diagnosis import doctor as doctor
    from landscape.gradients import gradient_conflict as gradient_conflict
    from landscape.gradients import gradient_statistics as gradient_statistics
    from landscape.monitor import Monitor as Monitor
    from landscape.objective import Objective as Objective
    from landscape.plots import report as report
    from landscape.results import load as load
    from landscape.spectra import diagonal as diagonal
    from landscape.spectra import each as each
    from landscape.spectra import effective_rank as effective_rank
    from landscape.spectra import eigsh as eigsh
    from landscape.spectra import eigsh_by_layer as eigsh_by_layer
    from landscape.spectra import frobenius_norm as frobenius_norm
    from landscape.spectra import spectral_density as spectral_density
    from landscape.spectra import subspace as subspace
    from landscape.spectra import trace as trace
    from landscape.surfaces import Trajectory as Trajectory
    from landscape.surfaces import directions as directions
    from landscape.surfaces import surface as surface

# public name -> the module it is an attribute of
_PUBLIC = {
    "Jacobian": "landscape.curvature",
    "GradientCovariance": "landscape.curvature",
    "Fisher": "landscape.curvature",
    "NTK": "landscape.curvature",
    "GGN": "landscape.curvature",
    "Hessian": "landscape.curvature",
    "InverseFisher": "landscape.curvature",
    "Monitor": "landscape.monitor",
    "Objective": "landscape.objective",
    "Trajectory": "landscape.surfaces",
    "aslinearoperator": "landscape.curvature",
    "diagonal": "landscape.spectra",
    "directions": "landscape.surfaces",
    "doctor": "landscape.diagnosis",
    "each": "landscape.spectra",
    "effective_rank": "landscape.spectra",
    "eigsh": "landscape.spectra",
    "eigsh_by_layer": "landscape.spectra",
    "errors": "landscape",
    "frobenius_norm": "landscape.spectra",
    "gradient_conflict": "landscape.gradients",
    "gradient_statistics": "landscape.gradients",
    "load": "landscape.results",
    "plots": "landscape",
    "preconditioned": "landscape.curvature",
    "progress": "landscape",
    "report": "landscape.plots",
    "spectral_density": "landscape.spectra",
    "subspace": "landscape.spectra",
    "surface": "landscape.surfaces",
    "trace": "landscape.spectra",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'landscape' has no attribute {name!r}")
    where = _PUBLIC[name]
    if where == "landscape":
        value: Any = import_module(f"landscape.{name}")
    else:
        value = getattr(import_module(where), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
