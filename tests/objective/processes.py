"""Checks that two processes make together, started once for a module of tests."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

COUNT, SECONDS = 2, 120
CHECKS: dict[str, Callable[[int], None]] = {}


def check(function: Callable[[int], None]) -> Callable[[int], None]:
    """Have both processes call ``function`` with their number."""
    CHECKS[function.__name__] = function
    return function


def _process(rank: int, folder: str, module: str) -> None:
    import_module(module)  # has its checks made
    torch.set_num_threads(1)
    start = f"file://{folder}/start"
    dist.init_process_group(
        "gloo", init_method=start, rank=rank, world_size=COUNT, timeout=timedelta(seconds=SECONDS / 2)
    )
    for name, function in CHECKS.items():
        torch.manual_seed(0)
        try:
            function(rank)
        except BaseException:
            Path(folder, f"{name} {rank}").write_text(traceback.format_exc(), encoding="utf-8")
            return  # the other one would wait for this one in vain
        Path(folder, f"{name} {rank}").touch()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all checks in two processes; each leaves an empty file for what held, and an error for what did not."""
    path = tmp_path_factory.mktemp("processes")
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_process, args=(rank, str(path), request.module.__name__), daemon=True)
        for rank in range(COUNT)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    for process in processes:
        if process.is_alive():
            process.kill()
    return path
