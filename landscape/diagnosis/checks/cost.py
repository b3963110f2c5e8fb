"""What products take."""

from __future__ import annotations

from dataclasses import replace

from landscape.diagnosis.finding import Finding, counted, passed, warned
from landscape.diagnosis.subject import Subject

PRODUCTS = 100  # about what eigenvalues or a trace take
LONG = 3600.0  # seconds


def cost(subject: Subject) -> Finding:
    """Say the seconds and bytes of products over all the data, from a short trial on the first batch."""
    objective = subject.objective
    found = objective.estimate_cost(subject.make(objective), products=PRODUCTS)
    one = replace(found, seconds=found.seconds / PRODUCTS, products=1)
    words = f"{one}, over all {counted(objective.batches.examples, 'example')}; {PRODUCTS} products: about {found.time}"
    if found.seconds < LONG:
        return passed(words)
    return warned(words, "ask on a part of the data, objective.subsample(1000), or of fewer parameters with params=")
