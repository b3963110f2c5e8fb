"""Planted conflicts are found, noise is not called one, and heads never meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import InputError
from landscape.gradients.pairs import independent, shared
from tests.gradients import reference
from tests.gradients.reference import Linear, linear_loss
from tests.gradients.test_statistics import CHECKS, interrupting
from tests.harmless import harmless
from tests.problems import problem


def _tasks(gradients: dict[str, np.ndarray], names: dict[str, int] | None = None) -> dict[str, ls.Objective]:
    """Return tasks on one model whose example gradients are given."""
    first = next(iter(gradients.values()))
    model = Linear(names or {"weight": first.shape[1]})
    return {
        name: ls.Objective(model, linear_loss, [(part,) for part in torch.from_numpy(g).split(32)])
        for name, g in gradients.items()
    }


def _pair(found: Any, name: str, a: str = "a", b: str = "b") -> float:
    return float(found.dataset[name].sel(task=a, other=b))


def test_planted_conflict_and_agreement() -> None:
    rng, up = np.random.default_rng(0), np.array([1.0] + [0.0] * 19)
    noise = [rng.normal(size=(100, 20)) for _ in range(3)]
    found = ls.gradient_conflict(_tasks({"a": up + noise[0], "b": noise[1] - up, "c": up + noise[2]}))
    assert _pair(found, "z") < -3.5
    assert _pair(found, "z", "a", "c") > 3.5
    for other, sign in (("b", -1), ("c", 1)):  # noise shrinks the raw cosine and is taken out of the other
        raw, corrected = _pair(found, "cosine", "a", other), _pair(found, "cosine_unbiased", "a", other)
        assert abs(raw) < abs(corrected)
        assert corrected == pytest.approx(sign, abs=0.2)
    assert found.significant_rate == pytest.approx(2 / 3)
    assert found.status == "complete"


def test_equals_the_formulas() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 1, size=(64, 6)), rng.normal(-0.3, 1, size=(48, 6))
    found = ls.gradient_conflict(_tasks({"a": a, "b": b}, {"x": 2, "y": 4}), groups=16)
    u, v = a.mean(0), b.mean(0)
    assert _pair(found, "cosine") == pytest.approx(u @ v / np.linalg.norm(u) / np.linalg.norm(v), rel=1e-12)
    parts = found.dataset["cosine_by_parameter"].sel(task="a", other="b")
    assert float(parts.sel(parameter="x")) == pytest.approx(
        u[:2] @ v[:2] / np.linalg.norm(u[:2]) / np.linalg.norm(v[:2]), rel=1e-12
    )
    np.testing.assert_allclose(found.dataset["norm"], [np.linalg.norm(u), np.linalg.norm(v)], rtol=1e-12)
    assert found.dataset["examples"].to_numpy().tolist() == [64, 48]
    assert np.isnan(np.diag(found.dataset["z"])).all()
    assert (np.diag(found.dataset["cosine"]) == 1).all()


def test_unbiased_cosine_is_the_true_one_on_average() -> None:
    rng, u, v = np.random.default_rng(1), np.zeros(30), np.zeros(30)
    u[0], v[:2] = 1.5, [-0.75, 1.299]
    values = []
    for _ in range(60):
        tasks = _tasks({"a": u + rng.normal(size=(60, 30)), "b": v + rng.normal(size=(60, 30))})
        found = ls.gradient_conflict(tasks)
        values.append((_pair(found, "cosine"), _pair(found, "cosine_unbiased")))
    raw, corrected = np.mean(values, axis=0)
    assert corrected == pytest.approx(-0.5, abs=0.03)
    assert raw > -0.46


def test_heads_never_meet() -> None:
    """One shared weight and a head each: the cosine is -1/4, and would be otherwise if the heads were one."""
    model = nn.ModuleDict({"a": Linear({"w": 3}), "shared": Linear({"w": 1}), "b": Linear({"w": 3})})

    def head(name: str, sign: float) -> Any:
        def loss(model: nn.Module, batch: Any) -> tuple[torch.Tensor, float]:
            x = batch[0]
            return (model[name](x) + sign * model["shared"](x[:, :1])).mean(), float(len(x))

        return loss

    x = torch.ones(40, 3, dtype=torch.float64)
    found = ls.gradient_conflict({n: ls.Objective(model, head(n, s), [(x,)]) for n, s in (("a", 1.0), ("b", -1.0))})
    assert _pair(found, "cosine") == pytest.approx(-0.25, abs=1e-12)
    assert _pair(found, "cosine_unbiased") == pytest.approx(-0.25, abs=1e-12)
    parts = found.dataset["cosine_by_parameter"].sel(task="a", other="b")
    assert float(parts.sel(parameter="shared.w")) == -1
    assert np.isnan(parts.sel(parameter="a.w"))
    alone = ls.gradient_conflict({"a": _only(model, "a"), "b": _only(model, "b")})
    assert (_pair(alone, "cosine"), _pair(alone, "z")) == (0, 0)


def _only(model: nn.Module, name: str) -> ls.Objective:
    x = torch.randn(40, 3, dtype=torch.float64)
    return ls.Objective(model, lambda m, batch: m[name](batch[0]).mean(), [(x,)])


# -- the null of noise ------------------------------------------------------------------------------------


def test_noise_alone_conflicts_half_of_the_time_and_is_seldom_significant() -> None:
    """Unrelated noise in 300 dimensions: 28 pairs of 8 tasks, 40 times over."""
    rng, negative, beyond, below = np.random.default_rng(0), [], [], []
    for _ in range(40):
        found = ls.gradient_conflict(_tasks({f"task {i}": rng.normal(size=(48, 300)) for i in range(8)}))
        z = found._pairs("z")
        negative.append(found.rate)
        below.append(found.significant_rate)
        beyond.append((np.abs(z) > 1.96).mean())
        assert np.isnan(found._pairs("cosine_unbiased")).mean() > 0.6
    assert np.mean(negative) == pytest.approx(0.5, abs=0.06)
    assert 0.015 < np.mean(beyond) < 0.065
    assert np.mean(below) == pytest.approx(0.025, abs=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
@pytest.mark.parametrize(("a_signal", "b_signal"), [(0, 0), (0.5, 0), (0.5, 0.5), (4, 0), (4, 4)])
def test_z_is_calibrated(a_signal: float, b_signal: float, correlation: float) -> None:
    """Orthogonal true gradients of any strength: at most one pair in ten beyond 1.96, usually about one in 20."""
    rng, n, g = np.random.default_rng(5), 300, 16
    scores = []
    for _ in range(700):
        noise, other = rng.normal(size=(2, g, n))
        a = noise + a_signal * np.sqrt(n) * np.eye(n)[0]
        b = correlation * noise + np.sqrt(1 - correlation**2) * other + b_signal * np.sqrt(n) * np.eye(n)[1]
        scores.append((shared(a @ b.T)[1], independent(a @ b.T)[1]))
    beyond = (np.abs(scores) > 1.96).mean(axis=0)
    assert 0.015 < beyond[0] < 0.10
    if correlation == 0:
        assert 0.015 < beyond[1] < 0.10
    elif a_signal == b_signal == 0:
        assert beyond[1] > 0.9  # why products within a group are left out


def test_shared_examples_do_not_look_like_agreement() -> None:
    rng, beyond = np.random.default_rng(0), []
    for _ in range(60):
        noise = rng.normal(size=(64, 200))
        tasks = _tasks({"a": noise, "b": noise + 0.5 * rng.normal(size=noise.shape)})
        found = ls.gradient_conflict(tasks)
        assert _pair(found, "cosine") > 0.7
        beyond.append(abs(_pair(found, "z")) > 1.96)
    assert np.mean(beyond) < 0.15


def test_no_noise_is_certain() -> None:
    assert independent(np.full((4, 5), -2.0)) == (-2, -np.inf)
    assert shared(np.full((5, 5), 2.0)) == (2, np.inf)
    assert np.isnan(independent(np.ones((1, 5)))[1])
    assert np.isnan(shared(np.ones((3, 3)))[1])


# -- one objective split by its labels ---------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [1, 7, 16])
@pytest.mark.parametrize("loss", ["cross-entropy", "cross-entropy, all at once", "cross-entropy, sum"])
def test_classes(loss: str, sizes: int) -> None:
    p = problem("mlp", loss)
    found = ls.gradient_conflict(ls.Objective(p.model, p.loss, p.batches(sizes)))
    g = reference.gradients(p)
    means = np.stack([g[p.targets.numpy() == label].mean(0) for label in range(3)])
    norms = np.linalg.norm(means, axis=1)
    assert found.dataset["task"].to_numpy().tolist() == ["class 0", "class 1", "class 2"]
    np.testing.assert_allclose(found.dataset["cosine"], means @ means.T / np.outer(norms, norms), atol=1e-12)
    np.testing.assert_allclose(found.dataset["norm"], norms, rtol=1e-12)


def test_classes_in_order_are_as_classes_mixed() -> None:
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(300, 8))), torch.arange(300) % 3
    order = torch.argsort(y, stable=True)
    model = nn.Linear(8, 3).double()
    a, b = (
        ls.gradient_conflict(ls.Objective(model, nn.CrossEntropyLoss(), [(x[o], y[o])]))
        for o in (torch.arange(300), order)
    )
    for name in ("cosine", "cosine_unbiased", "z"):  # the position within a class decides the group
        np.testing.assert_allclose(a.dataset[name], b.dataset[name], rtol=1e-9)


# -- what can go wrong ------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    p, q, r = problem("mlp"), problem("linear"), problem("mlp", seed=1)
    a, b, c = (ls.Objective(k.model, k.loss, k.batches()) for k in (p, q, r))
    with pytest.raises(InputError, match="at least two tasks, got 1"):
        ls.gradient_conflict({"a": a})
    with pytest.raises(InputError, match=r"share the same parameters, got 'a' and 'b', which differ in 0\.bias"):
        ls.gradient_conflict({"a": a, "b": b})
    with pytest.raises(InputError, match="at the same point, got 'a' and 'c'"):
        ls.gradient_conflict({"a": a, "c": c})
    with pytest.raises(InputError, match="split by its targets, got by='domain'"):
        ls.gradient_conflict(a, by="domain")
    square = problem("mlp", "square")
    with pytest.raises(InputError, match="only a classification can be split by its labels, got the loss MSELoss"):
        ls.gradient_conflict(ls.Objective(square.model, square.loss, square.batches()))
    soft = problem("mlp", "cross-entropy, probabilities")
    with pytest.raises(InputError, match="one integer label an example, got targets of shape"):
        ls.gradient_conflict(ls.Objective(soft.model, soft.loss, soft.batches()))
    with pytest.raises(InputError, match="at least two classes, got 1"):
        ls.gradient_conflict(ls.Objective(p.model, p.loss, (p.inputs, torch.zeros(16, dtype=torch.long))))
    with pytest.raises(InputError, match="groups must be at least 2"):
        ls.gradient_conflict(a, groups=1)


def test_not_finite_is_said() -> None:
    g = np.random.default_rng(0).normal(size=(40, 4))
    bad = g.copy()
    bad[3, 1] = np.inf
    found = ls.gradient_conflict(_tasks({"a": g, "b": bad, "c": -g}))
    assert found.status == "not finite"
    assert found.message.startswith("b: the gradients of 1 of 40 examples")
    assert np.isnan(_pair(found, "z"))
    assert np.isfinite(_pair(found, "cosine", "a", "c"))


def test_few_examples_have_no_error_bar() -> None:
    g = np.random.default_rng(0).normal(size=(40, 4))
    found = ls.gradient_conflict(_tasks({"a": g, "b": g[:1]}))
    assert np.isfinite(_pair(found, "cosine"))
    assert np.isnan(_pair(found, "z"))
    assert np.isnan(_pair(found, "cosine_unbiased", "b", "b"))
    assert found.message.endswith("b: too few examples for an error bar worth the name")


def test_interrupted_and_harmless() -> None:
    p = problem("mlp")
    p.model.train()
    whole = ls.Objective(p.model, p.loss, p.batches(4))

    def stopped(blocks: int) -> ls.Objective:
        return ls.Objective(p.model, interrupting(p.loss, CHECKS + blocks), p.batches(4))

    with harmless(p.model):
        found = ls.gradient_conflict({"a": whole, "b": stopped(2)})
        assert found.status == "interrupted"
        assert found.message.startswith("stopped by Ctrl-C after 24 of 32 examples;")
        assert found.dataset["examples"].to_numpy().tolist() == [16, 8]
        with pytest.raises(KeyboardInterrupt):
            ls.gradient_conflict({"a": whole, "b": stopped(0)})


def test_saved_and_deterministic(tmp_path: Any) -> None:
    p = problem("mlp")
    found = ls.gradient_conflict(ls.Objective(p.model, p.loss, p.batches()))
    again = ls.gradient_conflict(ls.Objective(p.model, p.loss, p.batches()))
    assert found.dataset.equals(again.dataset)
    assert ls.load(found.save(tmp_path / "c.nc")).dataset.equals(found.dataset)
