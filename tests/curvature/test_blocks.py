"""Block-diagonal views against the dense blocks of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.curvature import BlockDiagonal, aslinearoperator
from landscape.curvature.algebra.blocks import COLUMNS, layer_of
from landscape.space import Space
from tests.curvature.contract import block, keeps_its_promises
from tests.problems import problem
from tests.reference import close, truth


def masked(dense: torch.Tensor, space: Space, groups: list[set[str]]) -> torch.Tensor:
    """Zero what couples parameters of different groups."""
    owner = torch.empty(space.n)
    for name, where in space.slices.items():
        owner[where] = next(i for i, group in enumerate(groups) if name in group)
    return torch.where(owner[:, None] == owner[None, :], dense, 0.0)


LAYERS = [{"0.weight", "0.bias"}, {"2.weight", "2.bias"}, {"4.weight", "4.bias"}]
EACH = [{name} for layer in LAYERS for name in sorted(layer, reverse=True)]
ENDS = [LAYERS[0] | LAYERS[2], LAYERS[1]]


def by_kind(name: str) -> str:
    return name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("layer", LAYERS),
        ("parameter", EACH),
        (by_kind, [{n for g in LAYERS for n in g if n.endswith(end)} for end in ("weight", "bias")]),
        ({"ends": ["0.*", "4.*"], "middle": "2.*"}, ENDS),
    ],
    ids=["layer", "parameter", "function", "mapping"],
)
def test_of_a_hessian(by: Any, groups: list[set[str]]) -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    view = H.blocks(by)
    whole = truth(p).hessian
    expected = masked(whole, H.space, groups)
    V = block(H.shape[0])
    close(view @ V, expected @ V, 1e-12)
    assert (view.matvecs, H.matvecs) == (3, 3 * len(groups))
    assert len(view) == len(groups)
    assert [set(part.space.names) for part in view.values()] == groups
    for name, part in view.items():
        inside = torch.cat([torch.arange(s.start, s.stop) for n, s in H.space.slices.items() if n in part.space.names])
        v = block(part.shape[0], 1)
        close(part @ v, whole[inside][:, inside] @ v, 1e-12)
        assert view[name] is part
    assert dict(view) == dict(view.items())
    assert list(view) == list(view.keys())
    facts = view.provenance()
    assert facts["operator"] == "block-diagonal Hessian"
    assert facts["blocks"]["count"] == len(groups)


@pytest.mark.parametrize("count", [1, 7, COLUMNS, COLUMNS + 3])
def test_promises_of_an_operator(count: int) -> None:
    sizes = [(i % 3 + 1,) for i in range(count)]
    space = Space.of({f"layer{i}.w": torch.empty(size, dtype=torch.float64) for i, size in enumerate(sizes)})
    A = block(space.n, space.n, seed=1)
    groups = [{name} for name in space.names]
    for source, psd in ((A @ A.T, True), (A + A.T, False), (A, False)):
        op = aslinearoperator(source, space, psd=psd)
        view = op.blocks()
        assert isinstance(view, BlockDiagonal)
        assert (view.symmetric, view.psd) == (op.symmetric, psd)
        keeps_its_promises(view, masked(source, space, groups), 1e-11)


def test_what_a_layer_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    assert [layer_of(name) for name, _ in model.named_parameters()] == ["0", "0", "1", "1", "1"]
    alone = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert {layer_of(name) for name, _ in alone.named_parameters()} == {"(model)"}


def test_views_of_composites_and_composites_of_views() -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    V = block(H.shape[0], 2)
    expected = masked(truth(p).hessian, H.space, LAYERS)
    off = H - H.blocks()
    close(off @ V, (truth(p).hessian - expected) @ V, 1e-12)
    close((2 * H).blocks() @ V, 2 * expected @ V, 1e-12)
    shift = 0.1 - float(torch.linalg.eigvalsh(expected)[0])
    solved = H.blocks().inverse(damping=shift, tol=1e-10) @ V
    close(solved, torch.linalg.solve(expected + shift * torch.eye(len(V), dtype=torch.float64), V), 1e-8)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("colour", r"blocks go by 'layer', 'parameter', a function of names or a mapping, got colour"),
        ({"a": "0.*", "b": "*.weight"}, r"exactly one block, got 0\.weight in a and b"),
        ({"a": "0.*", "b": "2.*"}, r"exactly one block, got 4\.weight in none; restrict the operator first"),
        ({"a": "9.*"}, r"selects no parameter, got '9\.\*'"),
    ],
)
def test_refusals(by: Any, words: str) -> None:
    p = problem("mlp")
    H = ls.Hessian(ls.Objective(p.model, p.loss, p.batches()))
    with pytest.raises(ls.errors.InputError, match=words):
        H.blocks(by)
    with pytest.raises(ls.errors.InputError, match="block-diagonal view needs an operator from a space to itself"):
        aslinearoperator(torch.ones(2, 3)).blocks()
