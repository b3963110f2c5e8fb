"""Results of one kind for several things: layers, classes, checkpoints, operators."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import xarray as xr

from landscape.errors import InputError
from landscape.results.base import KINDS, STATUSES, Result


class Family(Result):
    """Results of one kind by name, as one result and one file.

    ``members`` gives them back one by one. In ``dataset`` each of their variables has a first dimension
    ``member``; where members differ in length the shorter ones end in NaN. Eigenvectors are at hand until
    the family is saved, and are not part of its file.
    """

    kind = "family"

    @classmethod
    def make(
        cls,
        members: Mapping[str, Result],
        *,
        by: str,
        message: str = "",
        interrupted: bool = False,
        provenance: dict[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        others: Mapping[str, Result] | None = None,
        **attrs: Any,
    ) -> Self:
        """Put ``members`` together; ``by`` says in one word what their names are of.

        A family of a kind of its own adds ``variables``, and has ``others`` count in its status.
        """
        kinds = {type(m) for m in members.values()}
        if len(kinds) != 1 or any(issubclass(kind, Family) for kind in kinds):
            raise InputError("a family is of results of one kind", got=sorted(k.__name__ for k in kinds) or "none",
                             fix="put each kind into a family of its own")  # fmt: skip
        stacked, facts = _stacked([m.dataset for m in members.values()])
        statuses = [m.status for m in (*members.values(), *(others or {}).values())]
        bad = [status for status in statuses if not STATUSES[status]]
        words = message or (f"{len(bad)} of {len(statuses)}: {', '.join(sorted(set(bad)))}" if bad else "")
        family = cls._build(
            {**stacked, **(variables or {})},
            {"member": list(members)},
            status="interrupted" if interrupted else (bad or statuses)[0],
            message=words,
            provenance=provenance,
            by=by,
            members=json.dumps(facts, default=str),
            **attrs,
        )
        family._cache["members"] = dict(members)
        return family

    @property
    def by(self) -> str:
        """What the names are of, in one word."""
        return str(self.dataset.attrs["by"])

    @property
    def members(self) -> dict[str, Any]:
        """The single results by name."""
        if "members" not in self._cache:
            names = [str(name) for name in self.dataset["member"].to_numpy()]
            facts = json.loads(self.dataset.attrs["members"])
            self._cache["members"] = {
                name: _member(self.dataset, i, fact) for i, (name, fact) in enumerate(zip(names, facts, strict=True))
            }
        found: dict[str, Any] = self._cache["members"]
        return found

    @property
    def of(self) -> str:
        """The kind of the members."""
        return next(iter(self.members.values())).kind

    def __getitem__(self, name: str) -> Any:
        if name not in self.members:
            raise InputError(f"there is no such {self.by}", got=name, fix=f"names are {', '.join(self.members)}")
        return self.members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.members)

    def summary(self) -> dict[str, str]:
        """Return what each member puts first."""
        found = {}
        for name, member in self.members.items():
            first = next(iter(member.summary().items()), ("", member.status))
            found[name] = f"{first[0]} {first[1]}".strip() + ("" if member.ok else f" ({member.status})")
        return found


def _stacked(parts: list[xr.Dataset]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return variables with the first dimension ``member``, and what is needed to take them apart again."""
    named = [{str(name): v for name, v in part.variables.items() if name != "vectors"} for part in parts]
    facts: list[dict[str, Any]] = [
        {
            "attrs": _plain(part.attrs),
            "sizes": {str(dim): n for v in own.values() for dim, n in v.sizes.items()},
            "coords": [name for name in own if name in part.coords],
            "variables": {name: [v.dtype.str, _plain(v.attrs)] for name, v in own.items()},
        }
        for part, own in zip(parts, named, strict=True)
    ]
    longest: dict[str, int] = {}
    for fact in facts:
        longest |= {dim: max(n, longest.get(dim, 0)) for dim, n in fact["sizes"].items()}
    stacked = {}
    for name in dict.fromkeys(name for own in named for name in own):
        given = [own[name] for own in named if name in own]
        whole = _filled([len(parts), *(longest[str(dim)] for dim in given[0].dims)], {v.dtype for v in given})
        for i, own in enumerate(named):
            if name in own:
                place: tuple[int | slice, ...] = (i, *map(slice, own[name].shape))
                whole[place] = own[name].to_numpy()
        stacked[_key(name, longest)] = (("member", *given[0].dims), whole, given[0].attrs)
    return stacked, facts


def _key(name: str, dims: Mapping[Any, int]) -> str:
    """Return another name for a coordinate of its own dimension, which members need not have in common."""
    return name + "_names" * (name in dims)


def _filled(shape: list[int], dtypes: set[np.dtype]) -> np.ndarray:
    """Return an array of what stands where a member has nothing: NaN, no words, false."""
    kinds = {dtype.kind for dtype in dtypes}
    if kinds <= {"O", "U"}:
        return np.full(shape, "", dtype=object)
    if kinds == {"b"}:
        return np.zeros(shape, dtype=bool)
    return np.full(shape, np.nan, dtype=np.result_type(np.float32, *dtypes))


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v.tolist() if isinstance(v, np.generic | np.ndarray) else v for k, v in attrs.items()}


def _member(dataset: xr.Dataset, index: int, fact: dict[str, Any]) -> Result:
    """Return one of the results that were stacked, as it was."""
    variables = {}
    for name, (dtype, attrs) in fact["variables"].items():
        one = dataset[_key(name, dataset.sizes)].variable[index]
        one = one[tuple(slice(fact["sizes"][dim]) for dim in one.dims)]
        variables[name] = (one.dims, one.to_numpy().astype(dtype), attrs)
    part = xr.Dataset(variables, attrs=fact["attrs"]).set_coords(fact["coords"])
    return KINDS[fact["attrs"]["landscape_kind"]](part)
