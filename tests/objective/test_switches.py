"""What is switched for the whole process while the package looks at a model."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.backends import mha
from torch.utils import checkpoint

import landscape as ls
from tests.harmless import harmless
from tests.problems import problem


class Padded(nn.Module):
    """A transformer over token sequences with padding, whose layers torch fuses when there is no gradient."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embedding, self.encoder, self.head = nn.Embedding(9, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(x), src_key_padding_mask=x == 0).mean(1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_padded_transformer_has_one_value_with_and_without_a_gradient() -> None:
    torch.manual_seed(0)
    model, x, y = Padded(), torch.randint(1, 9, (6, 7)), torch.randint(3, (6,))
    x[:3, 4:] = 0
    model.eval()
    expected = nn.CrossEntropyLoss()(model(x), y).detach().double()
    with torch.no_grad():  # what torch fuses gives other outputs for the padding
        assert abs(nn.CrossEntropyLoss()(model(x), y) - expected) > 1e-3
    objective = ls.Objective(model, nn.CrossEntropyLoss(), (x, y))
    with harmless(model):
        torch.testing.assert_close(objective.value(), expected)
        torch.testing.assert_close(objective.value_and_gradient()[0], expected)
    assert mha.get_fastpath_enabled()


def switches() -> tuple[object, ...]:
    kernels = (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled())
    return checkpoint.CheckpointFunction, mha.get_fastpath_enabled(), kernels


def test_sessions_may_end_in_the_order_in_which_they_began() -> None:
    before = switches()
    objectives = [ls.Objective(p.model, p.loss, p.batches()) for p in (problem("mlp"), problem("attention"))]
    opened = [ExitStack() for _ in objectives]
    for stack, objective in zip(opened, objectives, strict=True):
        stack.enter_context(objective.session(math_attention=True))
        assert all(a != b for a, b in zip(switches(), before, strict=True))
    for stack in opened:
        stack.close()
    assert switches() == before


class Waits(nn.Module):
    """A layer that says when it is called, and goes on when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.called, self.told = nn.Linear(4, 3), threading.Event(), threading.Event()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.called.set()
        assert self.told.wait(10)
        return self.layer(x)


def test_overlapping_sessions_of_two_threads_leave_torch_as_it_was() -> None:
    before = switches()
    models = [Waits(), Waits()]
    data = (torch.randn(5, 4), torch.randint(3, (5,)))
    threads = [threading.Thread(target=ls.Objective(m, nn.CrossEntropyLoss(), data).value) for m in models]
    for thread, model in zip(threads, models, strict=True):
        thread.start()
        assert model.called.wait(10)
    for thread, model in zip(threads, models, strict=True):
        model.told.set()
        thread.join()
    assert switches() == before
