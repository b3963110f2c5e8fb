"""Operators where a batch does not fit into memory: the same numbers, from pieces of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from tests.curvature.contract import block
from tests.curvature.operators import OPERATORS, agree
from tests.problems import N, problem

MOST = 4  # examples that fit


class Small(nn.Module):
    """A model on a device without room for more than a few examples, in forward passes or after them."""

    def __init__(self, inner: nn.Module, late: bool) -> None:
        super().__init__()
        self.inner, self.late = inner, late

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        if len(x) > MOST and not self.late:
            raise torch.OutOfMemoryError("no room")
        if len(x) > MOST and out.requires_grad:
            out.register_hook(_no_room)
        return out


def _no_room(gradient: Any) -> None:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("sizes", [N, (7, 6, 3)], ids=["one batch", "batches"])
@pytest.mark.parametrize("name", list(OPERATORS))
def test_pieces_give_the_same_products(name: str, sizes: Any, late: bool) -> None:
    p = problem("mlp")
    whole = OPERATORS[name].make(ls.Objective(p.model, p.loss, p.batches(sizes)))
    split = OPERATORS[name].make(ls.Objective(Small(p.model, late), p.loss, p.batches(sizes)))
    V = block(whole.shape[1])
    expected = whole @ V
    for _ in range(2):  # what is kept of a batch must not be of one that did not fit
        agree(split, split @ V, expected, 1e-12)
    assert split.provenance()["batches split to"] <= MOST
