"""What the tests of commands have in common: a user's file, and ways to run a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from landscape_cli.main import main

TRAIN = """
import torch
from torch import nn
import landscape as ls

def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

def make_objective():
    torch.manual_seed(1)
    return ls.Objective(make_model(), nn.CrossEntropyLoss(), [(torch.randn(20, 4), torch.arange(20) % 3)])

X, Y = torch.randn(4, 4), torch.arange(4) % 3

def make(model=None, batches=((X, Y),), reduction="mean", params=None):
    model = make_model() if model is None else model
    return ls.Objective(model, nn.CrossEntropyLoss(reduction=reduction), list(batches), params=params)

def margin(): return ls.Objective(make_model(), nn.MultiMarginLoss(), [(X, Y)])
def empty(): return make(batches=())
def unreduced(): return make(reduction="none")
def frozen(): return make(make_model().requires_grad_(False))
def nothing(): return make(params="conv.*")
def nan(): return make(batches=((X * float("nan"), Y),))
def broken(): raise ZeroDivisionError("mine")
def other(): return 3
"""


def run(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'cli'}"}
    return subprocess.Popen(
        [sys.executable, "-m", "landscape_cli", *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_listen,
    )  # fmt: skip


def _listen() -> None:
    """Hear Ctrl-C also where the tests run in the background, whose children a shell has ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
