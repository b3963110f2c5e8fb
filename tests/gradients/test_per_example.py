"""The stream equals one backward pass an example, whatever the method, the block or the batch."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.gradients import ExampleGradients, per_example
from tests.gradients import reference
from tests.harmless import harmless
from tests.problems import LOSSES, MODELS, problem

SELDOM = ("cross-entropy", "custom, weighted", "square, sum")
CASES = [("mlp", loss) for loss in LOSSES] + [(m, loss) for m in MODELS if m != "mlp" for loss in SELDOM]


def _together(blocks: Any) -> ExampleGradients:
    blocks = list(blocks)
    targets = None if blocks[0].targets is None else torch.cat([b.targets for b in blocks])
    return ExampleGradients(
        torch.cat([b.gradients for b in blocks]), torch.cat([b.weights for b in blocks]), targets,
        torch.cat([b.index for b in blocks]), blocks[-1].method,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "loop"])
@pytest.mark.parametrize(("model", "loss"), CASES)
def test_equals_one_backward_pass_an_example(model: str, loss: str, method: str) -> None:
    p = problem(model, loss)
    objective = ls.Objective(p.model, p.loss, p.batches())
    found = _together(per_example(objective, method=method, chunk=4))
    truth = reference.gradients(p)
    labels = objective.is_classification and not p.targets.is_floating_point()
    counted = p.targets != objective.loss.criterion.ignore_index if labels else torch.ones(len(p.targets))
    assert torch.equal(found.index, counted.nonzero().flatten())
    np.testing.assert_allclose(found.gradients, truth[found.index], rtol=0, atol=1e-12)
    total = (found.gradients * found.weights[:, None]).sum(0)
    mean = total if objective.loss.reduction == "sum" else total / found.weights.sum()
    torch.testing.assert_close(mean, objective.gradient(), rtol=1e-12, atol=1e-13)
    if found.targets is not None:
        assert torch.equal(found.targets, p.targets[found.index])
    if method == "auto":
        looped = model in ("recurrent", "mixture", "switch")
        assert found.method.startswith("loop (torch.func cannot" if looped else "vmap")


@pytest.mark.parametrize("sizes", [1, 7, 16])
@pytest.mark.parametrize("chunk", [1, 5, "auto"])
def test_same_for_any_batch_and_chunk(sizes: int, chunk: int | str) -> None:
    p = problem("convolution", "cross-entropy, all at once")
    found = _together(per_example(ls.Objective(p.model, p.loss, p.batches(sizes)), chunk=chunk))
    truth = _together(per_example(ls.Objective(p.model, p.loss, p.batches(16))))
    torch.testing.assert_close(found.gradients, truth.gradients, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.weights, truth.weights, rtol=1e-14, atol=0)
    assert torch.equal(found.index, truth.index)


def test_class_weights_and_tokens_are_the_weights() -> None:
    p = problem("mlp", "cross-entropy, class weights")
    found = _together(per_example(ls.Objective(p.model, p.loss, p.batches())))
    torch.testing.assert_close(found.weights, p.loss.weight[p.targets])

    tokens = torch.tensor([[0, 1, -100], [2, -100, -100], [-100, -100, -100], [1, 1, 1]])
    model, x = nn.Linear(2, 9).double(), torch.randn(4, 2).double()

    def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        scores = model(batch["x"]).view(-1, 3, 3)
        labels = batch["labels"]
        return nn.functional.cross_entropy(scores.transpose(1, 2), labels), (labels != -100).sum()

    objective = ls.Objective(model, loss, {"x": x, "labels": tokens})
    found = _together(per_example(objective))
    assert found.method == "vmap"
    assert found.weights.tolist() == [2, 1, 3]
    assert found.index.tolist() == [0, 1, 3]
    torch.testing.assert_close((found.weights @ found.gradients) / 6, objective.gradient())


def test_another_point_and_selected_parameters() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(), params="2.*")
    at = objective.vector() + 0.3
    found = _together(per_example(objective, at=at))
    torch.testing.assert_close(found.gradients.mean(0), objective.gradient(at), rtol=1e-12, atol=1e-14)


def test_half_precision_gives_single() -> None:
    p = problem("mlp").to(torch.bfloat16)
    found = _together(per_example(ls.Objective(p.model, p.loss, p.batches())))
    assert found.gradients.dtype == torch.float32
    assert found.gradients.isfinite().all()


def test_what_vmap_cannot_do_goes_by_loop_and_says_why() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        value = (model(batch[0]) ** 2).mean()
        return value * 2 if value.item() > 0 else value

    p = problem("mlp")
    objective = ls.Objective(p.model, loss, p.batches(8))
    found = _together(per_example(objective))
    assert found.method.startswith("loop (torch.func cannot transform this loss: vmap: It looks like you're")
    torch.testing.assert_close(found.gradients.mean(0), objective.gradient(), rtol=1e-12, atol=1e-14)
    with pytest.raises(InputError, match=r"method='vmap' does not work here.*; pass method='loop'"):
        list(per_example(objective, method="vmap"))


def test_tensors_of_all_examples_are_shared() -> None:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return (model(batch["x"]) @ batch["matrix"]).square().sum(1).mean() * batch["scale"]

    p = problem("mlp")
    data = {"x": p.inputs, "matrix": torch.randn(3, 5).double(), "scale": torch.tensor(2.0), "name": "text"}
    objective = ls.Objective(p.model, loss, data)
    found = _together(per_example(objective))
    torch.testing.assert_close(found.gradients.mean(0), objective.gradient(), rtol=1e-12, atol=1e-14)


# -- refusals ---------------------------------------------------------------------------------------------


def _dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).double()


def _contrast(model: nn.Module, batch: Any) -> torch.Tensor:
    z = model(batch[0])
    return (z @ z.T).logsumexp(1).mean()


def _noisy(model: nn.Module, batch: Any) -> torch.Tensor:
    z = model(batch[0])
    return ((z + torch.randn_like(z)) ** 2).mean()


def _token_mean(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_coupled_examples_are_refused() -> None:
    p, q = problem("convolution"), problem("mlp", "cross-entropy, ignore_index")
    with pytest.raises(InputError, match=r"do not exist with batch statistics, got BatchNorm2d '1' in mode='train'"):
        per_example(ls.Objective(p.model, p.loss, p.batches(), mode="train"))
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    with pytest.raises(InputError, match="without running ones"):
        per_example(ls.Objective(model, nn.CrossEntropyLoss(), q.batches()))
    with pytest.raises(InputError, match=r"without dropout, got Dropout '1' in mode='train'"):
        per_example(ls.Objective(_dropout(), q.loss, q.batches(), mode="train"))
    for loss in (_contrast, _token_mean):
        with pytest.raises(InputError, match=r"not the weighted mean of its examples' losses.*return \(loss, weight\)"):
            list(per_example(ls.Objective(q.model, loss, q.batches(8))))
    with pytest.raises(InputError, match="draws no random numbers"):
        list(per_example(ls.Objective(q.model, _noisy, q.batches(8))))


def test_without_dropout_or_batch_statistics_train_mode_is_fine() -> None:
    p = problem("attention")
    found = _together(per_example(ls.Objective(p.model, p.loss, p.batches(), mode="train")))
    np.testing.assert_allclose(found.gradients, reference.gradients(p), rtol=0, atol=1e-12)


def test_bad_arguments_are_refused() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    with pytest.raises(InputError, match="method must be 'auto', 'vmap' or 'loop', got hooks"):
        per_example(objective, method="hooks")
    with pytest.raises(InputError, match="chunk must be a positive number of examples"):
        per_example(objective, chunk=0)
    detached = ls.Objective(p.model, lambda m, b: m(b[0]).detach().mean(), p.batches(8))
    with pytest.raises(InputError, match="does not depend on the selected parameters"):
        list(per_example(detached))


# -- harmless ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("mode", ["to its end", "closed", "failing"])
def test_harmless(mode: str, method: str) -> None:
    p = problem("convolution")
    p.model.train()
    optimizer = torch.optim.SGD(p.model.parameters(), lr=0.1, momentum=0.9)
    p.pooled(p.model, p.inputs, p.targets).backward()
    optimizer.step()
    p.model[5].bias.requires_grad_(False)
    calls = 0

    def failing(model: nn.Module, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 9:
            raise ValueError("in the loss")
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loss = failing if mode == "failing" else p.loss
    data = torch.utils.data.TensorDataset(p.inputs, p.targets)
    loader = torch.utils.data.DataLoader(data, 2, shuffle=True, generator=torch.Generator().manual_seed(3))
    with harmless(p.model, optimizer, loader):
        objective = ls.Objective(p.model, loss, loader)
        if mode == "failing":
            with pytest.raises(ValueError, match="in the loss"):
                list(per_example(objective, method=method))
        else:
            with closing(per_example(objective, method=method)) as stream:  # type: ignore[type-var]
                for _ in stream:
                    if mode == "closed":
                        break


def test_no_more_than_the_chunk_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches(16))
    monkeypatch.setattr(sys.modules["landscape.gradients.per_example"], "MEMORY", 2 * 8 * objective.space.n * 5)
    assert [len(b.index) for b in per_example(objective)] == [5, 5, 5, 1]
