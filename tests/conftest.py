"""What every test starts from: no display, no network-wide threads under xdist, the same random numbers."""

from __future__ import annotations

import os
import random

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread per worker: threads of several would fight for the cores
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seed every global generator, so that a test does not depend on those before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
