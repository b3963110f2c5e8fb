"""Coherence and noise scale against closed forms, covariances and many seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.gradients.groups import Deal
from tests.gradients import reference
from tests.gradients.reference import with_gradients
from tests.harmless import harmless
from tests.problems import LOSSES, problem

QUANTITIES = ("coherence", "alpha", "diversity", "gradient_norm2", "noise_trace", "noise_scale", "gsnr")


def _estimates(found: Any) -> dict[str, float]:
    return {q: getattr(found, q) for q in QUANTITIES}


def _stderr(found: Any, quantity: str) -> float:
    return float(found.dataset["stderr"].sel(quantity=quantity))


# -- closed forms -----------------------------------------------------------------------------------------


def test_orthonormal_gradients() -> None:
    found = ls.gradient_statistics(with_gradients(np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))[0]))
    assert found.coherence == pytest.approx(1, abs=1e-12)
    assert found.noise_trace == pytest.approx(1, abs=1e-12)
    assert found.gradient_norm2 == pytest.approx(0, abs=1e-12)


def test_identical_gradients() -> None:
    found = ls.gradient_statistics(with_gradients(np.tile([1.0, 2.0, -0.1], (30, 1))))
    assert found.coherence == pytest.approx(30, rel=1e-12)
    assert found.alpha == pytest.approx(1, rel=1e-12)
    assert (found.noise_trace, found.noise_scale, found.gsnr) == (0, 0, np.inf)
    assert found.ok


def test_gaussian_gradients() -> None:
    """50 x 400 unit normals: |Σ g|²/Σ |g|² is about χ²_400/400, 1 on average."""
    values = [
        ls.gradient_statistics(with_gradients(np.random.default_rng(s).normal(size=(50, 400)))).coherence
        for s in range(30)
    ]
    assert np.mean(values) == pytest.approx(1, abs=4 * np.sqrt(2 / 400 / 30))
    assert np.std(values) == pytest.approx(np.sqrt(2 / 400), rel=0.5)


def test_logistic_regression_on_real_and_random_labels() -> None:
    """n = 200, d = 20, w = 0: gradients are (1/2 - y) x, so coherence is 1 + about m/d · 2/π with a teacher."""
    teacher, random = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, w = rng.normal(size=(200, 20)), rng.normal(size=20)
        for labels, into in ((x @ w > 0, teacher), (rng.random(200) < 0.5, random)):
            model = nn.Linear(20, 1, bias=False).double()
            nn.init.zeros_(model.weight)
            data = (torch.from_numpy(x), torch.from_numpy(labels).double()[:, None])
            into.append(ls.gradient_statistics(ls.Objective(model, nn.BCEWithLogitsLoss(), data)).coherence)
            g = (0.5 - labels)[:, None] * x
            assert into[-1] == pytest.approx(reference.statistics(g)["coherence"], rel=1e-12)
    assert np.mean(teacher) == pytest.approx(1 + 2 / np.pi * 200 / 20, rel=0.1)
    assert np.mean(random) == pytest.approx(1, abs=0.35)


# -- the dense reference ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", ["cross-entropy", "square", "huber", "square, sum", "binary, logits", "custom, weighted"]
)
@pytest.mark.parametrize("sizes", [1, 7, (7, 6, 3)])
def test_equals_covariances(loss: str, sizes: Any) -> None:
    p = problem("mlp", loss)
    found = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches(sizes)))
    if loss != "custom, weighted":
        expected = reference.statistics(reference.gradients(p))
        assert _estimates(found) == pytest.approx(expected, rel=1e-10, nan_ok=True)
    again = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches(5)), method="loop")
    assert _estimates(found) == pytest.approx(_estimates(again), rel=1e-10, nan_ok=True)
    np.testing.assert_allclose(found.dataset["stderr"], again.dataset["stderr"], rtol=1e-8)


def test_by_parameter() -> None:
    g = np.random.default_rng(0).normal(0.2, 1, size=(40, 12))
    found = ls.gradient_statistics(with_gradients(g, names={"a": 3, "b": 8, "c": 1}))
    for name, part in (("a", g[:, :3]), ("b", g[:, 3:11]), ("c", g[:, 11:])):
        value = float(found.dataset["coherence_by_parameter"].sel(parameter=name))
        assert value == pytest.approx((part.sum(0) ** 2).sum() / (part**2).sum(), rel=1e-12)


def test_ignored_labels_are_not_there() -> None:
    p = problem("mlp", "cross-entropy, ignore_index")
    keep = p.targets != -100
    found = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches()))
    there = ls.gradient_statistics(ls.Objective(p.model, p.loss, [(p.inputs[keep], p.targets[keep])]))
    assert _estimates(found) == pytest.approx(_estimates(there), rel=1e-12, nan_ok=True)
    assert found.examples == int(keep.sum())
    assert found.provenance["examples_without_weight"] <= 16 - found.examples


def _weighted_mean(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, w = batch
    return (model(x) * w).sum() / w.sum(), w.sum()


def test_weights_are_those_of_the_objective() -> None:
    """|G|² and tr Σ / m are unbiased for the weighted mean, over many draws of examples and weights."""
    rng, truth = np.random.default_rng(0), np.array([0.5, 0.0, 0.0, 0.2])
    signal, noise, measured = [], [], []
    for _ in range(300):
        w = rng.integers(1, 6, size=40).astype(float)
        g = truth + rng.normal(size=(40, 4)) / np.sqrt(w)[:, None]  # longer sequences are less noisy
        model = reference.Linear({"weight": 4})
        found = ls.gradient_statistics(ls.Objective(model, _weighted_mean, (torch.from_numpy(g), torch.from_numpy(w))))
        mean = w @ g / w.sum()
        measured.append(mean @ mean)
        signal.append(found.gradient_norm2)
        noise.append(found.noise_trace / 40)
    error = np.std(signal) / 300**0.5
    assert np.mean(signal) == pytest.approx(truth @ truth, abs=3.5 * error)
    assert np.mean(noise) == pytest.approx(np.mean(measured) - truth @ truth, abs=3.5 * error)


def test_class_weights() -> None:
    p = problem("mlp", "cross-entropy, class weights")
    found = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches()))
    g, w = reference.gradients(p), p.loss.weight[p.targets].numpy()
    h = w[:, None] * g
    assert found.coherence == pytest.approx(h.sum(0) @ h.sum(0) / (h * h).sum(), rel=1e-12)
    products = (h @ h.T)[~np.eye(16, dtype=bool)].sum() / np.outer(w, w)[~np.eye(16, dtype=bool)].sum()
    assert found.gradient_norm2 == pytest.approx(products, rel=1e-10)


# -- noise scale ------------------------------------------------------------------------------------------


def _noisy(seed: int, examples: int, n: int, scale: float) -> np.ndarray:
    """Return gradients with |G|² = n / scale and tr Σ = n."""
    return np.random.default_rng(seed).normal(scale**-0.5, 1, size=(examples, n))


def test_noise_scale_is_right_as_a_ratio_of_means_only() -> None:
    """Truth 800 with 64 examples at a time: within 12 %, three standard errors of 500 draws in 400 dimensions."""
    found = [ls.gradient_statistics(with_gradients(_noisy(s, 64, 400, 800.0)), groups=2) for s in range(500)]
    signal, noise = (np.array([getattr(f, q) for f in found]) for q in ("gradient_norm2", "noise_trace"))
    assert noise.mean() == pytest.approx(400, rel=0.005)
    assert noise.mean() / signal.mean() == pytest.approx(800, rel=0.12)
    ratios = np.array([f.noise_scale for f in found])
    assert (np.isnan(ratios) == (signal <= 0)).all()
    assert 0.05 < np.isnan(ratios).mean() < 0.25
    assert abs(np.nanmean(ratios) / 800 - 1) > 0.3  # a mean of ratios
    assert (noise / np.clip(signal, 0, None).mean()).mean() < 0.97 * 800  # a mean of clipped values


def test_no_signal_is_said() -> None:
    g = np.random.default_rng(1).normal(size=(40, 5))
    found = ls.gradient_statistics(with_gradients(g - g.mean(0)))
    assert found.status == "not converged"
    assert "the gradient cannot be told from noise" in found.message
    assert found.message.endswith("use more examples")
    assert np.isnan(found.noise_scale)
    assert found.gradient_norm2 < 0
    weak = ls.gradient_statistics(with_gradients(_noisy(0, 64, 100, 800.0)))
    assert "within two standard errors of zero, noise_scale is at least about" in weak.message or not weak.ok


def test_standard_errors_are_sane() -> None:
    """The mean jackknife error is within 25 % of the true spread over 250 seeds, for every quantity."""
    found = [ls.gradient_statistics(with_gradients(_noisy(s, 200, 30, 20.0))) for s in range(250)]
    for quantity in QUANTITIES:
        true = np.std([getattr(f, quantity) for f in found])
        stated = np.sqrt(np.mean([_stderr(f, quantity) ** 2 for f in found]))
        assert stated == pytest.approx(true, rel=0.25), quantity


# -- groups -----------------------------------------------------------------------------------------------


def test_groups_are_equal_and_do_not_depend_on_the_batches() -> None:
    deal = Deal(20, 4000)
    group = deal(np.arange(4000))
    assert (np.bincount(group, minlength=20) == 200).all()
    assert np.array_equal(group, np.concatenate([deal(part) for part in np.split(np.arange(4000), 250)]))
    for labels in (np.arange(4000) // 400, np.arange(4000) % 10):  # as often in a group as by chance
        table = np.zeros((20, 10))
        np.add.at(table, (group, labels), 1)
        assert table.std() == pytest.approx(np.sqrt(200 * 0.1 * 0.9), rel=0.2)


def test_sorted_data_do_not_bias_the_error() -> None:
    """Sorted by a strong class direction, the error is that of shuffled data, not of contiguous groups or strata."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(400, 10)) + np.outer(np.repeat([3.0, -1.0], 200), np.ones(10))
    errors = [
        _stderr(ls.gradient_statistics(with_gradients(rows)), "gradient_norm2")
        for rows in (g, *(g[rng.permutation(400)] for _ in range(20)))
    ]
    assert 0.6 < errors[0] / np.median(errors[1:]) < 1.6


def test_few_groups_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.gradients.groups.MEMORY", 8 * 12 * 5)
    g = np.random.default_rng(0).normal(1, 1, size=(40, 12))
    assert ls.gradient_statistics(with_gradients(g)).provenance["groups"] == 5


def test_fewer_examples_than_groups() -> None:
    g = np.random.default_rng(0).normal(1, 1, size=(6, 4))
    found = ls.gradient_statistics(with_gradients(g))
    assert found.provenance["groups"] == 6
    assert _estimates(found) == pytest.approx(reference.statistics(g), rel=1e-12)
    left = [reference.statistics(np.delete(g, i, axis=0))["gsnr"] for i in range(6)]
    assert _stderr(found, "gsnr") == pytest.approx(np.sqrt(5 * np.var(left)), rel=1e-10)


# -- what can go wrong ------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 counted examples, got 1"):
        ls.gradient_statistics(with_gradients(np.ones((1, 3))))
    with pytest.raises(InputError, match="groups must be at least 2, got 1"):
        ls.gradient_statistics(with_gradients(np.ones((5, 3))), groups=1)


def test_not_finite_is_said() -> None:
    g = np.random.default_rng(0).normal(size=(30, 4))
    g[17, 2] = np.nan
    found = ls.gradient_statistics(with_gradients(g, batch=7))
    assert found.status == "not finite"
    assert "1 of 30 examples are NaN or infinite (example 17)" in found.message
    assert np.isnan(found.coherence)
    assert ls.gradient_statistics(with_gradients(np.zeros((9, 2)))).status == "not finite"


def interrupting(loss: Any, calls: int) -> Any:
    """Return ``loss`` as a function that raises what Ctrl-C raises when it is called once more than ``calls`` times."""
    count = 0

    def function(model: nn.Module, batch: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return loss(model(batch[0]), batch[1])

    return function


CHECKS = 2  # calls of the loss before the first block: some examples, and their batch


@pytest.mark.parametrize("blocks", [0, 3])
def test_interrupted(blocks: int) -> None:
    p = problem("mlp")
    p.model.train()
    objective = ls.Objective(p.model, interrupting(p.loss, CHECKS + blocks), p.batches(4))
    with harmless(p.model):
        if blocks == 0:
            with pytest.raises(KeyboardInterrupt):
                ls.gradient_statistics(objective)
            return
        found = ls.gradient_statistics(objective)
    assert (found.status, found.examples) == ("interrupted", 12)
    assert found.message.startswith("stopped by Ctrl-C after 12 of 16 examples;")
    rest = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches(4)[:3]))
    assert _estimates(found) == pytest.approx(_estimates(rest), rel=1e-12, nan_ok=True)


def test_deterministic_harmless_and_saved(tmp_path: Any) -> None:
    p = problem("convolution")
    p.model.train()
    objective = ls.Objective(p.model, p.loss, p.batches())
    with harmless(p.model):
        found = ls.gradient_statistics(objective)
    again = ls.gradient_statistics(objective)
    assert found.dataset.equals(again.dataset)
    assert ls.load(found.save(tmp_path / "g.nc")).dataset.equals(found.dataset)
    assert found.provenance["method"] == "vmap"
    assert "coherence" in repr(found)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_gives_finite_coherence(loss: str) -> None:
    p = problem("linear", loss)
    found = ls.gradient_statistics(ls.Objective(p.model, p.loss, p.batches()))
    assert 0 <= found.coherence <= 16.0001
    assert 0 <= found.alpha <= 1.0001
