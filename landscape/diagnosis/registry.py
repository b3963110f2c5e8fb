"""Every check: adding one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from landscape.diagnosis.checks.cost import cost
from landscape.diagnosis.checks.data import data, weights
from landscape.diagnosis.checks.loss import determinism, loss, modes, parameters
from landscape.diagnosis.checks.peers import pyhessian
from landscape.diagnosis.checks.products import backend, differences, precision, symmetry
from landscape.diagnosis.finding import Finding
from landscape.diagnosis.subject import Subject


class Check(NamedTuple):
    """A check, and the checks without which it has nothing to look at."""

    ask: Callable[[Subject], Finding]
    needs: tuple[str, ...] = ()


#: name -> check, in the order in which they are made
CHECKS: dict[str, Check] = {
    "data": Check(data),
    "loss": Check(loss),
    "determinism": Check(determinism, needs=("loss",)),
    "weights": Check(weights, needs=("loss", "determinism")),
    "parameters": Check(parameters, needs=("loss",)),
    "modes": Check(modes, needs=("loss", "determinism")),
    "backend": Check(backend, needs=("loss", "determinism")),
    "symmetry": Check(symmetry, needs=("loss", "determinism", "backend")),
    "differences": Check(differences, needs=("loss", "determinism", "backend")),
    "pyhessian": Check(pyhessian, needs=("loss", "determinism", "backend")),
    "precision": Check(precision, needs=("loss", "determinism", "backend")),
    "cost": Check(cost, needs=("loss", "backend")),
}
