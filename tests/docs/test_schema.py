"""The page on files says what is in the files, and the table of checks names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import landscape as ls
from landscape.results import Result
from landscape.results.base import KINDS, SCHEMA, STATUSES
from tests.docs.given import given
from tests.docs.pages import ROOT

FILES = ROOT / "docs" / "pages" / "how-to" / "results-and-files.md"
CHECKS = ROOT / "docs" / "pages" / "what-we-check.md"
COMMON = {"landscape_kind", "landscape_schema", "status", "message", "provenance"}


def _rows(page: Path) -> dict[str, list[str]]:
    """Return the tables' rows by the name in their first cell."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in rows}


def _names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def _results(tmp_path: Path) -> dict[str, Any]:
    g = given()
    objective = ls.Objective(g["model"], g["criterion"], g["loader"])
    hessian = ls.Hessian(objective)
    out = tmp_path / "run"
    with ls.Monitor(objective, g["optimizer"], metrics=["gradient_coherence"], every=5, snapshots=5, out=out):
        g["train"](4)
    run = ls.load(out)
    path = ls.Trajectory.from_run(run)
    plane = ls.directions.pca(path, objective)
    made = [
        ls.eigsh(hessian, k=2),
        ls.trace(hessian, products=4, method="hutchinson"),
        ls.diagonal(hessian, products=4, method="hutchinson"),
        ls.frobenius_norm(hessian, products=4),
        ls.each(ls.trace, hessian.blocks(), by="layer", products=4, method="hutchinson"),
        ls.eigsh_by_layer(hessian, probes=2),
        ls.subspace.share(ls.eigsh(hessian, k=2), objective.gradient()),
        ls.spectral_density(hessian, probes=2, steps=4),
        ls.surface(objective, plane, points=3),
        path.project(plane, objective),
        ls.doctor(objective, pyhessian=False),
        ls.gradient_statistics(objective),
        ls.gradient_conflict(objective),
        run,
    ]
    return {result.kind: result for result in made}


def test_every_kind_of_file_is_described(tmp_path: Path) -> None:
    rows, results = _rows(FILES), _results(tmp_path)
    assert set(results) == set(KINDS)
    for kind, result in results.items():
        assert kind in rows, f"{FILES.name} does not describe {kind}"
        result.save(tmp_path / f"{kind}.nc")
        stored: Result = ls.load(tmp_path / f"{kind}.nc")
        variables, attributes = rows[kind][0], rows[kind][1] if len(rows[kind]) > 1 else ""
        found = set(stored.dataset.data_vars)
        if kind in ("family", "layers", "subspace"):  # which hold what their members hold, or one of two things
            assert len(found & _names(variables)) >= 2, kind
        elif kind not in ("recording", "surface"):  # whose variables are named by what was measured
            assert found == _names(variables) - {"save"}, kind
        assert set(stored.dataset.attrs) - COMMON == _names(attributes), kind


def test_statuses_and_schema_are_described() -> None:
    text = FILES.read_text(encoding="utf-8")
    assert all(f"| `{status}` | {'yes' if ok else 'no'}" in text for status, ok in STATUSES.items())
    assert f"an integer, {SCHEMA} now" in text


def test_named_tests_exist() -> None:
    named = set(re.findall(r"`(\w+/test_\w+\.py)`", CHECKS.read_text(encoding="utf-8")))
    missing = sorted(name for name in named if not (ROOT / "tests" / name).exists())
    assert len(named) > 10
    assert not missing, f"{CHECKS.name} names tests that are not there: {', '.join(missing)}"


def test_every_check_names_its_test() -> None:
    rows = [row for row in CHECKS.read_text(encoding="utf-8").splitlines() if row.startswith("| ") and "---" not in row]
    bare = [row for row in rows if not re.search(r"`\w+/test_\w+\.py` \|$|\| Test \|$", row)]
    assert not bare, "\n".join(bare)


def test_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|docs|landscape)/[\w./-]+)`", text))
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, f"CONTRIBUTING.md names what is not there: {', '.join(missing)}"
