"""Batches that do not fit into memory go in pieces, where that gives the same number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import InputError, MemoryLimitError, is_out_of_memory
from landscape.objective.footprint import peak_memory
from tests.harmless import harmless
from tests.problems import problem
from tests.reference import close, truth

MOST = 4


class Small(nn.Module):
    """A model for which memory runs out above ``most`` examples, in passes that are differentiated."""

    def __init__(self, inner: nn.Module, error: type[Exception], words: str = "", most: int = MOST) -> None:
        super().__init__()
        self.inner, self.error, self.words, self.most = inner, error, words, most
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.sizes.append(len(x))
            if len(x) > self.most:
                raise self.error(self.words)
        return self.inner(x)


CPU = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
ERRORS = {
    "cuda": (torch.OutOfMemoryError, "CUDA out of memory."),
    "cpu": (RuntimeError, CPU),
    "numpy": (MemoryError, ""),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("sizes", [(7, 6, 3), (16,)], ids=["batches", "one batch"])
def test_the_same_numbers_in_pieces(error: str, sizes: tuple[int, ...]) -> None:
    p = problem("mlp", "cross-entropy, class weights")
    expected = truth(p)
    model = Small(p.model, *ERRORS[error])
    objective = ls.Objective(model, p.loss, p.batches(sizes))
    assert "batches split to" not in objective.provenance()
    with harmless(p.model):
        close(objective.gradient(), expected.gradient, 1e-12)
        assert objective.provenance()["batches split to"] == 4
        H = ls.Hessian(objective)
        v = torch.linspace(-1, 1, objective.space.n, dtype=torch.float64)
        for _ in range(2):
            close(H @ v, expected.hessian @ v, 1e-12)
        close(objective.value(), expected.value, 1e-12)


def test_the_size_that_fits_is_remembered() -> None:
    p = problem("mlp")
    model = Small(p.model, torch.OutOfMemoryError)
    objective = ls.Objective(model, p.loss, p.batches(16))
    objective.gradient()
    assert model.sizes == [16, 8, 4, 4, 4, 4]
    model.sizes.clear()
    objective.gradient()
    assert model.sizes == [4, 4, 4, 4]


def test_pieces_with_a_weight_a_sum_and_a_regularizer() -> None:
    def weighted(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = batch
        w = 1.0 + y
        return (functional.cross_entropy(model(x), y, reduction="none") * w).sum() / w.sum(), w.sum()

    p = problem("mlp")
    for loss in (weighted, nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss()):
        whole = ls.Objective(p.model, loss, p.batches(), regularizer=0.3)
        parts = ls.Objective(Small(p.model, torch.OutOfMemoryError), loss, p.batches(), regularizer=0.3)
        close(parts.gradient(), whole.gradient(), 1e-12)
        assert parts.provenance()["batches split to"] == 4


def test_a_piece_knows_where_it_starts() -> None:
    p = problem("mlp")
    model = Small(p.model, torch.OutOfMemoryError)
    objective = ls.Objective(model, p.loss, p.batches((6, 7, 3)))
    seen: list[tuple[int, int, int]] = []

    def per_batch(batch: Any) -> list[torch.Tensor]:
        numerator = batch.terms().numerator
        seen.append((batch.index, batch.start, batch.size))
        return [numerator]

    objective.sum(per_batch, objective.point())
    assert seen == [(0, 0, 3), (0, 3, 3), (1, 6, 3), (1, 9, 3), (1, 12, 1), (2, 13, 3)]


def _contrastive(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    """A loss whose examples act on each other."""
    z = model(batch[0])
    return functional.cross_entropy(z @ z.T, torch.arange(len(z))), len(z)


def _unweighted(model: nn.Module, batch: Any) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def _with_a_table(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    x, y, table = batch
    return functional.cross_entropy(model(x) @ table, y), len(x)


@pytest.mark.parametrize("loss", [_contrastive, _unweighted, _with_a_table, "train"])
def test_what_cannot_be_split_is_refused(loss: Any) -> None:
    p = problem("mlp")
    data: list[Any] = p.batches(8)
    if loss is _with_a_table:
        data = [(x, y, torch.eye(3, dtype=torch.float64)) for x, y in data]
    mode, loss = ("train", p.loss) if loss == "train" else ("eval", loss)
    objective = ls.Objective(Small(p.model, torch.OutOfMemoryError, most=5), loss, data, mode=mode)
    with harmless(p.model), pytest.raises(MemoryLimitError, match="give the data in smaller batches") as caught:
        objective.gradient()
    assert isinstance(caught.value, MemoryError)


def test_one_example_that_does_not_fit() -> None:
    p = problem("mlp")
    objective = ls.Objective(Small(p.model, torch.OutOfMemoryError, most=0), p.loss, p.batches())
    with harmless(p.model), pytest.raises(MemoryLimitError, match="one example alone does not fit"):
        objective.gradient()


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    p = problem("mlp")
    model = Small(p.model, RuntimeError, "shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        ls.Objective(model, p.loss, p.batches(16)).gradient()
    assert model.sizes == [16]


def test_what_is_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50)
    assert is_out_of_memory(real.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


# -- measuring -----------------------------------------------------------------------------------------


def test_the_peak_of_a_block() -> None:
    size = 1 << 20
    kept = torch.zeros(size, dtype=torch.uint8)
    with peak_memory(torch.device("cpu")) as peak:
        a = torch.zeros(3 * size, dtype=torch.uint8)
        del a
        b = torch.zeros(2 * size, dtype=torch.uint8)
    assert 3 * size <= peak.bytes <= 3 * size + 4096
    assert len(b) == 2 * len(kept)


def test_measuring_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with peak_memory(torch.device("cpu")):
        torch.zeros(4)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_inside_torchs_own_profiler() -> None:
    block = peak_memory(torch.device("cpu"))
    with torch.autograd.profiler.profile(use_kineto=False), pytest.raises(InputError, match="inside torch's profiler"):
        block.__enter__()


def test_the_peak_of_a_block_that_fails() -> None:
    with pytest.raises(ValueError, match="within"), peak_memory(torch.device("cpu")):
        raise ValueError("within")
    with peak_memory(torch.device("cpu")) as peak:
        torch.zeros(1024)
    assert peak.bytes == 4096


def test_a_gradient_over_several_batches_holds_few_vectors() -> None:
    model = nn.Sequential(nn.Linear(1000, 1000), nn.Tanh(), nn.Linear(1000, 1000))
    x, y = torch.randn(4, 1000), torch.randint(1000, (4,))
    objective = ls.Objective(model, nn.CrossEntropyLoss(), [(x, y), (x, y)])
    objective.value()
    vector = objective.space.n * objective.space.dtype.itemsize
    peaks = {}
    for name, ask in {"value": objective.value, "gradient": objective.gradient}.items():
        with peak_memory(torch.device("cpu")) as peak:
            ask()
        peaks[name] = peak.bytes / vector
    assert peaks["value"] < 1.2  # the point
    assert peaks["gradient"] < 5.2  # the point, the gradient, their sum in float64, and some of it on the way
