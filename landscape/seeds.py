"""Explicit randomness: every random vector is a function of (seed, index) and of nothing else.

Vectors are drawn on the host with a counter-based generator, so the same seed gives the same
vector on every device, and probe 7 is the same whether 8 or 80 probes are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from landscape.errors import InputError


def generator(seed: int, *index: int) -> np.random.Generator:
    """Return the generator that belongs to ``seed`` and ``index``; independent of every other one."""
    check_seed(seed)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *index])))


def check_seed(seed: int) -> int:
    """Return ``seed`` if it is a non-negative integer."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(
            "seed must be a non-negative integer",
            got=seed,
            why="every random choice is a function of it, so that a result can be repeated",
            fix="pass for example seed=0",
        )
    return int(seed)


def rademacher(n: int, seed: int, index: int, *, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Return the vector of ``n`` random signs number ``index`` of ``seed``."""
    raw = np.frombuffer(generator(seed, index).bytes((n + 7) // 8), dtype=np.uint8)
    signs = np.unpackbits(raw, count=n).view(np.int8)
    return torch.from_numpy(signs).to(device=device, dtype=dtype).mul_(2).sub_(1)


def normal(n: int, seed: int, index: int, *, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Return the standard normal vector of length ``n`` number ``index`` of ``seed``."""
    values = generator(seed, index).standard_normal(n, dtype=np.float64 if dtype == torch.float64 else np.float32)
    return torch.from_numpy(values).to(device=device, dtype=dtype)


def uniform_at(seed: int, sample: int, start: int, examples: int, entries: int) -> torch.Tensor:
    """Return uniform numbers in (0, 1), shape (examples, entries), float64 on the host.

    Each is a function of the seed, the sample, the number ``start + i`` of its example in the data and its
    place in the example: the same however the data are batched. SplitMix64 of these (Steele et al. 2014).
    """
    base = np.random.SeedSequence([check_seed(seed), sample]).generate_state(1, np.uint64)[0]
    rows = np.arange(start, start + examples, dtype=np.uint64)[:, None]
    places = np.arange(entries, dtype=np.uint64)[None, :]
    with np.errstate(over="ignore"):
        mixed = _splitmix(_splitmix(base + rows * _GOLDEN) + places * _GOLDEN)
    return torch.from_numpy(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix(x: np.ndarray) -> np.ndarray:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Leave the states of Python's, NumPy's and torch's global generators (CPU and CUDA) as found."""
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def seed_torch(seed: int, *index: int) -> None:
    """Seed torch's global generators from (seed, index); call it inside :func:`preserved_rng` only."""
    value = int(np.random.SeedSequence([seed, *index]).generate_state(1, np.uint64)[0]) >> 1
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # torch.manual_seed would leave a seed behind for a later start of CUDA
        for device_generator in torch.cuda.default_generators:
            device_generator.manual_seed(value)


def torch_states(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's global generators, that of the host and that of an accelerator ``device``."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def seed_all(seed: int, *index: int) -> None:
    """Seed Python's, NumPy's and torch's global generators; call it inside :func:`preserved_rng` only."""
    seed_torch(seed, *index)
    state = np.random.SeedSequence([seed, *index]).generate_state(1)
    random.seed(int(state[0]))
    np.random.seed(state)  # noqa: NPY002
