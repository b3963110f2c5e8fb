"""Products beside gradients and beside other libraries, in one run: seconds, peak memory, and how far they are off.

``make bench-products`` prints the tables. Nothing is asserted but agreement: a fast wrong answer is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from pyhessian import hessian as pyhessian
from pyhessian.utils import hessian_vector_product
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape as ls
from landscape.errors import InputError
from landscape.objective.footprint import peak_memory
from tests.benchmarks.networks import NETWORKS, network
from tests.benchmarks.timing import in_turn, table

ROUNDS, FEWER, THREADS = 7, 3, 2
MANY, WIDTH = 20, 16
TOLERANCE = 1e-3

Work = Callable[[], Any]
Key = tuple[str, str]  # what, and whose
results: dict[Key, dict[str, str]] = {}


@contextmanager
def _alike() -> Iterator[None]:
    """Run on two cores, and all attention in the kernel that has a second derivative, that of gradients too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_num_threads(threads)


class Ours:
    """Operators that have been checked: what is done once for an objective is not timed."""

    def __init__(self, model: nn.Module, data: list[Any], v: torch.Tensor, block: torch.Tensor) -> None:
        self.one, self.two = (ls.Objective(model, nn.CrossEntropyLoss(), part) for part in (data[:1], data))
        self.v, self.block, self._data = v, block, data
        self.kept = ls.Hessian(self.one)
        self.kept @ block  # has had its trial of columns
        self.hessian, self.forward, self.ggn = (
            ls.Hessian(self.two), ls.Hessian(self.two, backend="forward"), ls.GGN(self.two),
        )  # fmt: skip
        for op in (self.hessian, self.forward, self.ggn):
            op @ v
        self.difference = self._difference(self.two, v)

    def _difference(self, objective: ls.Objective, v: torch.Tensor) -> ls.Hessian:
        """Return products by differences: in float64 for a loss that is not smooth on the scale of float32's steps."""
        difference = ls.Hessian(objective, backend="difference")
        try:
            difference @ v
        except InputError:
            wide = ls.Objective(objective.model, nn.CrossEntropyLoss(), self._data, dtype=torch.float64)
            return self._difference(wide, v)
        return difference

    def many(self, count: int = MANY) -> torch.Tensor:
        """Return the last of some products over one batch, the first of which makes the graph."""
        hessian = ls.Hessian(self.one)
        for _ in range(count):
            product = hessian @ self.v
        return product

    def singles(self) -> torch.Tensor:
        """Return the products with the columns of a block, made one by one."""
        return torch.stack([self.kept @ u for u in self.block.unbind(1)], dim=1)


class PyHessian:
    """Products over a loader, and with the kept graph of one batch, as its own functions make them."""

    def __init__(self, model: nn.Module, data: list[Any], v: torch.Tensor) -> None:
        self.model, self.data = model, data
        parameters = list(model.parameters())
        parts = v.split([p.numel() for p in parameters])
        self.v = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        self.loader = pyhessian(model, nn.CrossEntropyLoss(), dataloader=data, cuda=False)

    def single(self) -> torch.Tensor:
        """Return a product over all batches, as one vector."""
        return _flat(self.loader.dataloader_hv_product(self.v)[1])

    def many(self, count: int = MANY) -> torch.Tensor:
        """Return the last of some products over one batch, each as one vector, as the others give them."""
        made = pyhessian(self.model, nn.CrossEntropyLoss(), data=self.data[0], cuda=False)
        for _ in range(count):
            product = _flat(hessian_vector_product(made.gradsH, made.params, self.v))
        self.model.zero_grad()  # breaks the cycle of parameters and gradients that holds the graph
        return product


def _flat(product: Any) -> torch.Tensor:
    return product if isinstance(product, torch.Tensor) else torch.cat([part.reshape(-1) for part in product])


def _peak(work: Work) -> int:
    with peak_memory(torch.device("cpu")) as peak:
        work()
    return peak.bytes


def _compare(
    name: str, unit: Work, works: dict[Key, tuple[Work, Work, int]], exact: dict[str, Any], rounds: int
) -> Any:
    """Note what ``works`` cost in units; each is the work, what its memory is measured on, and its products."""
    seconds, found = in_turn(unit, {key: work for key, (work, _, _) in works.items()}, rounds)
    memory = _peak(unit)
    for key, (_, small, count) in works.items():
        off = 0.0
        if key[0] in exact:
            off = float((_flat(small()) - exact[key[0]]).norm() / exact[key[0]].norm())
            assert off < TOLERANCE or key[1] == "curvlinops", (key, off)
        text = f"{found[key] / count / seconds:.2f} ({_peak(small) / memory:.1f})"
        results.setdefault(key, {})[name] = text + (f", {off:.1%} off" if off > TOLERANCE else "")
        print(f"  {key[0]:30} {key[1]:12} {results[key][name]}", flush=True)
    return seconds, memory


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_products(name: str) -> None:
    model, data = network(name)
    parameters = list(model.parameters())
    n = sum(p.numel() for p in parameters)
    v, block = torch.randn(n), torch.randn(n, WIDTH)

    def curvlinops(kind: Any, data: list[Any]) -> Any:
        return kind(model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)

    def one(work: Work) -> tuple[Work, Work, int]:
        return work, work, 1

    with _alike():
        ours, theirs = Ours(model, data, v, block), PyHessian(model, data, v)
        hessian, ggn, kept = (
            curvlinops(HessianLinearOperator, data), curvlinops(GGNLinearOperator, data),
            curvlinops(HessianLinearOperator, data[:1]),
        )  # fmt: skip
        double, first = (
            ls.Objective(model, nn.CrossEntropyLoss(), part, dtype=torch.float64) for part in (data, data[:1])
        )
        products, single = "one Hessian product", f"mean of {MANY}, one batch"
        exact = {products: ls.Hessian(double) @ v, "one GGN product": ls.GGN(double) @ v, single: ls.Hessian(first) @ v}
        exact["the same, forward"] = exact[products]

        print(f"\n{name}, {n} parameters")
        works = {
            (products, "landscape"): one(lambda: ours.hessian @ v),
            (products, "PyHessian"): one(theirs.single),
            (products, "curvlinops"): one(lambda: hessian @ v),
            ("the same, forward", "landscape"): one(lambda: ours.forward @ v),
            ("one GGN product", "landscape"): one(lambda: ours.ggn @ v),
            ("one GGN product", "curvlinops"): one(lambda: ggn @ v),
        }
        _compare(name, ours.two.gradient, works, exact, ROUNDS)
        off = (ours.difference @ v - exact[products]).norm() / exact[products].norm()
        assert off < ours.difference.bound
        differences = f"the same, differences in {str(ours.difference.dtype).removeprefix('torch.')}"
        works = {(differences, "landscape"): one(lambda: ours.difference @ v)}
        _compare(name, ours.difference.objective.gradient, works, {}, FEWER)
        works = {
            (single, "landscape"): (ours.many, lambda: ours.many(2), MANY),
            (single, "PyHessian"): (theirs.many, lambda: theirs.many(2), MANY),
            (single, "curvlinops"): one(lambda: kept @ v),
        }
        seconds, memory = _compare(name, ours.one.gradient, works, exact, FEWER)
        works = {
            (f"one of {WIDTH}, each alone", "landscape"): (ours.singles, ours.singles, WIDTH),
            (f"one of {WIDTH}, one block", "landscape"): (lambda: ours.kept @ block, lambda: ours.kept @ block, WIDTH),
            (f"one of {WIDTH}, one block", "curvlinops"): (lambda: kept @ block, lambda: kept @ block, WIDTH),
        }
        _compare(name, ours.one.gradient, works, {}, FEWER)
    results.setdefault(("gradient of one batch", ""), {})[name] = f"{seconds * 1e3:.0f} ms ({memory / 1e6:.0f} MB)"
    print(" ", ours.kept.provenance()["backend"])


def test_table() -> None:
    """Print what the networks before have given."""
    rows = [(*key, *(cells.get(name, "") for name in NETWORKS)) for key, cells in results.items()]
    head = ("In gradients: time (peak memory)", "", *NETWORKS)
    table("Products", head, rows)
