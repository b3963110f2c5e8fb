"""Estimators of the trace and the diagonal from products with random vectors: a registry of methods."""

from landscape.spectra.estimators.auto import Auto
from landscape.spectra.estimators.exact import Exact
from landscape.spectra.estimators.found import Estimator, Found, Goal
from landscape.spectra.estimators.measures import FEWEST, Diagonal, Measure, Spread, Trace
from landscape.spectra.estimators.probing import Deflated, Hutchinson, HutchPlusPlus
from landscape.spectra.estimators.work import Work
from landscape.spectra.estimators.xtrace import XTrace

#: name -> method; a new one is one file and one line here, and inherits the tests of the family
METHODS: dict[str, type[Estimator]] = {
    method.name: method for method in (Auto, Hutchinson, HutchPlusPlus, XTrace, Deflated, Exact)
}

#: name -> fewest products that it can do with
LEAST = {"auto": FEWEST, "hutchinson": FEWEST, "hutch++": 3 * FEWEST, "xtrace": 3 * FEWEST, "deflated": 3 * FEWEST}

__all__ = ["LEAST", "METHODS", "Diagonal", "Estimator", "Found", "Goal", "Measure", "Spread", "Trace", "Work"]
