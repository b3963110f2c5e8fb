"""Whether numbers of this very objective can be relied on."""

from landscape.diagnosis.doctor import doctor
from landscape.diagnosis.registry import CHECKS

__all__ = ["CHECKS", "doctor"]
