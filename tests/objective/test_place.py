"""Where the data are held: on the device, on the host, or nowhere; the numbers are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.objective import batches as batches_module
from tests.harmless import harmless
from tests.problems import Problem, problem


class Reads:
    """A source that refills one buffer, and counts how often it is read."""

    def __init__(self, p: Problem, size: int = 4) -> None:
        self.p, self.size, self.times = p, size, 0

    def __iter__(self) -> Any:
        self.times += 1
        x, y = (torch.empty_like(t[: self.size]) for t in (self.p.inputs, self.p.targets))
        for a, b in self.p.batches(self.size):
            yield x.copy_(a), y.copy_(b)
            x.zero_()


@pytest.mark.parametrize(("cache", "reads"), [("auto", 1), ("device", 1), ("host", 1), ("none", 3)])
def test_the_same_numbers_from_every_place(cache: str, reads: int) -> None:
    p = problem("mlp")
    source = Reads(p)
    expected = ls.Objective(p.model, p.loss, p.batches(4))
    objective = ls.Objective(p.model, p.loss, source, cache=cache)
    with harmless(p.model):
        for _ in range(3):
            assert torch.equal(objective.gradient(), expected.gradient())
    assert source.times == reads
    found, known = objective.provenance()["data"], expected.provenance()["data"]
    assert found["cache"] == {"auto": "device"}.get(cache, cache)
    assert known["cache"] == "device"
    assert found["fingerprint"] == known["fingerprint"] != ""
    assert (found["examples"], found["batches"]) == (16, 4)
    assert objective.batches.bytes == sum(t.numel() * t.element_size() for t in (p.inputs, p.targets))


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_data_in_another_precision(cache: str) -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float32, cache=cache)
    expected = ls.Objective(p.model, p.loss, p.batches(), dtype=torch.float32)
    for _ in range(2):
        assert torch.equal(objective.gradient(), expected.gradient())
    assert p.inputs.dtype == torch.float64


def test_auto_streams_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem("mlp")
    monkeypatch.setattr(batches_module, "CACHE_LIMIT", p.inputs[:7].nbytes)
    source = Reads(p)
    objective = ls.Objective(p.model, p.loss, source)
    expected = ls.Objective(p.model, p.loss, p.batches(4), cache="device").value()
    assert [objective.value() for _ in range(2)] == [expected] * 2
    assert source.times == 2
    assert objective.provenance()["data"]["cache"] == "none"
    forced = ls.Objective(p.model, p.loss, Reads(p), cache="device")
    forced.value()
    assert forced.provenance()["data"]["cache"] == "device"


def test_an_accelerators_data_go_to_the_host_before_they_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands for an accelerator, and a copy holds the number of the place that it is for."""
    batch = (torch.zeros(4, 2), torch.zeros(4))
    size = sum(t.nbytes for t in batch)
    rooms = {"device": 1.5 * size, "host": 2.5 * size}
    monkeypatch.setattr(batches_module, "_room", lambda place, device: rooms[place])
    numbers = {"device": 1, "host": 2}
    monkeypatch.setattr(batches_module._Shelf, "_owned", lambda shelf, t: torch.full_like(t, numbers[shelf.place]))
    shelf = batches_module._Shelf("device", torch.device("meta"), None, fixed=False)
    for place, number in numbers.items():
        shelf.add(batch)
        assert shelf.place == place
        assert shelf.held is not None
        assert {int(t.max()) for b in shelf.held for t in b} == {number}
    shelf.add(batch)
    assert (shelf.place, shelf.held) == ("none", None)


@pytest.mark.parametrize("cache", ["host", "none"])
def test_changed_data_are_found(cache: str) -> None:
    p = problem("mlp")
    source = Reads(p)
    objective = ls.Objective(p.model, p.loss, source, cache=cache)
    before = objective.value()
    p.inputs = p.inputs + 1
    if cache == "none":
        with pytest.raises(ls.errors.DataChangedError, match="two passes over the data differ"):
            objective.value()
    else:
        assert torch.equal(objective.value(), before)


@pytest.mark.parametrize("cache", ["host", "none"])
def test_a_loader_with_workers_of_its_own_order(cache: str) -> None:
    p = problem("mlp")
    loader = DataLoader(
        TensorDataset(p.inputs, p.targets), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(3)
    )
    objective = ls.Objective(p.model, p.loss, loader, cache=cache)
    with harmless(p.model, loader=loader):
        first = objective.gradient()
        assert torch.equal(objective.gradient(), first)


def test_a_choice_of_examples_from_a_stream() -> None:
    p = problem("mlp")
    held, streamed = (ls.Objective(p.model, p.loss, p.batches(), cache=cache) for cache in ("device", "none"))
    a, b = held.subsample(9, seed=2), streamed.subsample(9, seed=2)
    assert torch.equal(a.gradient(), b.gradient())
    assert a.provenance()["data"] == b.provenance()["data"]


def test_the_first_batch_stands_for_all_and_then_not() -> None:
    p = problem("mlp")
    for cache in ("device", "none"):
        objective = ls.Objective(p.model, p.loss, p.batches((5, 8, 3)), cache=cache)
        whole = objective.value()
        first = ls.Objective(p.model, p.loss, p.batches((5, 8, 3))[:1]).value()
        with objective.batches.undisturbed(), objective.batches.limited() as examples:
            assert examples == 5
            assert objective.value() == first
            assert objective.batches.count == 3
        assert objective.value() == whole
        assert objective.batches.place == cache


def test_a_cache_that_does_not_exist() -> None:
    p = problem("mlp")
    with pytest.raises(ls.errors.InputError, match="cache must be one of"):
        ls.Objective(p.model, p.loss, p.batches(), cache="disk")


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["auto", "device", "host", "none"])
def test_copies_ahead_of_the_work(cache: str) -> None:
    p = problem("mlp")
    expected = ls.Objective(p.model, p.loss, p.batches(4)).gradient()
    objective = ls.Objective(p.model, p.loss, Reads(p), device="cuda", cache=cache)
    for _ in range(3):
        torch.testing.assert_close(objective.gradient().cpu(), expected)
