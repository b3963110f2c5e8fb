"""Block-diagonal views of an operator: what layers, or any groups of parameters, do without each other."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

import torch

from landscape.curvature.algebra.arithmetic import Composite, check_square, name_of
from landscape.curvature.algebra.restriction import Restricted
from landscape.curvature.operator import LinearOperator
from landscape.errors import InputError
from landscape.space import Selection, Space

Grouping = str | Callable[[str], str] | Mapping[str, Selection]

COLUMNS = 16  # most columns that travel together, over blocks and right-hand sides


class BlockDiagonal(Composite):
    """An operator without what couples different blocks of parameters.

    It is also a read-only mapping from the blocks' names to the operator restricted to each:
    ``{name: eigsh(part, 1) for name, part in view.items()}``.

    Parameters
    ----------
    operator : LinearOperator, shape (n, n)
        The whole.
    by : {"layer", "parameter"}, callable or mapping
        ``"layer"`` puts the parameters of one module together, under the module's name; ``"parameter"``
        keeps each alone; a callable gives the block's name from a parameter's; a mapping gives for each
        block's name a selection as in ``restrict``, and every parameter must be in exactly one.

    Notes
    -----
    A product with B blocks costs B products of the whole, since one product mixes all blocks: each block's
    part of the vector is multiplied alone. They travel as columns, up to 16 at a time. A product of one
    restricted operator costs one.
    """

    def __init__(self, operator: LinearOperator, by: Grouping = "layer") -> None:
        check_square(operator, "a block-diagonal view")
        super().__init__([operator], operator.space)
        self.symmetric, self.psd = operator.symmetric, operator.psd
        self._by = by if isinstance(by, str) else getattr(by, "__name__", type(by).__name__)
        self._names = _grouped(operator.space, by)
        self._blocks = {block: Restricted(operator, _among(names)) for block, names in self._names.items()}

    # -- the operator ---------------------------------------------------------------------------

    def _matmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._products(block, lambda masked: self.parts[0] @ masked)

    def _rmatmat(self, block: torch.Tensor) -> torch.Tensor:
        return self._products(block, self.parts[0].rmatmat)

    def _products(self, block: torch.Tensor, multiply: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        places = self.space.slices
        groups = [[places[name] for name in names] for names in self._names.values()]
        k = block.shape[1]
        together = max(1, COLUMNS // k)
        result = torch.empty_like(block)
        for begin in range(0, len(groups), together):
            some = groups[begin : begin + together]
            masked = block.new_zeros(len(block), len(some) * k)
            for i, rows in enumerate(some):
                for part in rows:
                    masked[part, i * k : (i + 1) * k] = block[part]
            product = multiply(masked)
            for i, rows in enumerate(some):
                for part in rows:
                    result[part] = product[part, i * k : (i + 1) * k]
        return result

    def words(self) -> str:
        """Return the whole's name, called block-diagonal."""
        return f"block-diagonal {name_of(self.parts[0])}"

    def provenance(self) -> dict[str, Any]:
        """Return the whole's facts, and what the blocks are."""
        return {**super().provenance(), "blocks": {"by": self._by, "count": len(self)}}

    # -- the mapping ------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Restricted:
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._blocks)

    def keys(self) -> KeysView[str]:
        """Return the names of the blocks."""
        return self._blocks.keys()

    def values(self) -> ValuesView[Restricted]:
        """Return the restricted operators."""
        return self._blocks.values()

    def items(self) -> ItemsView[str, Restricted]:
        """Return the names with the restricted operators."""
        return self._blocks.items()


def layer_of(name: str) -> str:
    """Return the module that owns a parameter, by name; what a parametrisation stands for counts as its own."""
    owner, inside, _ = name.partition("parametrizations.")
    owner = owner.removesuffix(".") if inside else name.rpartition(".")[0]
    return owner or "(model)"


def _among(names: list[str]) -> Callable[[str, torch.Tensor], bool]:
    return lambda name, _: name in names


def _grouped(space: Space, by: Grouping) -> dict[str, list[str]]:
    """Return the names of the parameters in each block, both in the order of the space."""
    found: dict[str, list[str]] = {}
    if isinstance(by, Mapping):
        chosen = {block: space.restrict(params).names for block, params in by.items()}
        owners = {name: [block for block, names in chosen.items() if name in names] for name in space.names}
        wrong = {name: blocks for name, blocks in owners.items() if len(blocks) != 1}
        if wrong:
            name, blocks = next(iter(wrong.items()))
            raise InputError("every parameter must be in exactly one block",
                             got=f"{name} in {' and '.join(blocks) if blocks else 'none'}",
                             fix="restrict the operator first, or change the selections")  # fmt: skip
        for name, (block,) in owners.items():
            found.setdefault(block, []).append(name)
        return found
    rules: dict[Any, Callable[[str], str]] = {"layer": layer_of, "parameter": str}
    rule = by if callable(by) else rules.get(by)
    if rule is None:
        raise InputError("blocks go by 'layer', 'parameter', a function of names or a mapping", got=by,
                         fix="use by='layer'")  # fmt: skip
    for name in space.names:
        found.setdefault(str(rule(name)), []).append(name)
    return found
