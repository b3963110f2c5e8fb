"""What importing costs, measured in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

DRAWING = {"matplotlib", "plotly", "kaleido", "PIL"}
COMMAND_LINE = {"typer", "click", "rich"}
OPTIONAL = {
    "gudhi", "lightning", "mlflow", "pytorch_lightning", "sklearn", "tensorboard", "torchjd", "torchvision", "tqdm",
    "transformers", "wandb",
}  # fmt: skip
HEAVY = {"xarray", "pandas", "scipy", "h5py", "h5netcdf"}


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def _loaded_by(code: str) -> set[str]:
    modules = json.loads(_run(f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"))
    return {name.split(".")[0] for name in modules}


def test_import_loads_no_heavy_or_optional_part() -> None:
    extra = _loaded_by("import landscape") & (DRAWING | COMMAND_LINE | OPTIONAL | HEAVY)
    assert not extra, f"`import landscape` loads {', '.join(sorted(extra))}"


@pytest.mark.parametrize("name", ["Objective", "Hessian", "eigsh", "surface", "Monitor", "load"])
def test_what_computes_loads_nothing_that_draws(name: str) -> None:
    torch_loads = {"tqdm"}
    extra = _loaded_by(f"import landscape\nlandscape.{name}") & (DRAWING | COMMAND_LINE | OPTIONAL) - torch_loads
    assert not extra, f"`landscape.{name}` loads {', '.join(sorted(extra))}"


def test_what_draws_does_not_load_torch() -> None:
    extra = _loaded_by("import landscape\nlandscape.load\nlandscape.report") & ({"torch"} | COMMAND_LINE | OPTIONAL)
    assert not extra, f"`landscape.report` loads {', '.join(sorted(extra))}"


def test_import_takes_no_longer_than_torch() -> None:
    """At most 1.3 times `import torch`: best of five each, taken in turns, so that noise hits both alike."""
    code = "import time\nbegan = time.perf_counter()\nimport {}\nprint(time.perf_counter() - began)"
    ours, torch = (min(times) for times in zip(*[[float(_run(code.format(m))) for m in ("landscape", "torch")]
                                                 for _ in range(5)], strict=True))  # fmt: skip
    assert ours <= 1.3 * torch + 0.05, f"import landscape takes {ours:.2f} s, import torch {torch:.2f} s"
