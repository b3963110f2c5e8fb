"""Sums of gradients by group of examples, in float64: all that the statistics are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from landscape.errors import InputError
from landscape.objective import Objective
from landscape.seeds import generator
from landscape.space import Space

MEMORY = 1 << 30  # bytes of group sums


class Deal:
    """Deals examples to groups by one random order of all of them, the same for any way of batching.

    Groups are of equal size and otherwise drawn without regard to the data's order. Dealing in turns would
    give each group its share of every class of sorted data, and hide how much a new draw would differ.
    """

    def __init__(self, groups: int, examples: int) -> None:
        self._group = generator(0).permutation(examples) % groups

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the groups of the examples at ``positions`` (b,)."""
        found: np.ndarray = self._group[positions]
        return found


def count_examples(objective: Objective) -> int:
    """Return the number of examples; one look at the data, without the model, if no pass has been made."""
    if not objective.batches.examples:
        with objective.session(grad=False):
            for _ in objective.iterate(objective.point()):
                pass
    return objective.batches.examples


@dataclass(frozen=True)
class Moments:
    """Sums over one or several sets of examples; leading dimensions are sets, P is the number of parameters.

    ``square`` (..., P) is |Σ w_i g_i|², ``squares`` (..., P) is Σ w_i² |g_i|², ``weight`` and ``weight2``
    (...,) are Σ w_i and Σ w_i², ``count`` (...,) is the number of examples.
    """

    square: np.ndarray
    squares: np.ndarray
    weight: np.ndarray
    weight2: np.ndarray
    count: np.ndarray

    def norm2(self) -> np.ndarray:
        """Return the unbiased |G|² by parameter (..., P): the mean inner product of two different examples."""
        with np.errstate(all="ignore"):
            pairs = self.weight**2 - self.weight2
            return (self.square - self.squares) / np.where(pairs > 0, pairs, np.nan)[..., None]


class GroupSums:
    """Sums of weighted gradients (K, n) by group, and of their squared norms (K, P) by group and parameter.

    Parameters
    ----------
    space : Space
        Of the gradients.
    groups : int
        K. Memory: K·n numbers in float64.
    examples : int
        How many examples there are to be dealt to the groups.
    """

    def __init__(self, space: Space, groups: int, examples: int) -> None:
        self.space, self._deal = space, Deal(groups, examples)
        self.vectors = torch.zeros(groups, space.n, dtype=torch.float64, device=space.device)
        self.squares = np.zeros((groups, len(space.names)))
        self.weight, self.weight2 = np.zeros(groups), np.zeros(groups)
        self.count = np.zeros(groups, dtype=np.int64)
        self.not_finite: list[int] = []  # positions of examples without a finite gradient

    @property
    def examples(self) -> int:
        """The number of examples summed."""
        return int(self.count.sum())

    @property
    def used(self) -> np.ndarray:
        """Which groups have examples, by index."""
        return np.flatnonzero(self.count)

    def add(self, gradients: torch.Tensor, weights: torch.Tensor, positions: np.ndarray) -> None:
        """Add gradients (b, n) with weights (b,) of the examples at ``positions`` (b,)."""
        group = self._deal(positions)
        w = weights.detach().cpu().numpy().astype(np.float64)
        squares = self._add_vectors(gradients, group, w).cpu().numpy()
        bad = ~np.isfinite(squares).all(axis=1)
        self.not_finite += positions[bad].tolist()
        with np.errstate(all="ignore"):
            np.add.at(self.squares, group, squares * (w**2)[:, None])
        np.add.at(self.weight, group, w)
        np.add.at(self.weight2, group, w**2)
        np.add.at(self.count, group, 1)

    def _add_vectors(self, gradients: torch.Tensor, group: np.ndarray, weights: np.ndarray) -> torch.Tensor:
        """Add to the vectors and return the squared norms (b, P); a temporary stays in the cache."""
        room = (1 << 19) if gradients.device.type == "cpu" else (64 << 20)
        columns = max(256, room // (8 * len(gradients)))
        few = len(gradients) < len(self.count) and columns < self.space.n  # then most groups stay as they are
        deal = np.zeros((len(self.count), len(gradients)))
        deal[group, np.arange(len(gradients))] = weights
        scatter = torch.from_numpy(deal).to(gradients.device)
        squares = gradients.new_zeros(len(gradients), len(self.space.names), dtype=torch.float64)
        for p, where in enumerate(self.space.slices.values()):
            for start in range(where.start, where.stop, columns):
                part = slice(start, min(start + columns, where.stop))
                wide = gradients[:, part].double()
                squares[:, p] += torch.linalg.vecdot(wide, wide)
                if few:
                    for row, k, weight in zip(wide, group.tolist(), weights.tolist(), strict=True):
                        self.vectors[k, part].add_(row, alpha=weight)
                else:
                    self.vectors[:, part].addmm_(scatter, wide)
        return squares

    def total(self) -> torch.Tensor:
        """Return Σ w_i g_i over all groups (n,)."""
        return self.vectors.sum(0)

    def mean(self) -> torch.Tensor:
        """Return the mean gradient (n,)."""
        return self.total() / float(self.weight.sum() or np.nan)

    def moments(self) -> tuple[Moments, Moments]:
        """Return the moments of all examples, and (K', ...) those without one of the K' groups that have any."""
        total, used = self.total(), self.used
        square = [self._by_parameter(total)] + [self._by_parameter(total - self.vectors[k]) for k in used]
        sums = (self.squares, self.weight, self.weight2, self.count)
        whole = [s.sum(axis=0) for s in sums]
        with np.errstate(all="ignore"):
            left = [w - s[used] for w, s in zip(whole, sums, strict=True)]
        return Moments(square[0], *whole), Moments(np.array(square[1:]), *left)

    def _by_parameter(self, vector: torch.Tensor) -> np.ndarray:
        return torch.stack([torch.dot(part, part) for part in vector.split(self.space.sizes)]).cpu().numpy()


def jackknife(values: np.ndarray) -> np.ndarray:
    """Return the standard error (...) from estimates (K, ...) that each leave out one of K groups."""
    count = len(values)
    if count < 2:
        return np.full(values.shape[1:], np.nan)
    with np.errstate(all="ignore"):
        return np.sqrt((count - 1) / count * ((values - values.mean(axis=0)) ** 2).sum(axis=0))


def check_groups(groups: int, space: Space, sets: int = 1) -> int:
    """Return ``groups``, or as many as keep ``sets`` times so many vectors within ``MEMORY``; at least 2."""
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 2:
        raise InputError(
            "groups must be at least 2", got=groups, why="error bars come from leaving out one", fix="pass 20"
        )
    return max(2, min(groups, MEMORY // (8 * space.n * sets)))


def not_finite_message(positions: Sequence[int], examples: int) -> str:
    """Say which examples have no finite gradient."""
    shown = ", ".join(map(str, positions[:3])) + (" ..." if len(positions) > 3 else "")
    return (
        f"the gradients of {len(positions)} of {examples} examples are NaN or infinite (example {shown}): "
        "check the parameters and the data"
    )
