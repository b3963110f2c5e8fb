"""One Hessian product of a GPT with 124 million parameters on a CPU, with each backend, and one with the GGN.

``make bench-products`` prints the table. Each product runs in a process of its own, whose peak of resident memory
is what is shown; all products must be the same within what their backends state.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from tests.benchmarks.networks import GPT
from tests.benchmarks.timing import seconds, table

TOKENS, VOCABULARY = 64, 50257
WORK = ("gradient", "autograd", "forward", "difference", "GGN")


def _objective() -> ls.Objective:
    torch.manual_seed(0)
    model = GPT(VOCABULARY, 1024, layers=12, width=768, tied=True)
    data = (torch.randint(VOCABULARY, (1, TOKENS)), torch.randint(VOCABULARY, (1, TOKENS)))
    return ls.Objective(model, nn.CrossEntropyLoss(), [data])


def _run(what: str, found: Path, out: str) -> None:
    """Make one product in this process, after the checks that come before the first; save it and what it took."""
    torch.set_num_threads(2)
    objective = _objective()
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(objective.space.n, generator=generator)
    facts: dict[str, Any] = {"n": objective.space.n}
    if what == "gradient":
        product = objective.gradient()
        facts["seconds"] = seconds(objective.gradient)
    else:
        operator = ls.GGN(objective) if what == "GGN" else ls.Hessian(objective, backend=what)
        try:
            facts["first"] = seconds(lambda: operator @ v)
        except InputError as error:  # differences, where no step serves every direction
            (found / f"{out}.json").write_text(json.dumps({"refused": str(error)}))
            return
        products: list[torch.Tensor] = []
        facts["seconds"] = seconds(lambda: products.append(operator @ v))
        (product,) = products
        facts["bound"] = operator.bound if isinstance(operator, ls.Hessian) else 0.0
    facts["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    torch.save(product, found / out)
    (found / f"{out}.json").write_text(json.dumps(facts))


@pytest.mark.slow
def test_124_million_parameters(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    facts: dict[str, dict[str, Any]] = {}
    for what in WORK:
        process = context.Process(target=_run, args=(what, tmp_path, what))
        process.start()
        process.join()
        assert process.exitcode == 0, what
        facts[what] = json.loads((tmp_path / f"{what}.json").read_text())
        print(what, facts[what], flush=True)
    exact = torch.load(tmp_path / "autograd")
    rows = []
    for what in WORK:
        if "refused" in facts[what]:
            assert what == "difference", facts[what]
            rows.append((what, "refused", "", ""))
            continue
        off = float((torch.load(tmp_path / what) - exact).norm() / exact.norm()) if "bound" in facts[what] else 0.0
        assert what == "GGN" or off <= facts[what].get("bound", 0.0) + facts["autograd"]["bound"], (what, off)
        numbers = (f"{facts[what]['seconds']:.1f}", f"{facts[what]['gigabytes']:.1f}")
        rows.append((what, *numbers, f"{off:.0e}" if what in ("forward", "difference") else ""))
    table(f"n = {facts['GGN']['n']}, {TOKENS} tokens", ("what", "s", "peak GB", "off"), rows)
