"""Work that is kept: kill -9, Ctrl-C, and the same call again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import InputError
from landscape.results import partial
from landscape.spectra import lanczos
from tests.spectra.matrices import with_spectrum

ROOT = Path(__file__).parents[2]
K, OPTIONS = 8, {"tol": 1e-5, "basis": 24, "seed": 3}  # a short basis: it restarts several times


def _matrix() -> torch.Tensor:
    return with_spectrum(torch.linspace(0, 1, 300, dtype=torch.float64) ** 3, dtype=torch.float64)


class _Stopped:
    """Ends at a given product in a given way; nothing is saved more seldom than at each product."""

    dtype, device, symmetric = torch.float64, "cpu", True

    def __init__(self, matrix: torch.Tensor, at: int, how: str = "never") -> None:
        self.matrix, self.at, self.how, self.count, self.shape = matrix, at, how, 0, tuple(matrix.shape)

    def __matmul__(self, v: torch.Tensor) -> torch.Tensor:
        self.count += 1
        if self.count == self.at and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == self.at and self.how == "interrupt":
            raise KeyboardInterrupt
        return self.matrix @ v

    def provenance(self) -> dict[str, str]:
        return {}


@pytest.fixture
def always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(partial, "SHARE", 0)


@pytest.mark.parametrize("at", [20, 75])
def test_kill_and_the_same_call_give_the_same_values(at: int, tmp_path: Path, always_saved: None) -> None:
    whole = ls.eigsh(_Stopped(_matrix(), 0), K, **OPTIONS)
    program = f"""
        from landscape.results import partial
        partial.SAVE_EVERY, partial.SHARE = 0.0, 0
        import landscape as ls
        from tests.spectra.test_eigsh_resume import K, OPTIONS, _Stopped, _matrix
        ls.eigsh(_Stopped(_matrix(), {at}, "kill"), K, out={str(tmp_path / "eig.nc")!r}, **OPTIONS)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "eig.nc").exists()
    again = ls.eigsh(counted := _Stopped(_matrix(), 0), K, out=tmp_path / "eig.nc", **OPTIONS)
    assert np.array_equal(again.values, whole.values)
    assert torch.equal(again.vectors, whole.vectors)
    assert again.matvecs == whole.matvecs + 1  # one that shows that it is the same operator
    assert counted.count <= whole.matvecs - at + 3
    assert [path.name for path in tmp_path.iterdir()] == ["eig.nc"]
    assert np.array_equal(ls.load(tmp_path / "eig.nc").values, whole.values)


def test_ctrl_c_gives_what_has_converged_and_goes_on_later(tmp_path: Path) -> None:
    whole = ls.eigsh(_Stopped(_matrix(), 0), K, **OPTIONS)
    out = tmp_path / "eig.nc"
    found = ls.eigsh(_Stopped(_matrix(), 70, "interrupt"), K, out=out, **OPTIONS)
    assert found.status == "interrupted"
    assert found.message.startswith("stopped by Ctrl-C")
    assert not out.exists()
    true = _matrix() @ found.vectors - found.vectors * torch.from_numpy(found.values)
    assert np.allclose(true.norm(dim=0), found.residuals, rtol=0.1, atol=1e-12)
    assert (np.abs(found.values - whole.values)[found.converged] <= 1e-5).all()
    again = ls.eigsh(_Stopped(_matrix(), 0), K, out=out, **OPTIONS)
    assert np.array_equal(again.values, whole.values)


@pytest.mark.parametrize(("which", "basis"), [("LA", None), ("LM", 12), ("BE", 9)])
@pytest.mark.parametrize("warm", [False, True])
def test_from_wherever_it_was_interrupted_the_same_values_follow(
    which: str, basis: int | None, warm: bool, tmp_path: Path, always_saved: None
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_cauchy(120))
    matrix, start = with_spectrum(values, dtype=torch.float64), torch.eye(120, 2, dtype=torch.float64)
    options = {"which": which, "basis": basis, "tol": 1e-5, "start": start if warm else None}
    whole = ls.eigsh(_Stopped(matrix, 0), 3, **options)
    for at in range(5, whole.matvecs):
        out = tmp_path / f"{at}.nc"
        try:
            ls.eigsh(_Stopped(matrix, at, "interrupt"), 3, out=out, **options)
        except KeyboardInterrupt:
            assert at < 8  # before there are three approximations
        again = ls.eigsh(_Stopped(matrix, 0), 3, out=out, **options)
        assert np.array_equal(again.values, whole.values), at
        assert torch.equal(again.vectors, whole.vectors), at


def test_another_operator_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "eig.nc"
    ls.eigsh(_Stopped(_matrix(), 70, "interrupt"), K, out=out, **OPTIONS)
    other = 2 * _matrix()
    again = ls.eigsh(_Stopped(other, 0), K, out=out, **OPTIONS)
    assert np.array_equal(again.values, ls.eigsh(_Stopped(other, 0), K, **OPTIONS).values)


def test_inside_the_spectrum_as_well(tmp_path: Path) -> None:
    options = {"sigma": 0.3, "tol": 1e-4, "max_matvecs": 4000}
    whole = ls.eigsh(_Stopped(_matrix(), 0), 2, "LM", **options)
    found = ls.eigsh(_Stopped(_matrix(), 600, "interrupt"), 2, "LM", out=tmp_path / "eig.nc", **options)
    assert found.status == "interrupted"
    again = ls.eigsh(_Stopped(_matrix(), 0), 2, "LM", out=tmp_path / "eig.nc", **options)
    assert np.array_equal(again.values, whole.values)


def test_an_accelerator_is_looked_at_once_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on the CPU, made to wait as an accelerator does."""
    made: list[lanczos.Krylov] = []
    begin = lanczos.Krylov.__init__

    def lazy(self: lanczos.Krylov, *given: object, **named: object) -> None:
        begin(self, *given, **{**named, "lazy": True})  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(lanczos.Krylov, "__init__", lazy)
    found = ls.eigsh(_matrix(), K, **OPTIONS)
    assert found.ok
    assert np.allclose(found.values, np.linalg.eigvalsh(_matrix().numpy())[::-1][:K], rtol=1e-8)
    (krylov,) = made
    assert krylov.restarts >= 3
    assert krylov.looks <= krylov.restarts + len(krylov.probes) + 3
    deficient = with_spectrum(torch.tensor([3.0, 2.0, 1.0] + [0.0] * 97), dtype=torch.float32)
    assert np.allclose(
        ls.eigsh(deficient, 3).values, [3, 2, 1], rtol=1e-5
    )  # dead directions are found late, and dropped


@pytest.mark.parametrize("which", ["LA", "LM"])
def test_ctrl_c_among_the_last_products_keeps_what_has_converged(which: str) -> None:
    matrix = with_spectrum(torch.cat([torch.tensor([9.0, 7, 5]), torch.linspace(-1, 1, 147)]), dtype=torch.float64)
    whole = ls.eigsh(matrix, 3, which, tol=1e-6)
    found = ls.eigsh(_Stopped(matrix, whole.matvecs, "interrupt"), 3, which, tol=1e-6)
    assert found.status == "interrupted"
    assert found.converged.all()
    assert np.allclose(found.values, [9, 7, 5])


def test_a_budget_below_one_sweep_of_the_filter_is_refused() -> None:
    matrix = with_spectrum(torch.linspace(-1, 1, 300), dtype=torch.float64)
    with pytest.raises(InputError, match=r"max_matvecs must be at least \d+ to look for 2 eigenvalues near sigma"):
        ls.eigsh(matrix, 2, "LM", sigma=0.1, max_matvecs=30)
