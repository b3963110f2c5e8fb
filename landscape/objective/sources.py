"""Where the data come from: what can be a source of batches, and what would give other batches each time."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils import data as torch_data
from torch.utils._pytree import tree_leaves, tree_map

from landscape.errors import InputError
from landscape.seeds import preserved_rng


def tensors_of(batch: Any) -> list[torch.Tensor]:
    """Return the tensors in a batch of any nesting."""
    return [leaf for leaf in tree_leaves(opened(batch)) if isinstance(leaf, torch.Tensor)]


def batch_size(batch: Any) -> int:
    """Return the number of examples in a batch: the leading dimension of its first tensor."""
    found = next((t for t in tensors_of(batch) if t.ndim > 0), None)
    if found is None:
        raise InputError("a batch must hold a tensor with a leading example dimension", got=type(batch).__name__,
                         fix="stack the examples along dimension 0")  # fmt: skip
    return found.shape[0]


def opened(batch: Any) -> Any:
    """Return a batch in which mappings that torch takes for a leaf (BatchEncoding, UserDict) are dictionaries."""
    return tree_map(lambda leaf: opened(dict(leaf)) if isinstance(leaf, Mapping) else leaf, batch)


def fresh(source: Any) -> Any:
    """Return a loader whose workers are its own: starting again must not end an epoch that training is in."""
    if isinstance(source, torch_data.DataLoader) and source.persistent_workers:
        source = copy.copy(source)
        source._iterator = None
    return source


def is_batch(source: Any) -> bool:
    """Whether ``source`` is one batch itself: a tuple or mapping of tensors."""
    if isinstance(source, Mapping):
        return any(isinstance(value, torch.Tensor) for value in source.values())
    return isinstance(source, tuple) and any(isinstance(value, torch.Tensor) for value in source)


def generators_of(source: Any) -> list[torch.Generator]:
    """Return the generators that the source's samplers draw from."""
    places = [source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)]
    places.append(getattr(places[-1], "sampler", None))
    found = {id(g): g for p in places if isinstance(g := getattr(p, "generator", None), torch.Generator)}
    return list(found.values())


def check_source(source: Any) -> None:
    """Refuse what is not a source of batches, cannot be read twice, or would not give the same batches twice."""
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
    numbers = isinstance(sampler, torch_data.SequentialSampler | torch_data.RandomSampler)
    if isinstance(dataset, Mapping) and numbers and 0 not in dataset:
        raise InputError(
            "a loader over a mapping needs a sampler of its keys",
            got=f"numbers, where keys are such as {next(iter(dataset), None)!r}",
            fix="pass DataLoader(dataset, sampler=list(dataset)), or a TensorDataset of its tensors",
        )
    keys: Any = dataset if isinstance(dataset, Mapping) else torch_data.SequentialSampler(dataset)  # type: ignore[arg-type]
    index = next(iter(keys), None)
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
