"""What products will cost, before they are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.objective.cost import CostEstimate
from landscape.objective.footprint import peak_memory
from tests.harmless import harmless
from tests.problems import problem


def test_in_words() -> None:
    assert str(CostEstimate(12.2, 1_300_000_000, 20, 3)) == "20 products: about 12 s and 1.3 GB"
    assert str(CostEstimate(0.0042, 700, 1, 1)) == "1 product: about 4.2 ms and 700 B"
    assert str(CostEstimate(600.0, 45_000, 2, 1)) == "2 products: about 10 min and 45 kB"
    assert str(CostEstimate(9000.0, 45_000_000, 2, 1)) == "2 products: about 2.5 h and 45 MB"


@pytest.mark.parametrize("sizes", [(7, 6, 3), (16,)], ids=["batches", "one batch"])
@pytest.mark.parametrize("cache", ["auto", "none"])
def test_an_estimate_changes_nothing(sizes: tuple[int, ...], cache: str) -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(sizes), cache=cache)
    H, fresh = ls.Hessian(objective), ls.Hessian(objective)
    v = torch.ones(H.space.n, dtype=torch.float64)
    with harmless(p.model):
        cost = objective.estimate_cost(H, products=20)
    assert H.matvecs == 0
    assert (cost.products, cost.batches) == (20, len(sizes))
    assert 0 < cost.seconds < 60
    assert torch.equal(H @ v, fresh @ v)
    assert torch.equal(H.value, objective.value())
    product, count = H @ v, H.matvecs
    objective.estimate_cost(H, products=3, columns=2)
    assert H.matvecs == count
    assert torch.equal(H @ v, product)


def test_it_says_how_products_are_made() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    H = ls.Hessian(objective)
    cost = objective.estimate_cost(H, products=20)
    assert cost.backend == "autograd (reverse over reverse)"
    assert str(cost) == f"20 products: about {cost.time} and {cost.memory}"
    torch_has_no_second = problem("linear", "margin")
    objective = ls.Objective(torch_has_no_second.model, torch_has_no_second.loss, torch_has_no_second.batches())
    backend = objective.estimate_cost(ls.Hessian(objective)).backend
    assert backend.startswith("difference (central differences of the gradient")
    assert "; autograd: no derivative of" in backend
    assert objective.estimate_cost(torch.eye(3)).backend == ""


def test_an_operator_made_of_operators() -> None:
    p, q = problem("mlp"), problem("mlp")
    a, b = ls.Objective(p.model, p.loss, p.batches()), ls.Objective(p.model, p.loss, q.batches()[:2])
    A, B = ls.Hessian(a), ls.Hessian(b)
    cost = a.estimate_cost(A - B, products=2)
    assert (A.matvecs, B.matvecs) == (0, 0)
    assert cost.batches == 5


def test_waiting_for_data_counts_in_every_pass() -> None:
    class Slow:
        def __iter__(self) -> Any:
            for batch in problem("mlp").batches():
                time.sleep(0.02)
                yield batch

    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, Slow(), cache="none")
    H = ls.Hessian(objective)
    one, two = (objective.estimate_cost(op, products=10).seconds for op in (H, H @ H))
    assert one >= 10 * 0.06
    assert two >= 20 * 0.06


def test_memory_grows_with_what_is_asked() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    H = ls.Hessian(objective)
    one, block = (objective.estimate_cost(H, products=64, columns=k).peak_bytes for k in (1, 64))
    assert block - one > 2 * 63 * H.space.n * 8
    stays = 2 * H.space.n * 8 + objective.batches.bytes
    assert one > stays


@pytest.mark.parametrize(("products", "columns"), [(0, 1), (1, 0), (True, 1), (2.0, 1)])
def test_numbers_that_are_refused(products: Any, columns: Any) -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    with pytest.raises(ls.errors.InputError, match="must be at least 1"):
        objective.estimate_cost(ls.Hessian(objective), products, columns)


def test_what_is_no_operator() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    with pytest.raises(ls.errors.InputError, match="products with an operator"):
        objective.estimate_cost(objective, 2)


def test_harmless_when_the_trial_fails() -> None:
    class Broken(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > 6:
                raise OSError("lost")
            return self.inner(x)

    p = problem("mlp")
    model = Broken(p.model)
    objective = ls.Objective(model, p.loss, p.batches())
    H = ls.Hessian(objective)
    with harmless(p.model), pytest.raises(OSError, match="lost"):
        objective.estimate_cost(H, 3)
    model.calls = -1000
    close = ls.Hessian(ls.Objective(p.model, p.loss, p.batches())) @ torch.ones(H.space.n, dtype=torch.float64)
    assert torch.equal(H @ torch.ones(H.space.n, dtype=torch.float64), close)


# -- estimates beside measurements ---------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.head = nn.Embedding(50, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embedding(x))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.head = nn.Linear(16, 32), nn.Linear(32, 10)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.before(x)).mean(1))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10))


def _convolution() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], torch.Tensor]]] = {
    "mlp": (_mlp, lambda n: torch.randn(n, 64)),
    "convolution": (_convolution, lambda n: torch.randn(n, 3, 16, 16)),
    "recurrent": (Recurrent, lambda n: torch.randint(0, 50, (n, 20))),
    "attention": (Attention, lambda n: torch.randn(n, 20, 16)),
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(384,), (96, 96, 96, 96, 20)], ids=["one batch", "batches"])
@pytest.mark.parametrize(("products", "columns"), [(1, 1), (12, 1), (16, 8)])
@pytest.mark.parametrize("network", NETWORKS)
def test_estimates_within_a_factor_of_one_and_a_half(
    network: str, products: int, columns: int, sizes: tuple[int, ...]
) -> None:
    make, inputs = NETWORKS[network]
    model = make()
    data = [(inputs(n), torch.randint(0, 10, (n,))) for n in sizes]
    objective = ls.Objective(model, nn.CrossEntropyLoss(), data)
    V = torch.randn(objective.space.n, products)
    blocks = [part[:, 0] if columns == 1 else part for part in V.split(columns, dim=1)]

    def hessian() -> ls.Hessian:
        return ls.Hessian(objective, columns="loop")  # else each one finds out for itself whether batching is faster

    def work() -> float:
        op = hessian()
        began = time.perf_counter()
        for block in blocks:
            op @ block
        return time.perf_counter() - began

    pairs = [(objective.estimate_cost(hessian(), products, columns), work()) for _ in range(5)]
    cost, seconds = sorted(pairs, key=lambda pair: pair[0].seconds / pair[1])[2]  # the machine has other work as well
    with peak_memory(objective.device) as peak:
        op = hessian()
        for block in blocks[:2]:
            op @ block
    held = [*model.parameters(), *(t for batch in data for t in batch), blocks[0]]
    measured = peak.bytes + sum(t.numel() * t.element_size() for t in held)
    print(f"{network}: {cost}; measured {seconds:.3g} s and {measured / 1e6:.3g} MB")
    assert measured / 1.5 < cost.peak_bytes < measured * 1.5
    assert seconds / 1.5 < cost.seconds < seconds * 1.5
