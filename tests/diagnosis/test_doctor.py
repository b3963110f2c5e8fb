"""Every check finds what is sick, and none complains of what is healthy."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.diagnosis import CHECKS
from landscape.diagnosis.checks import cost, peers
from landscape.diagnosis.finding import share
from landscape.diagnosis.registry import Check
from landscape.errors import InputError, NonFiniteError
from landscape.results import Checkup
from landscape.results.checkup import VERDICTS, Row
from tests.diagnosis.sick import HEALTHY, SICK, of, with_layer
from tests.harmless import harmless
from tests.problems import problem

Tensor = torch.Tensor
CASES = [(check, name) for check, cases in SICK.items() for name in cases]


# -- the contract of a check: it finds what is sick, and passes what is not ------------------------------


def test_every_check_has_a_sick_objective() -> None:
    assert set(SICK) == set(CHECKS)
    assert all(cases for cases in SICK.values())


def test_every_check_needs_what_comes_before_it() -> None:
    names = list(CHECKS)
    for name, check in CHECKS.items():
        assert all(names.index(other) < names.index(name) for other in check.needs)


@pytest.mark.parametrize(("check", "name"), CASES)
def test_what_is_sick_is_found(check: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = SICK[check][name]
    if check == "cost":
        monkeypatch.setattr(cost, "LONG", 1e-9)
    if check == "pyhessian":
        pytest.importorskip("pyhessian")
    objective = case.make()
    with harmless(objective.model):
        checkup = ls.doctor(objective, operator=case.operator, pyhessian=check == "pyhessian")
    row = checkup[check]
    assert row.verdict == case.verdict, row
    assert re.search(case.words, row.finding), row
    assert row.remedy
    assert checkup.ok == ("fail" not in checkup.verdicts.values())
    if case.verdict == "fail":
        assert not checkup.ok
        assert check in checkup.message


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_healthy_passes(name: str) -> None:
    make, allowed = HEALTHY[name]
    objective = make()
    objective.model.train()
    for p in objective.model.parameters():
        p.grad = torch.ones_like(p)
    with harmless(objective.model):
        checkup = ls.doctor(objective)
    assert list(checkup.verdicts) == list(CHECKS)
    odd = [row for row in checkup if row.verdict != "pass"]
    assert {row.check for row in odd} == allowed, odd
    assert all(row.verdict == "warning" for row in odd)
    assert checkup.status == "complete"


# -- what the findings say -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        ("mlp", "cross-entropy", "divides by 16 examples;"),
        ("mlp", "cross-entropy, ignore_index", r"divides by \d+ counted labels, of 16 examples;"),
        ("mlp", "cross-entropy, class weights", r"divides by [\d.]+, the class weights of all labels added up;"),
        ("mlp", "square", "divides by 48 elements, of 16 examples;"),
        ("mlp", "cross-entropy, sum", "a sum over 16 examples, divided by nothing;"),
        ("mlp", "custom, weighted", r"divides by [\d.]+, the weights that weighted_square returns, for 16 examples;"),
    ],
)
def test_weights_are_named(model: str, loss: str, words: str) -> None:
    assert re.search(words, _only("weights", of(problem(model, loss))).finding)


def _only(check: str, objective: ls.Objective, **options: Any) -> Row:
    return ls.doctor(objective, pyhessian=check == "pyhessian", **options)[check]


def test_the_wrong_layer_is_named_and_the_error_measured() -> None:
    """The dropped term is known: what the row says is how large it is."""
    p = with_layer(lambda x: x)
    p.model[1] = SICK["differences"]["a backward that leaves out a term"].make().model[1]
    o = of(p, [(p.inputs, p.targets)])
    right = of(with_layer(lambda x: x**2), [(p.inputs, p.targets)])
    right.model.load_state_dict(o.model.state_dict(), strict=False)
    row = _only("differences", o)
    assert row.verdict == "fail"
    assert row.finding.index("0.weight") < row.finding.index("; a second step")
    said = float(re.search(r"off by ([\d.]+)%", row.finding)[1]) / 100  # type: ignore[index]
    gradient = right.gradient()
    errors = []
    for v in (_random(o), gradient):
        wrong, exact = ls.Hessian(o) @ v, ls.Hessian(right) @ v
        errors.append(float((wrong - exact).norm() / exact.norm()))
    assert said == pytest.approx(max(errors), rel=1e-2)


def _random(o: ls.Objective) -> Tensor:
    from landscape.seeds import normal

    return normal(o.space.n, o.seed, 0, dtype=o.space.dtype, device="cpu")


def test_the_noise_floor_is_that_of_the_eigenvalues() -> None:
    """The exact spectra in both precisions differ by about what is stated, and not by much more."""
    p = problem("mlp").to(torch.float32)
    o = of(p, [(p.inputs, p.targets)])
    row = _only("precision", o)
    floor = float(re.search(r"±([\d.e-]+)", row.finding)[1])  # type: ignore[index]
    fine = ls.Hessian(ls.Objective(p.model, p.loss, [(p.inputs, p.targets)], dtype=torch.float64)).to_dense()
    error = torch.linalg.matrix_norm(ls.Hessian(o).to_dense().double() - fine, ord=2)
    assert float(error) / 30 <= floor <= 30 * float(error)
    largest = float(re.search(r"about ([\d.e-]+)", row.finding)[1])  # type: ignore[index]
    assert largest == pytest.approx(float(torch.linalg.eigvalsh(fine).abs().max()), rel=0.5)


def test_who_draws_is_named_and_the_draw_is_the_same() -> None:
    """In train mode dropout is meant to draw: it is said, and no warning."""
    row = _only("determinism", of(problem("dropped"), mode="train"))
    assert row.verdict == "pass"
    assert re.search(r"with the random numbers that Dropout '\d' draws: fixed by seed 0$", row.finding), row
    assert _only("determinism", of(problem("dropped"))).finding.endswith("are the same when computed again")


def test_no_batch_of_one_example_is_cut_where_a_batch_has_statistics() -> None:
    seen: set[int] = set()
    o = HEALTHY["batch norm of features, train mode"][0]()
    o.model[1].register_forward_pre_hook(lambda module, args: seen.add(len(args[0])))
    assert "statistics of a batch" in _only("weights", o).finding
    assert len(seen) >= 4
    assert min(seen) == 2


@pytest.mark.parametrize(
    ("error", "words"), [(1.5, "150.0%"), (0.023, "2.3%"), (1e-3, "0.1%"), (4.1e-6, "4.1e-06"), (0.0, "0.0e+00")]
)
def test_small_shares_are_not_zero(error: float, words: str) -> None:
    assert share(error) == words


def test_modes_are_said_with_both_values() -> None:
    o = of(problem("dropped"))
    finding = _only("modes", o).finding
    assert "dropout (1 layer) is off" in finding
    here, there = map(float, re.findall(r"(?:is|examples is) ([\d.]+), ([\d.]+) in train mode", finding)[0])
    assert here == pytest.approx(float(o.subsample(7).value()), rel=0.5)
    assert there != here


def test_the_fallback_and_its_reason_are_said() -> None:
    row = _only("backend", of(problem("attention")))
    assert row.verdict == "pass"
    assert "math attention kernel, as the fused one has no second derivative" in row.finding


@pytest.mark.parametrize("make", [ls.GGN, ls.Fisher, lambda o: ls.Hessian(o) * 2], ids=["GGN", "Fisher", "a multiple"])
def test_other_operators(make: Any) -> None:
    checkup = ls.doctor(of(problem("mlp")), operator=make)
    assert checkup.ok
    assert "is not the derivative of the gradient" in checkup["differences"].finding
    assert "not compared: pyhessian cannot do operators such as" in checkup["pyhessian"].finding
    assert ("vᵀHv is not negative" in checkup["symmetry"].finding) == (make in (ls.GGN, ls.Fisher))


# -- pyhessian --------------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: of(problem("mlp")), r"products equal pyhessian's to \S+, on 7 examples in float64"),
        (lambda: of(problem("partial")), "products equal pyhessian's"),  # which stops at unused parameters by itself
        (lambda: of(problem("tied", "cross-entropy, ignore_index")), "products equal pyhessian's"),
        (lambda: of(problem("mlp"), params="2.*"), "products equal pyhessian's"),
        (lambda: of(problem("attention")), "products equal pyhessian's"),
        (lambda: of(problem("mlp", "custom, weighted")), "pyhessian cannot do losses that are not a torch criterion"),
        (lambda: of(problem("dropped"), mode="train"), "pyhessian cannot do train mode"),
        (lambda: of(problem("mlp"), regularizer=0.1), "pyhessian cannot do regularizers"),
    ],
)
def test_where_pyhessian_can_be_compared_with(make: Any, words: str) -> None:
    pytest.importorskip("pyhessian")
    row = _only("pyhessian", make())
    assert row.verdict == "pass"
    assert re.search(words, row.finding), row


@pytest.mark.peers
def test_a_difference_that_nothing_else_explains_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyhessian")
    there = peers._theirs

    def off(*args: Any) -> Any:
        products, used = there(*args)
        return 1.01 * products, used

    monkeypatch.setattr(peers, "_theirs", off)
    row = _only("pyhessian", of(with_layer(SICK["differences"]["units at their kink"].make().model[1])))
    assert row.verdict == "warning"  # differences are with us
    sick = SICK["differences"]["a backward that leaves out a term"].make()
    row = _only("pyhessian", sick)
    assert row.verdict == "fail"
    assert "differ from pyhessian's by 1.0%" in row.finding


def test_without_pyhessian_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    row = _only("pyhessian", of(problem("mlp")))
    assert row == Row(
        "pyhessian", "warning", "not compared: pyhessian is not installed", "pip install torch-landscape[peers]"
    )
    assert "pyhessian" not in ls.doctor(of(problem("mlp")), pyhessian=False).verdicts


# -- how checks are run ---------------------------------------------------------------------------------------


def test_one_cause_is_said_once() -> None:
    checkup = ls.doctor(SICK["determinism"]["Python's generator"].make())
    assert [row.check for row in checkup if row.verdict == "fail"] == ["determinism"]
    assert checkup["symmetry"] == Row(
        "symmetry", "warning", "not looked at, because determinism failed", "mend determinism first"
    )


@pytest.mark.parametrize(
    ("error", "finding", "remedy"),
    [
        (NonFiniteError("no number", got="NaN", fix="look at it"), "no number, got NaN", "look at it"),
        (RuntimeError("CUDA error: something\nand more"), "RuntimeError: CUDA error: something", "by themselves"),
        (RuntimeError("CUDA out of memory. Tried"), "memory ran out: CUDA out of memory", "smaller batches"),
        (ValueError("Expected more than 1 value\nper channel"), "ValueError: Expected more than 1 value", "themselves"),
        (KeyError("labels"), "KeyError: 'labels'", "by themselves"),
        (AssertionError(), "AssertionError: AssertionError", "by themselves"),
    ],
)
def test_what_a_check_raises_is_a_finding(
    error: Exception, finding: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(subject: Any) -> Any:
        raise error

    monkeypatch.setitem(CHECKS, "weights", Check(raises))
    checkup = ls.doctor(of(problem("mlp")), pyhessian=False)
    assert checkup["weights"].verdict == "fail"
    assert finding in checkup["weights"].finding
    assert remedy in checkup["weights"].remedy
    assert {row.verdict for row in checkup if row.check != "weights"} == {"pass"}


def test_ctrl_c_gives_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(subject: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(CHECKS, "weights", Check(stop))
    checkup = ls.doctor(of(problem("mlp")))
    assert checkup.status == "interrupted"
    assert list(checkup.verdicts) == ["data", "loss", "determinism"]


def test_loader_and_optimizer_stay_as_they_were() -> None:
    p = problem("convolution")
    p.model.train()
    optimizer = torch.optim.Adam(p.model.parameters())
    data = TensorDataset(p.inputs, p.targets)
    loader = DataLoader(data, batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(4))
    p.loss(p.model(p.inputs), p.targets).backward()
    optimizer.step()
    with harmless(p.model, optimizer, loader):
        ls.doctor(ls.Objective(p.model, p.loss, loader))


class Raising(Function):
    """Fails when its gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise RuntimeError("no gradient today")


def test_a_model_that_raises_stays_as_it_was() -> None:
    o = of(with_layer(Raising.apply))
    with harmless(o.model):
        checkup = ls.doctor(o)
    assert checkup["loss"].finding == "RuntimeError: no gradient today"


def test_the_users_objective_is_still_asked_its_questions() -> None:
    """Products that the doctor makes of a sick objective do not count as checked."""
    o = SICK["symmetry"]["a second derivative that is not symmetric"].make()
    ls.doctor(o)
    with pytest.raises(InputError, match="not symmetric"):
        ls.Hessian(o) @ torch.ones(o.space.n)


def test_the_same_seed_gives_the_same_findings() -> None:
    a, b = (ls.doctor(of(problem("mlp")), seed=3, pyhessian=False) for _ in range(2))
    assert [row for row in a if row.check != "cost"] == [row for row in b if row.check != "cost"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda o: ls.doctor(o.model), "the doctor needs an objective, got Sequential"),
        (lambda o: ls.doctor(o, operator=ls.Hessian(o)), "operator must make an operator of an objective, got Hessian"),
        (lambda o: ls.doctor(o, seed=-1), "seed must be"),
    ],
)
def test_bad_arguments(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(of(problem("mlp")))


# -- the result ------------------------------------------------------------------------------------------------


def test_a_checkup_is_kept(tmp_path: Any) -> None:
    rows = [
        Row("data", "pass", "fine"),
        Row("loss", "warning", "uᵀHv ± 1", "wait"),
        Row("cost", "fail", "much", "less"),
    ]
    checkup = Checkup.make(rows, provenance={"mode": "eval"})
    assert checkup.message == "1 passed, 1 warning, 1 failed: cost"
    stored = ls.load(checkup.save(tmp_path / "c.nc"))
    assert isinstance(stored, Checkup)
    assert stored.rows == rows == list(stored)
    assert stored["cost"] == rows[2]
    assert (stored.status, stored.ok, len(stored)) == ("failed", False, 3)
    assert stored.summary()["loss"] == "warning: uᵀHv ± 1"
    assert tuple(stored.to_dataframe().columns) == ("verdict", "finding", "remedy")
    with pytest.raises(InputError, match="checks are data, loss, cost"):
        checkup["weight"]
    with pytest.raises(InputError, match=", ".join(VERDICTS)):
        Checkup.make([Row("data", "good", "")], provenance={})


def test_errors_keep_their_parts_across_processes() -> None:
    error = InputError("x  must be\n1", got=2, fix="pass 1")
    for found in (error, pickle.loads(pickle.dumps(error))):
        assert (found.found, found.fix, str(found)) == ("x must be 1, got 2", "pass 1", "x must be 1, got 2; pass 1.")


def test_models_in_half_precision_are_looked_over() -> None:
    p = problem("mlp")
    o = ls.Objective(nn.Sequential(p.model.half()), p.loss, [(p.inputs.half(), p.targets)])
    checkup = ls.doctor(o, pyhessian=False)
    assert "float16 products against float64" in checkup["precision"].finding
    assert checkup.verdicts["differences"] == "pass"
