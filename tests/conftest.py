"""What every test starts from: no display, one thread, the same random numbers."""

from __future__ import annotations

import os
import random

# Before NumPy and torch are loaded. The problems are tiny: with threads of several workers fighting for the
# cores the same tests took eight times as long.
os.environ |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seed every global generator, so that a test does not depend on those before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
