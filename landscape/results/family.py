"""Results of one kind for several things: layers, classes, checkpoints, operators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
        **attrs: Any,
    ) -> Family:
        """Put ``members`` together; ``by`` says in one word what their names are of."""
        kinds = {type(m) for m in members.values()}
        if len(kinds) != 1 or issubclass(cls, next(iter(kinds))):
            raise InputError("a family is of results of one kind", got=sorted(k.__name__ for k in kinds) or "none",
                             fix="put each kind into a family of its own")  # fmt: skip
        dataset, sizes = _stacked({name: m.dataset for name, m in members.items()})
        bad = [m.status for m in members.values() if not m.ok]
        words = message or (f"{len(bad)} of {len(members)}: {', '.join(sorted(set(bad)))}" if bad else "")
        family = cls._build(
            dict(dataset.data_vars),
            {"member": list(members)},
            status="interrupted" if interrupted else _worst(members),
            message=words,
            provenance=provenance,
            by=by,
            members=json.dumps([_plain(m.dataset.attrs) for m in members.values()], default=str),
            sizes=json.dumps(sizes),
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
            self._cache["members"] = _members(self.dataset)
        found: dict[str, Any] = self._cache["members"]
        return found

    @property
    def of(self) -> str:
        """The kind of the members."""
        return str(json.loads(self.dataset.attrs["members"])[0]["landscape_kind"])

    def __getitem__(self, name: str) -> Any:
        if name not in self.members:
            raise InputError(f"there is no such {self.by}", got=name, fix=f"names are {', '.join(self.members)}")
        return self.members[name]

    def __iter__(self) -> Any:
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


def _worst(members: Mapping[str, Result]) -> str:
    """Return the status of the first member that is not the whole answer, else that of the first."""
    statuses = [m.status for m in members.values()]
    return next((s for s in statuses if not STATUSES[s]), statuses[0])


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v.item() if isinstance(v, np.generic) else v for k, v in attrs.items()}


def _stacked(parts: dict[str, xr.Dataset]) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """Return one dataset with the first dimension ``member``, and what is needed to take it apart again."""
    flat = [{str(n): v for n, v in part.variables.items() if n != "vectors"} for part in parts.values()]
    facts = [
        {
            "sizes": {str(d): n for d, n in part.sizes.items()},
            "coords": [name for name in variables if name in part.coords],
            "dtypes": {name: v.dtype.str for name, v in variables.items()},
        }
        for part, variables in zip(parts.values(), flat, strict=True)
    ]
    longest = {d: max(fact["sizes"].get(d, 0) for fact in facts) for fact in facts for d in fact["sizes"]}
    stacked = {}
    for name in dict.fromkeys(name for variables in flat for name in variables):
        model = next(variables[name] for variables in flat if name in variables)
        arrays = [_padded(variables.get(name), model, longest) for variables in flat]
        # a coordinate has the name of its dimension, which many members can only share by number
        stacked[name + "_names" * (name in longest)] = (("member", *model.dims), np.stack(arrays), model.attrs)
    return xr.Dataset(stacked), facts


def _padded(variable: xr.Variable | None, model: xr.Variable, longest: Mapping[str, int]) -> np.ndarray:
    """Return the values, filled up to the longest of each dimension."""
    shape = tuple(longest[str(d)] for d in model.dims)
    if model.dtype.kind in "OU":
        whole: np.ndarray = np.full(shape, "", dtype=object)
    elif model.dtype.kind == "b":
        whole = np.zeros(shape, dtype=bool)
    else:
        whole = np.full(shape, np.nan)
    if variable is not None:
        whole[tuple(slice(n) for n in variable.shape)] = variable.to_numpy()
    return whole


def _members(dataset: xr.Dataset) -> dict[str, Result]:
    attrs, facts = json.loads(dataset.attrs["members"]), json.loads(dataset.attrs["sizes"])
    found = {}
    for i, name in enumerate(dataset["member"].to_numpy()):
        variables = {}
        for key, dtype in facts[i]["dtypes"].items():
            one = dataset[key if key in dataset.data_vars else key + "_names"].variable[i]
            one = one[tuple(slice(facts[i]["sizes"][d]) for d in one.dims)]
            variables[key] = (one.dims, one.to_numpy().astype(dtype), one.attrs)
        part = xr.Dataset(variables, attrs=attrs[i]).set_coords(facts[i]["coords"])
        found[str(name)] = KINDS[attrs[i]["landscape_kind"]](part)
    return found
