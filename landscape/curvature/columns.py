"""Several columns: one after another or all at once, whichever a short trial shows to be faster."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial

import torch

from landscape.curvature.unsupported import recognised
from landscape.errors import InputError, is_out_of_memory

CHOICES = ("auto", "loop", "batch")
FEW = 8  # columns from which a choice is worth a trial
WIDTH = 16  # most columns at once: each holds tangents of all activations
MARGIN = 1.5  # how much faster batching must be: near a tie the simpler way is taken

Product = Callable[[torch.Tensor], torch.Tensor]


class Columns:
    """Multiplies the columns of a block by a product of one vector, or by one of many.

    Parameters
    ----------
    choice : {"auto", "loop", "batch"}
        ``"auto"``: the first block of at least 8 columns is a trial, and its outcome holds for all later ones.
        Both ways give the same numbers up to rounding; where ``torch.use_deterministic_algorithms`` is on,
        columns are looped.

    Attributes
    ----------
    words : str
        What was chosen, and why.
    """

    def __init__(self, choice: str = "auto") -> None:
        if choice not in CHOICES:
            raise InputError("columns must be 'auto', 'loop' or 'batch'", got=choice, fix="pass columns='auto'")
        self._batched = {"loop": False, "batch": True}.get(choice)
        self.words = "columns batched" if self._batched else ""

    def __call__(self, block: torch.Tensor, one: Product, many: Product | None) -> torch.Tensor:
        """Return the products with the columns of ``block`` (n, k).

        ``one`` maps a vector (n,) to a vector; ``many`` maps vectors (k, n) to vectors (k, n), and is ``None``
        for a loss that draws random numbers: under ``torch.func`` these would be others.
        """
        # a vector in one piece of memory: reading and writing columns one by one would touch the whole block each time
        return self._rows(block.T.contiguous(), one, many).T

    def _rows(self, rows: torch.Tensor, one: Product, many: Product | None) -> torch.Tensor:
        """Return the products with the rows (k, n), as rows."""
        count = len(rows)
        if many is None:
            self.words = "columns looped: the loss draws random numbers" if count > 1 else self.words
            return _looped(one, rows)
        if self._batched is None and count >= FEW and torch.are_deterministic_algorithms_enabled():
            self._batched = False
        if self._batched is None and count >= FEW:
            return self._trial(rows, one, many)
        if not self._batched or count == 1:
            return _looped(one, rows)
        parts = [_batched(many, part) for part in rows.split(WIDTH)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _trial(self, rows: torch.Tensor, one: Product, many: Product) -> torch.Tensor:
        """Time both ways on columns that have to be multiplied anyway."""
        first = _looped(one, rows[:1])  # whatever is done once is done now
        timed = [_timed(partial(_looped, one, row), rows.device) for row in (rows[1:2], rows[2:3])]
        seconds, done = min(time for time, _ in timed), torch.cat([first, *(product for _, product in timed)])
        half = 3 + min(WIDTH, (len(rows) - 2) // 2)
        try:
            together, middle = _timed(lambda: _quiet(many, rows[3:half]), rows.device)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._batched, self.words = False, "columns looped: torch cannot batch this loss"
            return torch.cat([done, self._rows(rows[3:], one, many)])
        ratio = seconds * (half - 3) / together
        self._batched = ratio > MARGIN
        self.words = f"columns {'batched' if self._batched else 'looped'}: batching is {ratio:.1f} times as fast"
        return torch.cat([done, middle, self._rows(rows[half:], one, many)])


def _looped(one: Product, rows: torch.Tensor) -> torch.Tensor:
    if len(rows) == 1:
        return one(rows[0])[None]
    products = None
    for i, v in enumerate(rows):
        product = one(v.clone())  # aligned as a vector of its own is, for the same bits
        products = product.new_empty(len(rows), len(product)) if products is None else products
        products[i] = product
    return rows.clone() if products is None else products


def _batched(many: Product, rows: torch.Tensor) -> torch.Tensor:
    try:
        with recognised():
            return _quiet(many, rows)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            "torch cannot batch the columns of a block for this loss",
            got=" ".join(str(error).split())[:160],
            fix="pass columns='auto' or columns='loop'",
        ) from error


def _quiet(many: Product, rows: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")  # the trial sees to that
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is")  # torch's first dual number
        return many(rows)


def _timed(call: Callable[[], torch.Tensor], device: torch.device) -> tuple[float, torch.Tensor]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result
