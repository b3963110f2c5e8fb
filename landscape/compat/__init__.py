"""Other libraries' interfaces on this engine: change one import."""

from landscape.compat import pyhessian

__all__ = ["pyhessian"]
