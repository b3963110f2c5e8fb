"""Curvature of an objective as linear operators."""

from landscape.curvature.algebra.arithmetic import Identity
from landscape.curvature.algebra.blocks import BlockDiagonal
from landscape.curvature.algebra.inverse import Inverse
from landscape.curvature.algebra.matrix import aslinearoperator
from landscape.curvature.backends import BACKENDS
from landscape.curvature.fisher import Fisher, GradientCovariance
from landscape.curvature.ggn import GGN
from landscape.curvature.hessian import Hessian
from landscape.curvature.inverse_fisher import InverseFisher
from landscape.curvature.jacobian import NTK, Jacobian
from landscape.curvature.operator import LinearOperator, TensorOperator
from landscape.curvature.preconditioned import Preconditioner, preconditioned, preconditioner

__all__ = [
    "BACKENDS",
    "GGN",
    "NTK",
    "BlockDiagonal",
    "Fisher",
    "GradientCovariance",
    "Hessian",
    "Identity",
    "Inverse",
    "InverseFisher",
    "Jacobian",
    "LinearOperator",
    "Preconditioner",
    "TensorOperator",
    "aslinearoperator",
    "preconditioned",
    "preconditioner",
]
