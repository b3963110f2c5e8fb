"""Densities that are added to, resumed, saved and binned anew: never another number, never a product too many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import FileError, InputError
from landscape.results import SpectralDensity
from tests.spectra.test_density import trained_like

ARRAYS = ("nodes", "weights", "residuals", "crossed")


class Counted:
    """A matrix that counts its products and raises ``end`` at one of them."""

    device, dtype, symmetric = "cpu", torch.float64, True

    def __init__(self, matrix: torch.Tensor, at: int = 0, end: type[BaseException] = KeyboardInterrupt) -> None:
        self.matrix, self.at, self.end, self.shape, self.products = matrix, at, end, tuple(matrix.shape), 0

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        self.products += 1
        if self.products == self.at:
            raise self.end
        return self.matrix @ v


class Killed(BaseException):
    """What nothing catches: it stands for kill -9."""


def same(a: SpectralDensity, b: SpectralDensity) -> bool:
    return all(np.array_equal(a.dataset[x].to_numpy(), b.dataset[x].to_numpy(), equal_nan=True) for x in ARRAYS)


@pytest.fixture
def matrix() -> torch.Tensor:
    return trained_like(60)[0]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("probes", [1, 3, 12])
def test_probes_are_added(matrix: torch.Tensor, loaded: bool, probes: int, tmp_path: Path) -> None:
    first = ls.spectral_density(matrix, probes=probes, steps=10, seed=3)
    if loaded:
        first = ls.load(first.save(tmp_path / "first.nc"))
    counted = Counted(matrix)
    more = ls.spectral_density(counted, probes=probes + 2, steps=10, seed=3, extend=first)
    assert counted.products == 21  # one to see that the operator is the same
    assert more.matvecs == first.matvecs + 21
    assert same(more, ls.spectral_density(matrix, probes=probes + 2, steps=10, seed=3))
    assert more.status == "complete"
    again = ls.spectral_density(counted, probes=2, steps=10, seed=3, extend=more)
    assert counted.products == 22
    assert same(again, more)


def test_what_does_not_fit_is_not_extended(matrix: torch.Tensor) -> None:
    first = ls.spectral_density(matrix, probes=2, steps=10)
    with pytest.raises(InputError, match=r"the seed differs, got 0 instead of 1.*pass seed=0"):
        ls.spectral_density(matrix, probes=3, steps=10, seed=1, extend=first)
    with pytest.raises(InputError, match="the steps differs, got 10 instead of 20"):
        ls.spectral_density(matrix, probes=3, steps=20, extend=first)
    with pytest.raises(InputError, match="the size differs, got 60 instead of 50"):
        ls.spectral_density(trained_like(50)[0], probes=3, steps=10, extend=first)
    with pytest.raises(InputError, match="extend must be a spectral density, got str"):
        ls.spectral_density(matrix, probes=3, steps=10, extend="first.nc")
    other = matrix.clone()
    other[0, 0] += 1e-3 * float(matrix.abs().max())
    counted = Counted(other)
    with pytest.raises(InputError, match="extend must be of the same operator, got one whose product"):
        ls.spectral_density(counted, probes=3, steps=10, extend=first)
    assert counted.products == 1


def test_float32_rounding_does_not_make_another_operator() -> None:
    matrix = trained_like(200)[0]
    first = ls.spectral_density(matrix.float(), probes=1, steps=10)
    permuted = torch.randperm(200)  # the same sums in another order
    noisy = Counted(matrix.float()[permuted][:, permuted])
    noisy.dtype = torch.float32
    back = torch.argsort(permuted)

    class Reordered(Counted):
        dtype = torch.float32

        def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
            return (noisy @ v[permuted])[back]

    assert ls.spectral_density(Reordered(matrix), probes=2, steps=10, extend=first).status == "complete"


def test_ctrl_c_keeps_whole_probes_and_can_be_gone_on_with(matrix: torch.Tensor) -> None:
    found = ls.spectral_density(Counted(matrix, 25), probes=4, steps=10)
    assert found.status == "interrupted"
    assert found.nodes.shape == (2, 10)
    assert "extend=" in found.message
    assert same(
        ls.spectral_density(matrix, probes=4, steps=10, extend=found), ls.spectral_density(matrix, probes=4, steps=10)
    )
    with pytest.raises(KeyboardInterrupt):
        ls.spectral_density(Counted(matrix, 5), probes=4, steps=10)


@pytest.mark.parametrize("end", [KeyboardInterrupt, Killed])
def test_the_same_call_goes_on(
    matrix: torch.Tensor, end: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landscape.results.partial.SAVE_EVERY", -1.0)  # it is always time
    monkeypatch.setattr("landscape.results.partial.SHARE", 0)
    out = tmp_path / "d.nc"
    ask: dict[str, Any] = {"probes": 4, "steps": 10, "out": out}
    if end is Killed:
        with pytest.raises(Killed):
            ls.spectral_density(Counted(matrix, 35, end), **ask)
    else:
        assert ls.spectral_density(Counted(matrix, 35, end), **ask).nodes.shape == (3, 10)
    assert not out.exists()
    counted = Counted(matrix)
    found = ls.spectral_density(counted, **ask)
    assert counted.products == 11  # one to see that the operator is the same, ten for the last probe
    assert same(found, ls.spectral_density(matrix, probes=4, steps=10))
    assert same(ls.load(out), found)
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(FileError, match="already there"):
        ls.spectral_density(matrix, **ask)
    assert ls.spectral_density(matrix, **ask, overwrite=True).status == "complete"


def test_what_another_operator_left_is_not_used(
    matrix: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landscape.results.partial.SAVE_EVERY", -1.0)
    monkeypatch.setattr("landscape.results.partial.SHARE", 0)
    ask: dict[str, Any] = {"probes": 3, "steps": 10, "out": tmp_path / "d.nc"}
    with pytest.raises(Killed):
        ls.spectral_density(Counted(matrix, 25, Killed), **ask)
    assert same(ls.spectral_density(2 * matrix, **ask), ls.spectral_density(2 * matrix, probes=3, steps=10))


KILLED = """
import os, signal, torch
import landscape as ls
from landscape.results import partial
partial.SAVE_EVERY = partial.SHARE = -1

class Ending:
    shape, dtype, device, left = (40, 40), torch.float64, "cpu", int(os.environ["LEFT"])
    def __matmul__(self, v):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return v * torch.linspace(-1, 1, 40, dtype=torch.float64)

ls.spectral_density(Ending(), probes=4, steps=12, out="d.nc")
"""


@pytest.mark.slow
def test_kill_9_and_the_same_call(tmp_path: Path) -> None:
    def run(left: int) -> int:
        root = str(Path(ls.__file__).parents[1])
        environment = {**os.environ, "LEFT": str(left), "PYTHONPATH": root}
        return subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False).returncode

    assert run(30) == -signal.SIGKILL
    assert run(40) == 0
    values = torch.linspace(-1, 1, 40, dtype=torch.float64)
    assert same(ls.load(tmp_path / "d.nc"), ls.spectral_density(torch.diag(values), probes=4, steps=12))


def test_binned_anew_from_the_file(matrix: torch.Tensor, tmp_path: Path) -> None:
    counted = Counted(matrix)
    found = ls.spectral_density(counted, probes=3, steps=20, out=tmp_path / "d.nc")
    products = counted.products
    loaded = ls.load(tmp_path / "d.nc")
    grid = np.linspace(-0.1, 0.3, 57)
    for width in (None, 0.01, 0.1):
        assert np.array_equal(loaded.density(grid, width=width), found.density(grid, width=width))
        assert np.array_equal(loaded.cdf(grid, width=width), found.cdf(grid, width=width))
        assert np.array_equal(loaded.bands(grid, width=width), found.bands(grid, width=width))
    assert np.array_equal(loaded.atoms.values, found.atoms.values)
    assert loaded.moment_interval(2) == found.moment_interval(2)
    assert repr(loaded.outliers()) == repr(found.outliers())
    loaded.plot()
    assert counted.products == products == found.matvecs
