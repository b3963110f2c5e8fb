"""Every kind of result comes back from its file as it was, and a file is there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape import results
from landscape.errors import FileError, InputError
from landscape.results.base import KINDS, STATUSES, Result, number
from landscape.results.checkup import Row
from landscape.results.files import whole_file

NAN, INF = float("nan"), float("inf")
FACTS = {"seed": 3, "versions": {"torch": "x"}, "data": {"examples": 7}, "µ": "λ", "none": None, "nan": NAN}
COMMON: dict[str, Any] = {"message": "all is well: 5 µs", "provenance": FACTS}


def eigenpairs() -> results.EigenResult:
    generator = torch.Generator().manual_seed(0)
    return results.EigenResult.make(
        np.array([3.0, NAN, -INF]),
        torch.tensor([1e-9, NAN, 0.0]),
        [True, False, False],
        torch.randn(5, 3, generator=generator),
        which="LA",
        tol=1e-6,
        matvecs=42,
        status="not converged",
        **COMMON,
    )


def trace(probes: int = 4) -> results.TraceResult:
    shares = np.random.default_rng(0).normal(size=(probes, 2))
    stderr = shares.sum(1).std(ddof=1) / probes**0.5 if probes > 1 else NAN
    return results.TraceResult.make(
        [0.5, 0.0], shares, ["first.weight", "α.bias"], stderr=stderr, dof=max(probes - 1, 1), n=9, rtol=0.02,
        method="hutchinson", matvecs=probes, status="converged", **COMMON,
    )  # fmt: skip


def diagonal() -> results.DiagonalResult:
    return results.DiagonalResult.make(
        torch.tensor([1.5, -0.25, 0.1]), torch.tensor([0.1, 0.2, 0.0]), ["first.weight", "α.bias"], [2, 3],
        [0.0, 0.1], np.random.default_rng(1).normal(size=(4, 2)), dof=3, n=3, rtol=0.1, method="hutchinson",
        matvecs=4, status="complete", **COMMON,
    )  # fmt: skip


def estimate() -> results.Estimate:
    return results.Estimate.make(
        2.5, 0.1, [3.0, NAN, 2.5], [NAN, 0.2, 0.1], name="Frobenius norm", definition="|A|", dof=2, positive=True,
        n=9, rtol=0.1, method="deflated", matvecs=3, status="converged", **COMMON,
    )  # fmt: skip


def checkup() -> results.Checkup:
    rows = [Row("data", "pass", "7 examples, λ"), Row("symmetry", "fail", "products are not symmetric", "look at it")]
    return results.Checkup.make(rows, provenance=FACTS)


def density() -> results.SpectralDensity:
    return results.SpectralDensity.make(
        np.array([[0.0, 1.0, 3.0], [0.5, 2.0, NAN]]),
        np.array([[0.5, 0.3, 0.2], [0.6, 0.4, 0.0]]),
        np.array([[0.1, 0.2, 0.1], [0.1, 0.0, NAN]]),
        n=10,
        matvecs=6,
        status="complete",
        **COMMON,
    )


def surface(flat: bool = True) -> results.Surface:
    shape = (2, 3) if flat else (3,)
    values = np.arange(6.0).reshape(2, 3) if flat else np.arange(3.0)
    values.flat[0], values.flat[1] = NAN, INF
    evaluated = np.ones(shape, bool)
    evaluated.flat[-1] = False
    return results.Surface.make(
        {"loss": values, "accuracy": values / 2},
        [np.array([-1.0, 0.0, 1.0]), np.array([-0.5, 0.5])][: len(shape)],
        evaluated,
        centre={"loss": NAN, "accuracy": 0.5},
        directions={"method": "random", "labels": ["direction 1", "direction 2"], "norms": [1.0, 2.5]},
        status="interrupted",
        **COMMON,
    )


def projection() -> results.Projection:
    return results.Projection.make(
        [0, 10, 20],
        np.array([[3.0, 1.0], [1.0, 0.5], [0.0, 0.0]]),
        [4.0, 2.0, 0.0],
        [2.0, 1.0, 0.0],
        loss=[2.0, NAN, 0.1],
        labels=["first", "second"],
        random_walk=0.37,
        provenance=FACTS,
    )


def statistics() -> results.GradientStatistics:
    return results.GradientStatistics.make(
        {"coherence": 3.5, "noise_scale": INF, "gsnr": NAN},
        {"coherence": 0.2, "noise_scale": NAN, "gsnr": NAN},
        [1.0, NAN],
        ["a.weight", "a.bias"],
        examples=64,
        status="complete",
        **COMMON,
    )


def conflict() -> results.GradientConflict:
    cosine = np.array([[1.0, -0.5, 0.1], [-0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])
    return results.GradientConflict.make(
        ["zero", "one", "zwölf"],
        cosine,
        np.where(cosine < 0, NAN, cosine),
        cosine * 4,
        [1.0, 2.0, 0.0],
        [5, 6, 7],
        status="complete",
        **COMMON,
    )


def layers() -> results.LayerCurvature:
    rng = np.random.default_rng(5)
    return results.LayerCurvature.of_blocks(
        {"first": eigenpairs(), "zweite λ": eigenpairs()}, eigenpairs(), rng.normal(size=(3, 2, 2)),
        rng.normal(size=(3, 2)), rng.normal(size=(2, 2)), rng.normal(size=(4, 2, 2)),
        by="layer", interrupted=False, matvecs=7, **COMMON,
    )  # fmt: skip


def subspace() -> results.SubspaceResult:
    cosines = np.array([[[1.0, 1.0], [0.9, NAN]], [[0.9, 0.2], [1.0, 1.0]]])
    return results.SubspaceResult.make(
        {"overlap": (("row", "column"), (cosines**2).mean(-1)), "cosines": (("row", "column", "angle"), cosines),
         "undetermined_row": ("row", [NAN, 1e-3])},
        {"angle": [0, 1], "row": ["früh", "late"], "column": ["früh", "late"]},
        n=9, k=2, status="not converged", **COMMON,
    )  # fmt: skip


def share() -> results.SubspaceResult:
    return results.SubspaceResult.make(
        {"share": ((), 0.25), "cumulative": ("direction", [0.125, 0.25]), "undetermined": ((), 1e-3)},
        {"direction": [1, 2]}, n=9, k=2, status="complete", **COMMON,
    )  # fmt: skip


def recording() -> results.Recording:
    header = {"status": "complete", "message": "done", "provenance": FACTS, "optimizer": "SGD", "rate": NAN}
    return results.Recording.from_lines(header, LINES)


LINES: list[dict[str, Any]] = [
    {"step": 0, "values": {"loss": 2.0, "lr": 0.1}},
    {"step": 1, "values": {"loss": "nan", "lr": 0.1, "gradient_norm": "inf"}},
    {"step": 1, "metric": "sharpness", "values": {"sharpness": 9.0}, "status": "converged", "seconds": 0.5},
    {"step": 1, "metric": "conflict", "values": {"cosine": [[1.0, "nan"], ["-inf", 1.0]]}, "status": ""},
    {"step": 2, "values": {"loss": 1.0, "lr": 0.1}},
    {"step": 2, "metric": "sharpness", "values": {}, "status": "failed: out of memory"},
    {"step": 2, "metric": "conflict", "values": {"cosine": [[1.0, 0.5], [0.5, 1.0]]}},
]


def family(of: Callable[[], Result] = eigenpairs) -> results.Family:
    return results.Family.make({"first": of(), "zweite λ": of()}, by="layer", provenance=FACTS)


MADE: dict[str, Callable[[], Result]] = {
    "eigenpairs": eigenpairs,
    "estimate": estimate,
    "trace": trace,
    "trace of one probe": lambda: trace(1),
    "density": density,
    "diagonal": diagonal,
    "family": family,
    "share of one vector": share,
    "subspace": subspace,
    "surface": surface,
    "line": lambda: surface(flat=False),
    "projection": projection,
    "gradients": statistics,
    "checkup": checkup,
    "conflict": conflict,
    "layers": layers,
    "recording": recording,
    "recording of nothing": lambda: results.Recording.from_lines({}, []),
}


def test_every_kind_is_tested() -> None:
    assert {make().kind for make in MADE.values()} == {kind for kind in KINDS if kind}


@pytest.mark.parametrize("name", MADE)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    result = MADE[name]()
    path = result.save(tmp_path / "a.nc")
    assert path == tmp_path / "a.nc"
    assert os.listdir(tmp_path) == ["a.nc"]
    loaded = ls.load(path)
    assert type(loaded) is type(result)
    expected = result.dataset
    if isinstance(result, results.EigenResult):
        assert torch.equal(loaded.vectors, result.vectors)
        assert loaded.vectors.dtype == result.vectors.dtype
        loaded = type(result)(loaded.dataset.drop_vars("vectors"))
    xr.testing.assert_identical(loaded.dataset, expected)
    for key, variable in expected.variables.items():
        if variable.dtype.kind not in "UO":
            assert loaded.dataset[key].dtype == variable.dtype, key
    assert loaded.status == result.status
    assert loaded.message == result.message
    assert json.dumps(loaded.provenance) == json.dumps(result.provenance)
    assert loaded.summary() == result.summary()
    assert repr(loaded) == repr(result)
    # and once more, over the same file
    again = ls.load(ls.load(path).save(str(path)))
    xr.testing.assert_identical(again.dataset, ls.load(path).dataset)


@pytest.mark.parametrize("name", MADE)
def test_any_reader_can_open_it(name: str, tmp_path: Path) -> None:
    MADE[name]().save(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as dataset:
        assert dataset.attrs["landscape_kind"] in KINDS
        assert dataset.attrs["landscape_schema"] == 1
        assert isinstance(json.loads(dataset.attrs["provenance"]), dict)


@pytest.mark.parametrize("name", MADE)
def test_frames_and_words(name: str) -> None:
    result = MADE[name]()
    assert result.ok is STATUSES[result.status]
    assert result.status in repr(result)
    if name not in ("recording", "recording of nothing"):
        assert len(result.to_dataframe())
    assert all(isinstance(text, str) and text for text in result.summary().values())


def test_eigenvectors_can_be_left_out(tmp_path: Path) -> None:
    result = eigenpairs()
    assert "vectors" not in result.dataset  # they stay where they are until they are saved
    loaded = ls.load(result.save(tmp_path / "a.nc", vectors=False))
    np.testing.assert_array_equal(loaded.values, result.values)
    with pytest.raises(InputError, match="saved without eigenvectors"):
        _ = loaded.vectors


def test_unknown_status_is_refused() -> None:
    with pytest.raises(InputError, match="status must be a known one, got fine; use one of complete, converged"):
        results.EigenResult.make(
            [1.0], [0.0], [True], torch.eye(1), which="LA", tol=1.0, matvecs=1, status="fine", **COMMON
        )


# -- files ----------------------------------------------------------------------------------------------


def one_sentence(do: Callable[[], Any], match: str) -> None:
    with pytest.raises(FileError, match=match) as caught:
        do()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("name", ["a.png", "a", "a.nc.gz", "a.NC "])
def test_wrong_ending(name: str, tmp_path: Path) -> None:
    one_sentence(lambda: trace().save(tmp_path / name), r"saved as netCDF files, got .*; save to .*a.*\.nc")
    assert not os.listdir(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    one_sentence(
        lambda: trace().save(tmp_path / "no" / "a.nc"), r"folder to write into does not exist, got .*no; create"
    )


def test_missing_file(tmp_path: Path) -> None:
    one_sentence(lambda: ls.load(tmp_path / "gone.nc"), r"no such result, got .*gone\.nc; check the path")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    one_sentence(lambda: ls.load(tmp_path), r"holds no recorded run, got .*Monitor")


@pytest.mark.parametrize("content", [b"", b"not a result\nat all", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_not_netcdf(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(content)
    one_sentence(lambda: ls.load(tmp_path / "a.nc"), r"cannot be read as netCDF, got .*a\.nc")


def test_cut_short(tmp_path: Path) -> None:
    path = surface().save(tmp_path / "a.nc")
    path.write_bytes(path.read_bytes()[:-100])
    one_sentence(lambda: ls.load(path), r"cannot be read as netCDF, got .*a\.nc")


def test_somebody_elses_netcdf(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    one_sentence(
        lambda: ls.load(tmp_path / "a.nc"),
        r"holds no landscape result, got .*known kinds are checkup, conflict",
    )


def test_a_newer_schema(tmp_path: Path) -> None:
    result = trace()
    result.dataset.attrs["landscape_schema"] = 99
    path = result.save(tmp_path / "a.nc")
    one_sentence(lambda: ls.load(path), r"written by a newer version, got schema 99: .*upgrade torch-landscape")


@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trace().save(tmp_path / "a.nc")
    old = path.read_bytes()

    def half(self: xr.Dataset, target: Any, **_: Any) -> None:
        Path(target).write_bytes(b"half")
        raise error

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
    for name in ("a.nc", "new.nc"):
        with pytest.raises(type(error)):
            surface().save(tmp_path / name)
    assert os.listdir(tmp_path) == ["a.nc"]
    assert path.read_bytes() == old


def test_whole_file_is_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.txt") as aside:
            assert aside.parent == tmp_path
            assert not (tmp_path / "a.txt").exists()
            aside.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a.txt").read_text() == "x"


# -- numbers -------------------------------------------------------------------------------------------


def test_trace_has_a_students_interval() -> None:
    result = trace(5)
    samples = result.dataset["samples"].to_numpy()
    half = 2.7764451052 * samples.std(ddof=1) / 5**0.5
    assert result.interval() == pytest.approx((result.estimate - half, result.estimate + half))
    assert result.estimate == pytest.approx(0.5 + samples.mean())  # with the part that is known
    assert float(result.by_parameter["estimate"].sum()) == pytest.approx(result.estimate)
    assert np.isnan(trace(1).stderr)
    assert np.isnan(trace(1).interval()).all()
    with pytest.raises(InputError, match="level must lie between 0 and 1, got 95: it is a probability; pass"):
        result.interval(95)


def test_density_integrates_to_one_and_its_bands_hold_it() -> None:
    result = density()
    grid = np.linspace(-3, 6, 2001)
    for width in (None, 0.2):
        values = result.density(grid, width=width)
        assert np.trapezoid(values, grid) == pytest.approx(1.0, abs=1e-3)
        low, high = result.bands(grid, width=width)
        assert np.all((low <= values + 1e-12) & (values <= high + 1e-12))
    assert result.cdf([-1.0, 0.0, 0.6, 5.0], width=0) == pytest.approx([0.0, 0.25, 0.55, 1.0])
    smooth = result.cdf(grid)
    assert np.all(np.diff(smooth) >= -1e-15)
    assert np.abs(smooth - result.cdf(grid, width=0)).max() <= 0.3  # about half the heaviest node
    coarse = np.linspace(-3, 6, 10)  # no mass is lost between two points of a coarse grid
    assert float((result.density(coarse) * np.diff(coarse)[0]).sum()) == pytest.approx(1.0, abs=1e-3)
    assert result.moment(1) == pytest.approx((0.3 + 0.6 + 0.3 + 0.8) / 2)
    with pytest.raises(InputError, match="two increasing eigenvalues"):
        result.density([1.0, 0.0])


def test_density_keeps_its_mass_at_any_scale() -> None:
    """Absolute widths and margins lose all structure of a tiny spectrum, and the peaks of a wide one."""
    for scale in (1e-8, 1.0, 1e8):
        one = density()
        scaled = results.SpectralDensity.make(
            one.nodes * scale, one.weights, one.residuals * scale, n=10, matvecs=6, status="complete", **COMMON
        )
        np.testing.assert_allclose(scaled.density(one.grid() * scale) * scale, one.density(one.grid()), rtol=1e-9)
        np.testing.assert_allclose(scaled.grid(), one.grid() * scale, rtol=1e-9)


def test_rates_of_conflict() -> None:
    result = conflict()
    assert result.rate == pytest.approx(1 / 3)
    assert result.significant_rate == pytest.approx(1 / 3)
    assert statistics().coherence == 3.5
    assert np.isinf(statistics().noise_scale)
    with pytest.raises(AttributeError, match="no quantity or attribute 'missing'"):
        _ = statistics().missing


def test_share_outside_the_plane() -> None:
    assert projection().hidden_share == pytest.approx(5 / 20)
    assert projection().random_walk_share == 0.37


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (123.456, 3.21, "123.5 ± 3.2"),
        (1234.0, 56.0, "1234 ± 56"),
        (2e7, 1e5, "2e+07 ± 1e+05"),
        (1.5, None, "1.5"),
        (1.5, NAN, "1.5"),
        (NAN, 0.1, "nan"),
        (INF, None, "inf"),
        (2.0, 0.0, "2"),
        (0.0, 0.012, "0.000 ± 0.012"),
    ],
)
def test_numbers_show_the_digits_that_mean_something(value: float, error: float | None, text: str) -> None:
    assert number(value, error) == text


def test_costs() -> None:
    from landscape.results.provenance import Cost, collect

    with Cost() as cost:
        pass
    facts = collect(cost, matvecs=3)
    assert facts["matvecs"] == 3
    assert facts["seconds"] >= 0
    assert facts["peak_bytes"] > 1e6
    assert {"landscape", "python", "torch", "numpy", "scipy"} <= set(facts["versions"])
    assert facts["created"].endswith("+00:00")
