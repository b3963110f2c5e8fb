"""Eigenpairs layer by layer against dense blocks, and what blocks miss against the dense truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.results import LayerCurvature
from landscape.space import Space
from landscape.spectra.each import Kept
from landscape.spectra.layers import _places, _Shares
from tests.harmless import harmless
from tests.spectra.matrices import with_spectrum

SHAPES = {"a.weight": (5, 6), "a.bias": (6,), "b.weight": (4, 5), "b.bias": (2,), "c.weight": (3, 3)}
N = 67
LAYERS = np.repeat([0, 1, 2], [36, 22, 9])


def problem(kind: str, *, dtype: torch.dtype = torch.float64) -> tuple[Any, np.ndarray]:
    """Return an operator over three layers, and its dense matrix in float64."""
    rng = np.random.default_rng(1)
    values = {
        "outliers": np.r_[[50.0, 20, 10, -5], 0.3 * rng.standard_normal(N - 4)],
        "power": 1 / np.arange(1.0, N + 1),
        "flat": rng.standard_normal(N),
    }[kind]
    matrix = with_spectrum(torch.from_numpy(values), seed=2, dtype=torch.float64)
    inside = torch.from_numpy(LAYERS[:, None] == LAYERS)
    matrix = torch.where(inside, matrix, 0.5 * matrix).to(dtype)  # some of it lies within the layers
    space = Space.of({name: torch.zeros(shape, dtype=dtype) for name, shape in SHAPES.items()})
    return ls.aslinearoperator(matrix, space), matrix.double().numpy()


def squares(dense: np.ndarray, labels: np.ndarray) -> np.ndarray:
    blocks = range(labels.max() + 1)
    return np.array([[(dense[labels == c][:, labels == b] ** 2).sum() for b in blocks] for c in blocks])


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_pairs_of_blocks_and_of_the_whole_are_the_dense_ones(which: str) -> None:
    op, dense = problem("outliers")
    found = ls.eigsh_by_layer(op, 2, which, probes=2)
    assert list(found) == ["a", "b", "c"]
    assert (found.status, found.by, found.of) == ("converged", "layer", "eigenpairs")
    for block, name in enumerate(found):
        values = np.linalg.eigvalsh(dense[block == LAYERS][:, block == LAYERS])
        assert np.allclose(found[name].values, _ordered(values, which)[:2], rtol=1e-6)
    values, vectors = np.linalg.eigh(dense)
    order = [int(np.flatnonzero(values == value)[0]) for value in _ordered(values, which)[:2]]
    assert np.allclose(found.top_values, values[order], rtol=1e-6)
    for row, v in enumerate(vectors[:, order].T):
        parts = [v * (block == LAYERS) for block in range(3)]
        assert np.allclose(found.top_mass[row], [p @ p for p in parts], atol=1e-5)
        assert found.top_within[row] == pytest.approx(sum(p @ dense @ p for p in parts) / values[order[row]], abs=1e-5)
    assert torch.allclose(found.whole.vectors.abs(), torch.from_numpy(vectors[:, order]).abs(), atol=1e-4)


def _ordered(values: np.ndarray, which: str) -> np.ndarray:
    return {"LA": np.sort(values)[::-1], "SA": np.sort(values), "LM": values[np.argsort(-np.abs(values))]}[which]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shares_are_exact_when_the_eigenvectors_span_everything(dtype: torch.dtype) -> None:
    op, dense = problem("outliers", dtype=dtype)
    found = ls.eigsh_by_layer(op, N, probes=2, tol=1e-3)
    truth = squares(dense, LAYERS)
    close = 1e-9 if dtype == torch.float64 else 1e-5
    assert np.allclose(found.coupling, truth / truth.sum(), atol=close)
    assert found.missed == pytest.approx(1 - np.trace(truth) / truth.sum(), abs=close)
    assert found.missed_stderr < close
    assert [len(found[name].values) for name in found] == [36, 22, 9]  # a block has no more than its size


def test_shares_are_right_within_their_error_whatever_the_vectors_are() -> None:
    """The split into a known part and a rest holds for any vectors, converged or not."""
    op, dense = problem("flat")
    truth = squares(dense, LAYERS)
    rough = ls.eigsh_by_layer(op, 3, probes=400, tol=10.0, max_matvecs=10)
    assert not rough.whole.residuals.max() < 1e-3
    low, high = rough.missed_interval(0.999)
    assert low < 1 - np.trace(truth) / truth.sum() < high
    assert np.allclose(rough.coupling, truth / truth.sum(), atol=0.02)


def test_blocks_may_interleave_and_be_grouped_by_hand() -> None:
    op, dense = problem("power")
    labels = np.repeat([0, 1, 0, 1, 0], [30, 6, 20, 2, 9])
    truth = squares(dense, labels)
    found = ls.eigsh_by_layer(op, 4, by=lambda name: name.rpartition(".")[2], probes=200)
    assert list(found) == ["weight", "bias"]
    assert found.by == "block"
    low, high = found.missed_interval(0.999)
    assert low < 1 - np.trace(truth) / truth.sum() < high
    one = ls.eigsh_by_layer(op, 1, by=lambda name: "everything", probes=4)
    assert (one.missed, one.missed_stderr) == (0.0, 0.0)
    assert one.top_within == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "k"),
    [("power", 3), *[pytest.param(*case, marks=pytest.mark.slow) for case in (("outliers", 4), ("flat", 2))]],
)
def test_the_interval_holds_the_share_as_often_as_it_says(kind: str, k: int) -> None:
    op, dense = problem(kind)
    truth = squares(dense, LAYERS)
    whole, view = ls.eigsh(op, k, "LM"), op.blocks()
    parts = [_places(op, part) for part in view.values()]
    members = {name: ls.eigsh(part, 1) for name, part in view.items()}
    held = []
    for seed in range(400):
        shares = _Shares(op, parts, whole, 16, seed, Kept(None, {}, overwrite=False))  # as many as by default
        assert shares.fill()
        found = LayerCurvature.of_blocks(
            members, whole, shares.curvature, shares.mass, shares.exact, shares.samples, by="layer"
        )
        low, high = found.missed_interval()
        held.append(low <= 1 - np.trace(truth) / truth.sum() <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_intervals_of_few_skewed_probes_hold_the_share() -> None:
    """Student's t on the ratio holds it in 85 to 90 % of such samples, as few probes of a network are."""
    found = ls.eigsh_by_layer(problem("outliers")[0], 1, probes=2)
    held = []
    for within, outside in np.exp(np.random.default_rng(0).normal(size=(1000, 2, 4))):
        data = found.dataset.drop_vars(["within_samples", "total_samples"]).assign(
            within_samples=("probe", within), total_samples=("probe", within + outside)
        )
        low, high = LayerCurvature(data).missed_interval()
        assert 0 <= low <= high <= 1
        held.append(low <= 0.5 <= high)
    assert 0.91 <= np.mean(held) <= 0.97


def test_products_are_counted_and_said() -> None:
    op, _ = problem("outliers")
    found = ls.eigsh_by_layer(op, 2, probes=5)
    assert found.provenance["matvecs"] == int(found.dataset.attrs["matvecs"]) == op.matvecs
    assert f"3 of 3 blocks; {op.matvecs} products" in found.message
    assert found.message.endswith(f"{3 * (2 + 5)} for what blocks miss")
    none = ls.eigsh_by_layer(op, 2, probes=0)
    assert np.isnan(none.missed)
    assert np.isnan(none.missed_interval()).all()
    assert np.allclose(none.top_within, found.top_within)


def test_what_is_not_converged_is_named() -> None:
    op, _ = problem("flat")
    found = ls.eigsh_by_layer(op, 1, probes=2, max_matvecs=8)
    assert found.status == "not converged"
    assert found.message.endswith("; not converged: a, b, c, (the whole)")


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    op, _ = problem("outliers")
    found = ls.eigsh_by_layer(op, 2, out=tmp_path / "a.nc")
    loaded = ls.load(tmp_path / "a.nc")
    assert isinstance(loaded, LayerCurvature)
    assert repr(loaded) == repr(found)
    assert np.array_equal(loaded.coupling, found.coupling)
    assert loaded.missed_interval() == found.missed_interval()
    with pytest.raises(InputError, match="eigenvectors of the whole are not part of the file"):
        _ = loaded.whole


class Killed(BaseException):
    """What cannot be caught: it stands for kill -9."""


class Ending:
    """An operator over named parts that ends with an exception at a product."""

    def __init__(self, op: Any, at: int, end: type[BaseException]) -> None:
        self.op, self.at, self.end = op, at, end
        self.shape, self.dtype, self.device, self.space = op.shape, op.dtype, op.device, op.space
        self.made = 0

    def blocks(self, by: Any) -> dict[str, Any]:
        parts = {}
        for name, part in self.op.blocks(by).items():
            parts[name] = Ending(part, self.at, self.end)
            parts[name].count = self.count  # type: ignore[method-assign]
        return parts

    def count(self, columns: int) -> None:
        self.made += columns
        if self.at >= 0 and self.made > self.at:
            raise self.end

    def __matmul__(self, block: torch.Tensor) -> torch.Tensor:
        self.count(1 if block.ndim == 1 else block.shape[1])
        return self.op @ block  # type: ignore[no-any-return]


@pytest.mark.parametrize("end", [KeyboardInterrupt, Killed])
def test_the_same_call_goes_on_after_any_end(end: type[BaseException], tmp_path: Path) -> None:
    op, _ = problem("outliers")
    whole = ls.eigsh_by_layer(op, 2, probes=40)
    total, seen = op.matvecs, set()
    for at in (60, 90, 140, total):
        out = tmp_path / f"{at}.nc"
        try:
            stopped = ls.eigsh_by_layer(Ending(op, at, end), 2, probes=40, out=out)
            assert stopped.status == "interrupted"
            assert "stopped by Ctrl-C" in stopped.message
            assert len(stopped.top_within) in (0, 2)
            assert stopped.plot() is not None
            seen.add((len(stopped), len(stopped.top_values), stopped.dataset.sizes["probe"] > 1))
        except Killed:
            assert end is Killed
        assert not out.exists()
        counted = Ending(op, -1, end)
        again = ls.eigsh_by_layer(counted, 2, probes=40, out=out)
        assert counted.made < total
        assert again.missed == pytest.approx(whole.missed, rel=1e-8)
        assert np.allclose(again.top_within, whole.top_within)
        assert all(np.allclose(again[name].values, whole[name].values) for name in whole)
        assert [path.name for path in tmp_path.iterdir() if str(at) in path.name] == [out.name]
    if end is KeyboardInterrupt:
        assert {(3, 2, True)} < seen  # it stopped among the blocks, and among the probes


def test_a_network_is_left_as_it_was_and_its_layers_are_those_of_the_dense_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = torch.randn(40, 6).double(), torch.arange(40) % 3
    objective = ls.Objective(model, nn.CrossEntropyLoss(), batch)
    hessian = ls.Hessian(objective)
    with harmless(model):
        found = ls.eigsh_by_layer(hessian, 1)
    dense = hessian.to_dense().numpy()
    labels = np.repeat([0, 1], [56, 27])
    truth = squares(dense, labels)
    for block, name in enumerate(("0", "2")):
        top = np.linalg.eigvalsh(dense[labels == block][:, labels == block])[-1]
        assert found[name].values[0] == pytest.approx(top, rel=1e-6)
    low, high = found.missed_interval(0.999)
    assert low < 1 - np.trace(truth) / truth.sum() < high
    assert found.provenance["mode"] == "eval"


def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    op, _ = problem("flat")
    with pytest.raises(InputError, match="blocks are of an operator whose vectors have named parts, got Tensor; pass"):
        ls.eigsh_by_layer(torch.eye(4))
    for probes in (1, -1, True, 2.5):
        with pytest.raises(InputError, match="probes must be 0, or at least 2"):
            ls.eigsh_by_layer(op, probes=probes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="blocks go by"):
        ls.eigsh_by_layer(op, by="tensor")
    with pytest.raises(InputError, match="which must be"):
        ls.eigsh_by_layer(op, which="XX")
    (tmp_path / "a.nc").write_text("mine")
    before = op.matvecs
    with pytest.raises(FileError, match="already there"):
        ls.eigsh_by_layer(op, out=tmp_path / "a.nc")
    assert op.matvecs == before
