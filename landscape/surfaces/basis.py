"""Directions as rows of a matrix, with how they were made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch

from landscape.space import dot64


@dataclass(frozen=True)
class Directions:
    """Directions as rows of ``vectors`` (d, n), with how they were made.

    ``labels`` name the axes of a plot; ``made`` holds the method and its settings.
    """

    vectors: torch.Tensor
    labels: list[str]
    made: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)

    def describe(self) -> dict[str, Any]:
        """Return what a result records of them: method, settings, norms, a fingerprint of the numbers."""
        raw = self.vectors.detach().cpu().contiguous().numpy().tobytes()
        return {
            **self.made,
            "labels": self.labels,
            "norms": [float(dot64(v, v)) ** 0.5 for v in self.vectors],
            "fingerprint": hashlib.blake2b(raw, digest_size=8).hexdigest(),
        }
