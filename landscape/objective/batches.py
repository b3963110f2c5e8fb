"""The data: read in one fixed order, moved, measured, held where there is room, and checked not to change."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils._pytree import tree_map

from landscape.errors import DataChangedError, InputError
from landscape.objective.sources import batch_size, check_source, fresh, generators_of, is_batch, opened, tensors_of
from landscape.seeds import preserved_rng, seed_all

CACHE_LIMIT = 1 << 30  # bytes that are held beside a model on the CPU, and bytes that the fingerprint is of
CACHE_SHARE = 0.25  # of an accelerator's free memory, and of the host's beside one
CACHES = ("auto", "device", "host", "none")


class Batches:
    """A re-iterable over batches on one device.

    The first pass reads the source. Later passes use what of it is held: ``place`` says where that is,
    ``"device"``, ``"host"`` or ``"none"``. With ``"none"`` each pass reads again and must see the same data.
    """

    def __init__(self, source: Any, device: torch.device, dtype: torch.dtype | None, cache: str = "auto") -> None:
        if cache not in CACHES:
            raise InputError(f"cache must be one of {', '.join(map(repr, CACHES))}", got=cache, fix="pass cache='auto'")
        self.source = [source] if is_batch(source) else source
        self._device, self._dtype = device, dtype
        self._fixed = cache != "auto"
        self.place = "device" if cache == "auto" else cache
        self._held: list[Any] | None = None
        self._checksum: float | None = None
        self.fingerprint = ""
        self.examples = 0
        self.bytes = 0  # of all tensors
        self.partial = False  # some of the data stand for all of them
        self.count: int | None = None  # batches, known after the first pass
        self.seconds = 0.0  # that the last pass waited for the source
        self.passes = 0  # over the data, begun so far
        check_source(self.source)

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        for batch in self._moved(self._read()) if self._held is None else self._resident(self._held):
            tensors = tensors_of(batch)
            versions = [t._version for t in tensors]
            yield tree_map(lambda leaf: leaf, batch)  # new containers: a loss may take its batch apart
            if versions != [t._version for t in tensors]:
                raise DataChangedError(
                    "the loss or the model changes its batch in place",
                    got="a batch that differs after its forward pass",
                    why="each pass would be over other data",
                    fix="write x = x * 2 instead of x *= 2, and inplace=False in a first layer",
                )

    # -- reading ----------------------------------------------------------------------------------

    def _read(self) -> Iterator[Any]:
        """Read the source, inside :meth:`undisturbed` only: a source that shuffles does it the same way each time."""
        known = self._checksum
        shelf = _Shelf(self.place, self._device, self._dtype, fixed=self._fixed or known is not None)
        examples, count, size, checksum, waited = 0, 0, 0, 0.0, 0.0
        digest = hashlib.blake2b(digest_size=8)
        for g in generators_of(self.source):
            g.manual_seed(0)
        seed_all(0)
        began = time.perf_counter()
        for raw in fresh(self.source):
            waited += time.perf_counter() - began
            batch = shelf.add(opened(raw))
            tensors = tensors_of(batch)
            examples += batch_size(batch)
            count += 1
            checksum += sum(_weighted_sum(t) for t in tensors)
            for t in tensors if known is None and size <= CACHE_LIMIT else ():
                digest.update(t.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            size += _bytes(batch)
            yield batch
            began = time.perf_counter()
        if count == 0:
            raise InputError("the data holds no batch", got="an empty loader", why="there is nothing to average over",
                             fix="check the data set's length and drop_last")  # fmt: skip
        if known is None:
            self._checksum, self.examples, self.count, self.bytes = checksum, examples, count, size
            self.fingerprint = digest.hexdigest()
        elif examples != self.examples or abs(checksum - known) > 1e-6 * max(1.0, abs(known)):
            raise DataChangedError(
                "two passes over the data differ",
                got=f"{examples} examples against {self.examples}, sums {checksum:.8g} against {known:.8g}",
                why="every product would be of another operator",
                fix="switch augmentation and drop_last off, or pass list(loader) to keep one draw of the data",
            )
        self._held, self.place, self.seconds = shelf.held, shelf.place, waited

    # -- moving -----------------------------------------------------------------------------------

    def _resident(self, held: list[Any]) -> Iterable[Any]:
        return held if self.place == "device" else self._moved(held)

    def _moved(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches on the device; to CUDA each is copied while the one before it is worked on."""
        if self._device.type != "cuda":
            yield from (_to(batch, self._device) for batch in batches)
            return
        stream = torch.cuda.Stream(self._device)
        ahead: tuple[Any, torch.cuda.Event] | None = None
        for batch in batches:
            with torch.cuda.stream(stream):
                copied = _to(_pinned(batch), self._device, non_blocking=True), stream.record_event()
            if ahead is not None:
                yield _arrived(*ahead, self._device)
            copied[1].synchronize()  # before the source may refill its buffers; long done while we worked
            ahead = copied
        if ahead is not None:
            yield _arrived(*ahead, self._device)

    # -- for others -------------------------------------------------------------------------------

    def held(self) -> list[Any]:
        """Return all batches as a list."""
        return list(self)

    def reread(self, count: int) -> list[Any]:
        """Return the first ``count`` batches, read anew from the source, inside :meth:`undisturbed`."""
        return list(islice(Batches(self.source, self._device, self._dtype, "none"), count))

    @property
    def coming(self) -> int:
        """The batches of the next pass, known after the first one."""
        return len(self._held) if self._held is not None else self.count or 0

    def survey(self) -> None:
        """Read all of the data if that has not been done, so that its counts are known."""
        if self.count is None:
            before = self._held, self.place
            for _ in self._read():
                continue
            if before[0] is not None:  # inside :meth:`limited`
                self._held, self.place = before

    @contextmanager
    def limited(self, times: int = 1) -> Iterator[int]:
        """Let the first batch, ``times`` times, stand for the data, inside :meth:`undisturbed`; give its examples.

        All counts stay those of the whole data.
        """
        before = self._held, self.place, self.partial
        first = list(islice(self, 1))
        self._held, self.place, self.partial = first * times, "device", self.count != 1 or times > 1
        try:
            yield batch_size(first[0])
        finally:
            self._held, self.place, self.partial = before

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Leave the random generators of the source's sampler as found: training may share the loader."""
        generators = generators_of(self.source)
        states = [g.get_state() for g in generators]
        with preserved_rng():
            try:
                yield
            finally:
                for g, state in zip(generators, states, strict=True):
                    g.set_state(state)


class _Shelf:
    """Copies of batches, held while there is room: on the device, else on the host, else nowhere."""

    def __init__(self, place: str, device: torch.device, dtype: torch.dtype | None, *, fixed: bool) -> None:
        self.place, self._device, self._dtype = place, device, dtype
        self.held: list[Any] | None = None if place == "none" else []
        self._room = float("inf") if fixed else _room(place, device)
        self._size = 0

    def add(self, batch: Any) -> Any:
        """Return a copy of ``batch``, which is held if there is room."""
        copied = self._copied(batch)
        if self.held is None:
            return copied
        self.held.append(copied)
        self._size += _bytes(copied)
        while self.held is not None and self._size > self._room:
            if self.place == "device" and self._device.type != "cpu":
                self.place, self._room = "host", _room("host", self._device)
                self.held = [self._copied(other) for other in self.held]
            else:
                self.place, self.held = "none", None
        return copied

    def _copied(self, batch: Any) -> Any:
        copied = tree_map(self._owned, batch)
        return _pinned(copied) if self.place == "host" and self._device.type == "cuda" else copied

    def _owned(self, leaf: Any) -> Any:
        """Return a tensor of ours: a loader may refill one buffer, and the caller may edit its tensors."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        place = {"device": self._device, "host": torch.device("cpu"), "none": leaf.device}[self.place]
        dtype = self._dtype if leaf.is_floating_point() else None
        ours = leaf.detach().to(device=place, dtype=dtype)
        # inference tensors cannot be part of a graph
        return ours.clone() if ours.is_inference() or ours.data_ptr() == leaf.data_ptr() else ours


def _room(place: str, device: torch.device) -> float:
    """Return how many bytes of data may be held at ``place``."""
    if place == "device" and device.type == "cuda":
        return CACHE_SHARE * torch.cuda.mem_get_info(device)[0]
    if place == "host":
        return CACHE_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return CACHE_LIMIT


def _bytes(batch: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_of(batch))


def _to(batch: Any, device: torch.device, *, non_blocking: bool = False) -> Any:
    return tree_map(lambda t: t.to(device, non_blocking=non_blocking) if isinstance(t, torch.Tensor) else t, batch)


def _pinned(batch: Any) -> Any:
    """Return a batch whose host tensors lie in page-locked memory, from which copies run beside the work."""
    return tree_map(lambda t: t.pin_memory() if isinstance(t, torch.Tensor) and t.device.type == "cpu" else t, batch)


def _arrived(batch: Any, done: torch.cuda.Event, device: torch.device) -> Any:
    """Return a batch that was copied on another stream, for use on the present one."""
    present = torch.cuda.current_stream(device)
    present.wait_event(done)
    for t in tensors_of(batch):
        t.record_stream(present)
    return batch


def _weighted_sum(t: torch.Tensor) -> float:
    """Return a sum that does not depend on the order of the examples but on that of the entries in each."""
    if t.is_complex() or t.ndim == 0 or t.numel() == 0:
        return 0.0 if t.is_complex() else float(t.sum())
    entries = t.sum(0, dtype=torch.float64).reshape(-1)
    weights = torch.arange(len(entries), dtype=torch.float64, device=t.device).mul_(0.6180339887498949).frac_().add_(1)
    return float(torch.dot(entries, weights))
