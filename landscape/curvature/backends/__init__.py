"""How Hessian products are made. A backend is one file and one line in ``BACKENDS``."""

from __future__ import annotations

from landscape.curvature.backends.autograd import Autograd
from landscape.curvature.backends.base import Backend
from landscape.curvature.backends.difference import Difference
from landscape.curvature.backends.forward import Forward

#: In the order in which "auto" tries them.
BACKENDS: dict[str, type[Backend]] = {"autograd": Autograd, "forward": Forward, "difference": Difference}

__all__ = ["BACKENDS", "Backend"]
