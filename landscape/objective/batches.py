"""The data: read in one fixed order, moved, measured, held when it fits, and checked not to change."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import data as torch_data
from torch.utils._pytree import tree_leaves, tree_map

from landscape.errors import DataChangedError, InputError
from landscape.seeds import preserved_rng, seed_all

CACHE_LIMIT = 1 << 30  # bytes


def tensors_of(batch: Any) -> list[torch.Tensor]:
    """Return the tensors in a batch of any nesting."""
    return [leaf for leaf in tree_leaves(_opened(batch)) if isinstance(leaf, torch.Tensor)]


def batch_size(batch: Any) -> int:
    """Return the number of examples in a batch: the leading dimension of its first tensor."""
    found = next((t for t in tensors_of(batch) if t.ndim > 0), None)
    if found is None:
        raise InputError("a batch must hold a tensor with a leading example dimension", got=type(batch).__name__,
                         fix="stack the examples along dimension 0")  # fmt: skip
    return found.shape[0]


def _opened(batch: Any) -> Any:
    """Return a batch whose outer mapping, if any, is a plain dictionary (BatchEncoding, UserDict)."""
    return dict(batch) if isinstance(batch, Mapping) and not isinstance(batch, dict) else batch


class Batches:
    """A re-iterable over batches on one device.

    The first pass reads the source. When all of it takes less than ``CACHE_LIMIT`` bytes it is held and
    later passes use it; otherwise each pass reads again and must see the same data.
    """

    def __init__(self, source: Any, device: torch.device, dtype: torch.dtype | None) -> None:
        self._source = [source] if _is_batch(source) else source
        self._device, self._dtype = device, dtype
        self._held: list[Any] | None = None
        self._streams = False  # the data are too large to be held
        self._checksum: float | None = None
        self.fingerprint = ""
        self.examples = 0
        self.count: int | None = None  # batches, known after the first pass
        _check_source(self._source)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._read() if self._held is None else self._held:
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

    def _read(self) -> Iterator[Any]:
        """Read the source, inside :meth:`undisturbed` only: a source that shuffles does it the same way each time."""
        known = self._checksum
        held: list[Any] | None = None if self._streams else []
        held_bytes, examples, count, checksum = 0, 0, 0, 0.0
        digest = hashlib.blake2b(digest_size=8)
        for g in _generators(self._source):
            g.manual_seed(0)
        seed_all(0)
        for raw in _fresh(self._source):
            batch = tree_map(self._move, _opened(raw))
            tensors = tensors_of(batch)
            examples += batch_size(batch)
            count += 1
            checksum += sum(_weighted_sum(t) for t in tensors)
            if held is not None:
                for t in tensors if known is None else ():
                    digest.update(t.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
                held_bytes += sum(t.numel() * t.element_size() for t in tensors)
                held.append(batch)
                if held_bytes > CACHE_LIMIT:
                    held = None
            yield batch
        if count == 0:
            raise InputError("the data holds no batch", got="an empty loader", why="there is nothing to average over",
                             fix="check the data set's length and drop_last")  # fmt: skip
        if known is None:
            self._checksum, self.examples, self.count = checksum, examples, count
            self.fingerprint = digest.hexdigest()
        elif examples != self.examples or abs(checksum - known) > 1e-6 * max(1.0, abs(known)):
            raise DataChangedError(
                "two passes over the data differ",
                got=f"{examples} examples against {self.examples}, sums {checksum:.8g} against {known:.8g}",
                why="every product would be of another operator",
                fix="switch augmentation and drop_last off, or pass list(loader) to keep one draw of the data",
            )
        self._held, self._streams = held, held is None

    def _move(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        dtype = self._dtype if self._dtype is not None and leaf.is_floating_point() else None
        moved = leaf.detach().to(device=self._device, dtype=dtype, non_blocking=True)
        # what is held must be ours: a loader may refill one buffer, and the caller may edit its tensors; and
        # inference tensors cannot be part of a graph
        return moved.clone() if moved.is_inference() or moved.data_ptr() == leaf.data_ptr() else moved

    def held(self) -> list[Any]:
        """Return all batches as a list, reading them if that has not been done."""
        return list(self) if self._held is None else self._held

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Leave the random generators of the source's sampler as found: training may share the loader."""
        generators = _generators(self._source)
        states = [g.get_state() for g in generators]
        with preserved_rng():
            try:
                yield
            finally:
                for g, state in zip(generators, states, strict=True):
                    g.set_state(state)


def _weighted_sum(t: torch.Tensor) -> float:
    """Return a sum that does not depend on the order of the examples but on that of the entries in each."""
    if t.is_complex() or t.ndim == 0 or t.numel() == 0:
        return 0.0 if t.is_complex() else float(t.sum())
    entries = t.sum(0, dtype=torch.float64).reshape(-1)
    weights = torch.arange(len(entries), dtype=torch.float64, device=t.device).mul_(0.6180339887498949).frac_().add_(1)
    return float(torch.dot(entries, weights))


def _fresh(source: Any) -> Any:
    """Return a loader whose workers are its own: starting again must not end an epoch that training is in."""
    if isinstance(source, torch_data.DataLoader) and source.persistent_workers:
        source = copy.copy(source)
        source._iterator = None
    return source


def _is_batch(source: Any) -> bool:
    """Whether ``source`` is one batch itself: a tuple or mapping of tensors."""
    if isinstance(source, Mapping):
        return any(isinstance(value, torch.Tensor) for value in source.values())
    return isinstance(source, tuple) and any(isinstance(value, torch.Tensor) for value in source)


def _generators(source: Any) -> list[torch.Generator]:
    places = [source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)]
    places.append(getattr(places[-1], "sampler", None))
    found = {id(g): g for p in places if isinstance(g := getattr(p, "generator", None), torch.Generator)}
    return list(found.values())


def _check_source(source: Any) -> None:
    if isinstance(source, torch_data.Dataset) or not isinstance(source, Iterable) or isinstance(source, torch.Tensor):
        raise InputError(
            "the data must be a loader or a list of batches",
            got=type(source).__name__,
            fix="wrap a data set as DataLoader(dataset, batch_size=256)",
        )
    if isinstance(source, Iterator):
        raise InputError(
            "the data must be readable more than once",
            got=f"a {type(source).__name__}",
            why="an iterator is used up by the first pass",
            fix="pass the loader itself, or list(...) of the iterator",
        )
    if _length(source) == 0:
        raise InputError("the data holds no batch", got="an empty loader", why="there is nothing to average over",
                         fix="check the data set's length and drop_last")  # fmt: skip
    if isinstance(source, torch_data.DataLoader):
        _check_loader(source)


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:  # a loader over a stream has the method, but no length
        return None


def _check_loader(loader: torch_data.DataLoader[Any]) -> None:
    dataset, batches = loader.dataset, loader.batch_sampler
    sampler = getattr(batches, "sampler", loader.sampler)
    shuffles = isinstance(sampler, torch_data.RandomSampler | torch_data.SubsetRandomSampler)
    draws = isinstance(sampler, torch_data.WeightedRandomSampler) or getattr(sampler, "replacement", False)
    if isinstance(sampler, torch_data.RandomSampler):
        draws = draws or sampler.num_samples != len(sampler.data_source)
    size = getattr(batches, "batch_size", loader.batch_size)
    drops = shuffles and getattr(batches, "drop_last", False) and size and len(sampler) % size  # type: ignore[arg-type]
    if draws or drops:
        raise InputError(
            "each pass over the loader must see the same examples",
            got="a sampler that draws at random" if draws else "shuffle=True with drop_last=True",
            why="every product would be of another operator",
            fix="pass a loader with shuffle=False, or list(loader) to keep one draw",
        )
    if isinstance(dataset, torch_data.IterableDataset) or not hasattr(dataset, "__getitem__"):
        return
    index = next(iter(torch_data.SequentialSampler(dataset)), None)  # type: ignore[arg-type]
    if index is None:
        return
    with preserved_rng():
        first, *others = (tensors_of(dataset[index]) for _ in range(8))  # a coin flip can fall the same way twice
    same = all(
        len(first) == len(other)
        and all(
            a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
            for a, b in zip(first, other, strict=True)
        )
        for other in others
    )
    if not same:
        raise InputError(
            "the data set must give the same example twice",
            got="two different ones for the same index",
            why="random augmentation makes every pass another loss",
            fix="use the data set without augmentation, or list(loader) to keep one draw",
        )
