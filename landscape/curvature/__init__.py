"""Curvature of an objective as linear operators."""

from landscape.curvature.algebra import Identity
from landscape.curvature.hessian import Hessian
from landscape.curvature.matrix import aslinearoperator
from landscape.curvature.operator import LinearOperator, TensorOperator
from landscape.curvature.preconditioned import Preconditioner, preconditioned, preconditioner

__all__ = [
    "Hessian",
    "Identity",
    "LinearOperator",
    "Preconditioner",
    "TensorOperator",
    "aslinearoperator",
    "preconditioned",
    "preconditioner",
]
