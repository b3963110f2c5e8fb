"""The trace to 2 %, beside other libraries in one run.

``make bench-spectra`` prints the tables. The error is that beside the exact trace of a dense Hessian, over many seeds;
all libraries multiply by the same matrix, and only products are counted. Of the larger networks there is no exact
trace: what plain Hutchinson would need there is told from the spread of its first probes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import landscape as ls
from tests.benchmarks import peers
from tests.benchmarks.timing import clock, table
from tests.benchmarks.trained import Trained, dense, trained_gpt, trained_resnet, trained_small

RTOL, SHARE, SEEDS = 0.02, 0.95, 40
MOST = 400  # probes of plain Hutchinson
FIRST, EXAMPLES = 64, 64

Estimate = Callable[[int, int], float]  # (products, seed) -> trace


def share(estimate: Estimate, products: int, exact: float) -> float:
    """Return the share of seeds whose estimate is near enough."""
    return float(np.mean([abs(estimate(products, seed) / exact - 1) <= RTOL for seed in range(SEEDS)]))


def needed(estimate: Estimate, exact: float, step: int) -> int:
    """Return the fewest products, a multiple of ``step``, with which enough estimates are near enough."""
    low, high = step, step
    while share(estimate, high, exact) < SHARE:
        low, high = high, 2 * high
    while high - low > max(step, high // 20):
        middle = (low + high) // 2 // step * step
        low, high = (low, middle) if share(estimate, middle, exact) >= SHARE else (middle, high)
    return high


def plain(matrix: torch.Tensor) -> Estimate:
    """Return plain Hutchinson: the first probes of one long run for each seed."""
    runs: dict[int, torch.Tensor] = {}

    def estimate(products: int, seed: int) -> float:
        if seed not in runs:
            generator = torch.Generator().manual_seed(seed)
            signs = 2.0 * torch.randint(2, (len(matrix), MOST), generator=generator) - 1
            runs[seed] = (signs * (matrix @ signs)).sum(0)
        assert products <= MOST
        return float(runs[seed][:products].mean())

    return estimate


@pytest.mark.filterwarnings("ignore")
def test_trace_of_a_dense_hessian() -> None:
    trained, matrix = trained_small(), dense()
    exact = float(matrix.trace())
    matrix = matrix.float()
    rows: list[tuple[str, ...]] = []

    def row(name: str, products: float, near: float) -> None:
        rows.append((name, f"{products:.0f}", f"{products / base:.2f}", f"{near:.0%}"))
        print("  " + ", ".join(rows[-1]), flush=True)

    def fixed(name: str, estimate: Estimate, step: int, products: int = 0) -> int:
        """Note the fewest products that suffice, or how near ``products`` come."""
        try:
            count = products or needed(estimate, exact, step)
            row(name, count, share(estimate, count, exact))
        except ImportError:
            rows.append((name, "not installed", "", ""))
            return base
        return count

    def by_rule(name: str, estimate: Callable[[int], tuple[float, int]]) -> None:
        try:
            runs = [estimate(seed) for seed in range(SEEDS)]
        except ImportError:
            rows.append((name, "not installed", "", ""))
            return
        near = [abs(value / exact - 1) <= RTOL for value, _ in runs]
        row(name, float(np.mean([count for _, count in runs])), float(np.mean(near)))

    def ours(**options: Any) -> Callable[[int], tuple[float, int]]:
        def estimate(seed: int) -> tuple[float, int]:
            result = ls.trace(matrix, rtol=RTOL, seed=seed, **options)
            return result.estimate, result.matvecs

        return estimate

    def eigenthings(products: int, seed: int) -> float:
        operator = peers.eigenthings_matrix(matrix, peers.Counter())
        from hessian_eigenthings import trace

        return float(trace(operator, num_matvecs=products, seed=seed).estimate)

    def pyhessian(seed: int) -> tuple[float, int]:
        counter = peers.Counter()
        operator = peers.pyhessian_operator(trained.model, trained.data)
        return peers.pyhessian_trace(operator, matrix, counter, seed), counter.count

    base = needed(plain(matrix), exact, 2)
    row("plain Hutchinson, the fewest", base, share(plain(matrix), base, exact))
    for method in ("xtrace", "hutch++"):
        last = fixed(f"curvlinops {method}, the fewest", partial(peers.curvlinops_trace, matrix, method), 6)
    fixed("hessian-eigenthings hutch++, as many", eigenthings, 3, last)
    by_rule("landscape, rtol=0.02", ours())
    for method in ("hutchinson", "deflated", "hutch++", "xtrace"):
        by_rule(f'landscape, rtol=0.02, "{method}"', ours(method=method))
    by_rule("PyHessian, tol=1e-3", pyhessian)
    head = ("", "products", "of plain Hutchinson", "within 2 %")
    table(f"The trace to 2 % over {SEEDS} seeds: {trained.title}", head, rows)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [trained_resnet, trained_gpt])
def test_trace_of_a_trained_network(make: Callable[[], Trained]) -> None:
    trained = make()
    data = [(x[:EXAMPLES], y[:EXAMPLES]) for x, y in trained.data]
    operator = ls.Hessian(ls.Objective(trained.model, nn.CrossEntropyLoss(), data))
    operator @ torch.ones(trained.n)  # has had its checks
    began = clock()
    result = ls.trace(operator, rtol=RTOL)
    middle = clock()
    probes = ls.trace(operator, products=FIRST, method="hutchinson").dataset["samples"].to_numpy()
    seconds = (clock() - middle) / FIRST
    probable = (stats.norm.ppf(0.5 + SHARE / 2) * probes.std(ddof=1) / (RTOL * probes.mean())) ** 2
    rows = [
        ("landscape, rtol=0.02", str(result.matvecs), f"{result.matvecs / probable:.2f}", f"{middle - began:.1f}"),
        ("plain Hutchinson", f"about {probable:.0f}", "1.00", f"about {probable * seconds:.0f}"),
    ]
    title = f"{trained.title}, on {EXAMPLES} of them" if len(trained.data[0][0]) > EXAMPLES else trained.title
    table(f"The trace to 2 %: {title}", ("", "products", "of those", "seconds"), rows)
    print(f"\n{result.message}")
