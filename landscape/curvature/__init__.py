"""Curvature of an objective as linear operators."""

from landscape.curvature.hessian import Hessian
from landscape.curvature.operator import LinearOperator
from landscape.curvature.preconditioned import Preconditioner, preconditioned, preconditioner

__all__ = ["Hessian", "LinearOperator", "Preconditioner", "preconditioned", "preconditioner"]
