"""What products take."""

from __future__ import annotations

from landscape.diagnosis.finding import Finding, passed, warned
from landscape.diagnosis.subject import Subject

PRODUCTS = 100  # about what eigenvalues or a trace take
LONG = 3600.0  # seconds


def cost(subject: Subject) -> Finding:
    """Say the seconds and bytes of products over all the data, from a short trial on the first batch."""
    objective = subject.objective
    found = objective.estimate_cost(subject.make(objective), products=PRODUCTS)
    words = (
        f"{found}; {1000 * found.seconds / PRODUCTS:.3g} ms a product over all {objective.batches.examples:,} examples"
    )
    if found.seconds < LONG:
        return passed(words)
    return warned(words, "ask on a part of the data, objective.subsample(1000), or of fewer parameters with params=")
