"""A family gives its members back as they were, from memory and from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape import results
from landscape.errors import InputError
from landscape.results.base import Result
from tests.results.test_store import FACTS, MADE, eigenpairs, trace

SINGLE = {name: make for name, make in MADE.items() if make().kind not in ("family", "layers")}


def same(found: Result, expected: Result) -> None:
    """Whether two results are one, eigenvectors apart: values, coordinates, attributes, dtypes, words."""
    assert type(found) is type(expected)
    one, other = (r.dataset.drop_vars("vectors", errors="ignore") for r in (found, expected))
    xr.testing.assert_identical(one, other)
    for name, variable in other.variables.items():
        assert one[name].dtype.kind == variable.dtype.kind or variable.dtype.kind in "UO", name
        assert one[name].dtype == variable.dtype or variable.dtype.kind in "UO", name
    assert repr(found) == repr(expected)


def shorter(result: Result) -> Result:
    """Return the same kind of result with fewer entries along every dimension."""
    cut = result.dataset.isel({dim: slice(max(1, n - 1)) for dim, n in result.dataset.sizes.items()})
    cut.attrs["message"] = "a shorter one"
    return type(result)(cut)


@pytest.mark.parametrize("name", SINGLE)
def test_members_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    members = {"whole": SINGLE[name](), "short, λ": shorter(SINGLE[name]()), "again": SINGLE[name]()}
    family = results.Family.make(members, by="layer", provenance=FACTS)
    assert family.of == members["whole"].kind
    assert list(family) == list(members)
    loaded = ls.load(family.save(tmp_path / "a.nc"))
    assert isinstance(loaded, results.Family)
    assert loaded.summary() == family.summary()
    for key, expected in members.items():
        assert family[key] is expected
        same(loaded[key], expected)
    again = ls.load(loaded.save(tmp_path / "b.nc"))
    xr.testing.assert_identical(again.dataset, loaded.dataset)


def test_members_may_differ_in_type_size_and_units_of_what_they_hold(tmp_path: Path) -> None:
    def with_extra(values: np.ndarray, **attrs: object) -> Result:
        result = trace()
        result.dataset["extra"] = xr.Variable("extra_axis", values, attrs)
        return result

    members = {
        "float32": with_extra(np.array([0.1, np.nan], np.float32), units="m", list=[1, 2]),
        "integer": with_extra(np.arange(5), units="s"),
        "bool": with_extra(np.array([True, False, True]), units=np.float32(2.5)),
        "none": trace(2),
    }
    members["none"].dataset.attrs["limits"] = np.array([1.5, np.inf])
    loaded = ls.load(results.Family.make(members, by="layer").save(tmp_path / "a.nc"))
    for name, expected in members.items():
        same(loaded[name], expected)  # type: ignore[index]


def test_a_member_that_was_loaded_with_eigenvectors_leaves_them_out(tmp_path: Path) -> None:
    one = ls.load(eigenpairs().save(tmp_path / "one.nc"))
    family = results.Family.make({"a": one, "b": eigenpairs()}, by="checkpoint")
    assert torch.equal(family["a"].vectors, eigenpairs().vectors)
    assert "vectors" not in family.dataset
    loaded = ls.load(family.save(tmp_path / "a.nc"))
    with pytest.raises(InputError, match="saved without eigenvectors"):
        _ = loaded["a"].vectors  # type: ignore[index]


def test_status_is_that_of_the_worst_member() -> None:
    good = results.Family.make({"a": trace(), "b": trace()}, by="layer")
    assert (good.status, good.message) == ("converged", "")
    bad = results.Family.make({"a": _of("complete"), "b": _of("not converged"), "c": _of("failed")}, by="layer")
    assert bad.status == "not converged"
    assert bad.message == "2 of 3: failed, not converged"
    assert bad.summary()["b"].endswith("(not converged)")


def _of(status: str) -> Result:
    return type(trace())(trace().dataset.assign_attrs(status=status))


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"results of one kind, got \['EigenResult', 'TraceResult'\]; put each"):
        results.Family.make({"a": trace(), "b": eigenpairs()}, by="layer")
    with pytest.raises(InputError, match="results of one kind, got none"):
        results.Family.make({}, by="layer")
    inner = results.Family.make({"a": trace()}, by="layer")
    with pytest.raises(InputError, match="results of one kind"):
        results.Family.make({"a": inner}, by="layer")
    with pytest.raises(InputError, match="there is no such layer, got z; names are a"):
        _ = inner["z"]
