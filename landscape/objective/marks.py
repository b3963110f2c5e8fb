"""Whether tensors that are shared with the model are still what they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch

SPREAD = 256  # entries of each tensor that are remembered


class Marks:
    """What tells whether one of ``tensors`` has changed: torch's count of writes, and entries spread over each.

    Writes through ``.data`` pass the count. They are seen where they touch a remembered entry: all of them that change
    a tensor as a whole, and every one in a tensor of up to 256 entries. Cost of a look: about a microsecond for each
    tensor. On an accelerator, where looking at entries would make the host wait in every pass, only torch's count is.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = dict(tensors)
        self._versions = _versions(self._tensors)
        seen = {n: t for n, t in self._tensors.items() if t.device.type == "cpu" and t.layout == torch.strided}
        self._views = {name: _spread(t) for name, t in seen.items() if t.numel()}
        self._entries = _gathered(self._views)

    def changed(self) -> str | None:
        """Return the name of a tensor that has changed since the marks were made; ``None`` where none has."""
        now = _versions(self._tensors)
        if (name := next((name for name in now if now[name] != self._versions[name]), None)) is not None:
            return name
        for names, before in self._entries.items():
            entries = torch.cat([self._views[name] for name in names])
            if torch.equal(entries, before) or torch.allclose(entries, before, rtol=0, atol=0, equal_nan=True):
                continue
            sizes = [len(self._views[name]) for name in names]
            parts = zip(names, entries.split(sizes), before.split(sizes), strict=True)
            return next(n for n, a, b in parts if not torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))
        return None


def _versions(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return how often each tensor has been written to, as far as torch counts it."""
    return {name: 0 if t.is_inference() else t._version for name, t in tensors.items()}


def _spread(t: torch.Tensor) -> torch.Tensor:
    """Return a view of entries of ``t`` that lie at equal distances in memory, and not all in one column."""
    strides = t.stride()
    flat = t.permute(sorted(range(t.ndim), key=lambda dim: -strides[dim])).reshape(-1)
    return flat[:: -(-len(flat) // SPREAD) | 1]


def _gathered(views: Mapping[str, torch.Tensor]) -> dict[tuple[str, ...], torch.Tensor]:
    """Return copies of the views, those of one type and place in one tensor, by their names."""
    alike: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, view in views.items():
        alike.setdefault((view.dtype, view.device), []).append(name)
    return {tuple(names): torch.cat([views[name] for name in names]) for names in alike.values()}
