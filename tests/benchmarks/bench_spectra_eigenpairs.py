"""The ten largest eigenpairs to a relative residual of 1e-3, beside other libraries in one run.

``make bench-spectra`` prints the tables. Everybody's pairs are judged alike: by true residuals, one product each, and
by what Rayleigh and Ritz make of all the vectors that anybody found. By interlacing such a value lies at or below the
true one of its rank, so a value that somebody lacks is missing indeed. Nothing is asserted but that ours are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape as ls
from tests.benchmarks import peers
from tests.benchmarks.timing import clock, table
from tests.benchmarks.trained import Trained, large_gpt, large_resnet, trained_gpt, trained_resnet

K, TOL = 10, 1e-3
ALLOWED = 3  # PyHessian is stopped after so many times our products
OURS = "landscape, ls.eigsh"
HEAD = ("", "products", "of ours", "seconds", "before", "worst residual", "right", "missing", "off")

#: the large ones need a GPU with about 80 GB
NETWORKS = [trained_gpt, trained_resnet, *([large_resnet, large_gpt] if torch.cuda.is_available() else [])]

Solve = Callable[[Any, peers.Counter], peers.Pairs]


@dataclass
class Found:
    """What a contestant found, for how many products, and in what time: before the first step, and from then on."""

    values: np.ndarray
    vectors: torch.Tensor
    products: int
    before: float
    seconds: float
    note: str = ""
    images: torch.Tensor | None = None

    def judge(self, operator: Any) -> None:
        """Multiply each vector, made to length 1, by the operator."""
        self.vectors = (self.vectors / self.vectors.norm(dim=0)).to(operator.device)
        self.images = torch.stack([operator @ v for v in self.vectors.T], dim=1)
        if len(self.values) < self.vectors.shape[1]:  # no value was returned with these
            self.values = (self.vectors * self.images).sum(0).cpu().numpy()

    @property
    def residuals(self) -> np.ndarray:
        """Relative true residuals of the pairs as they were returned."""
        assert self.images is not None
        values = torch.as_tensor(self.values.copy()).to(self.vectors)
        return ((self.images - self.vectors * values).norm(dim=0) / values.abs()).cpu().numpy()


def contest(trained: Trained) -> dict[str, Found | str]:
    """Let everybody find ``K`` pairs of one trained network, ours first."""
    model, data = trained.model, trained.data
    found: dict[str, Found | str] = {}

    def enter(name: str, make: Callable[[], Any], solve: Solve, limit: float = float("inf")) -> None:
        counter, began = peers.Counter(limit), clock()
        try:
            operator = make()
        except ImportError:
            found[name] = "not installed"
            return
        made = clock()
        values, vectors = solve(operator, counter)
        note = "stopped at " if counter.count >= limit else ""
        found[name] = Found(values, vectors, counter.count, made - began, clock() - made, note)
        print(f"  {name}: {counter.count} products, {clock() - made:.1f} s", flush=True)

    @cache
    def ours() -> Any:
        operator = ls.Hessian(ls.Objective(model, nn.CrossEntropyLoss(), data))
        operator @ torch.ones(trained.n, device=operator.device)  # has had its checks
        return operator

    def solve(operator: Any, counter: peers.Counter) -> peers.Pairs:
        before = operator.matvecs
        result = ls.eigsh(operator, k=K, which="LA", tol=TOL)
        counter.count = operator.matvecs - before
        print(f"  {result.message}", flush=True)
        return result.values, torch.as_tensor(result.vectors)

    enter(OURS, ours, solve)
    mine = found[OURS]
    assert isinstance(mine, Found)

    def by_arpack(operator: Any, counter: peers.Counter) -> peers.Pairs:
        return peers.arpack(operator.to_scipy().matvec, trained.n, K, TOL, counter)

    enter("SciPy eigsh on our operator", ours, by_arpack)
    enter("SciPy eigsh on curvlinops'", lambda: peers.curvlinops_operator(model, data), by_arpack)
    enter(
        "hessian-eigenthings, our number of steps",
        lambda: peers.eigenthings_operator(model, data),
        lambda operator, counter: peers.eigenthings_pairs(operator, K, TOL, mine.products, counter),
    )
    torch.manual_seed(0)
    enter(
        "PyHessian, tol=1e-3",
        lambda: peers.pyhessian_operator(model, data),
        lambda operator, counter: peers.pyhessian_pairs(operator, K, TOL, counter),
        limit=ALLOWED * mine.products,
    )
    model.zero_grad()  # breaks PyHessian's cycle of parameters and gradients, which holds its graph
    for entry in found.values():
        if isinstance(entry, Found) and len(entry.vectors):
            entry.judge(ours())
    return found


def best(found: dict[str, Found | str]) -> np.ndarray:
    """Return the largest ``K`` Ritz values in the span of all vectors that were found."""
    entries = [e for e in found.values() if isinstance(e, Found) and e.images is not None]
    vectors, images = torch.cat([e.vectors for e in entries], dim=1), torch.cat([e.images for e in entries], dim=1)
    gram = (vectors.T @ vectors).double()
    sizes, turns = torch.linalg.eigh(gram)
    turns = turns[:, sizes > 0.1] / sizes[sizes > 0.1].sqrt()  # copies of one direction count once
    inside = turns.T @ (vectors.T @ images).double() @ turns
    return torch.linalg.eigvalsh((inside + inside.T) / 2).flip(0)[:K].cpu().numpy()


def matched(values: np.ndarray, reference: np.ndarray) -> int:
    """Return how many reference values have a value of their own within the tolerance."""
    left, count = list(values), 0
    for value in reference:
        near = min(left, key=lambda other: abs(other - value), default=None)
        if near is not None and abs(near - value) <= TOL * abs(value):
            left.remove(near)
            count += 1
    return count


def rows(found: dict[str, Found | str], reference: np.ndarray) -> list[tuple[str, ...]]:
    """Return the table."""
    mine = found[OURS]
    assert isinstance(mine, Found)
    made: list[tuple[str, ...]] = []
    for name, entry in found.items():
        if isinstance(entry, str):
            made.append((name, entry, *[""] * (len(HEAD) - 2)))
            continue
        right = matched(entry.values, reference)
        worst = f"{entry.residuals.max():.1e}" if entry.images is not None else ""
        products = (f"{entry.note}{entry.products}", f"{entry.products / mine.products:.2f}")
        times = (f"{entry.seconds:.1f}", f"{entry.before:.1f}")
        made.append((name, *products, *times, worst, str(right), str(K - right), str(len(entry.values) - right)))
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", NETWORKS)
def test_ten_largest(make: Callable[[], Trained]) -> None:
    trained = make()
    print(f"\n{trained.title}", flush=True)
    with sdpa_kernel(SDPBackend.MATH):
        found = contest(trained)
    reference = best(found)
    table(f"The ten largest to {TOL:g}: {trained.title}", HEAD, rows(found, reference))
    print("\n" + ", ".join(f"{value:.5g}" for value in reference))
    mine = found[OURS]
    assert isinstance(mine, Found)
    assert matched(mine.values, reference) == K
