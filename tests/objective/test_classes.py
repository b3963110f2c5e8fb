"""The loss by class: weighted with their shares, the Hessians of the classes are the Hessian."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.errors import InputError
from landscape.objective.losses import FunctionLoss
from tests.harmless import harmless
from tests.problems import OWN, problem
from tests.reference import close

LABELLED = [
    "cross-entropy",
    "cross-entropy, ignore_index",
    "cross-entropy, ignore_index 1",
    "cross-entropy, class weights",
    "cross-entropy, all at once",
    "cross-entropy, sum, class weights",
    "function cross_entropy",
    "likelihood",
    "margin",
]


@pytest.mark.parametrize(("kind", "loss"), [*((ls.Hessian, loss) for loss in LABELLED), (ls.GGN, LABELLED[3])])
def test_hessians_of_the_classes_add_up(kind: type, loss: str) -> None:
    p = problem("mlp", loss)
    whole = ls.Objective(p.model, p.loss, p.batches())
    classes = whole.by_class()
    ignored = getattr(whole.loss.criterion, "ignore_index", None)
    assert list(classes) == sorted({int(y) for y in p.targets} - {ignored})
    shares = {label: o.weight() / whole.weight() for label, o in classes.items()}
    if loss != "margin":  # which torch cannot differentiate twice
        parts = sum(share * kind(classes[label]).to_dense() for label, share in shares.items())
        close(parts, kind(whole).to_dense(), 1e-12)
    close(sum(shares[c] * o.value() for c, o in classes.items()), whole.value(), 1e-12)
    close(sum(shares[c] * o.gradient() for c, o in classes.items()), whole.gradient(), 1e-12)
    if whole.loss.reduction == "mean":
        assert float(sum(shares.values())) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_a_class_is_its_examples_whatever_the_batches(cache: str) -> None:
    p = problem("convolution")
    rows = p.targets == 1
    alone = ls.Objective(p.model, p.loss, (p.inputs[rows], p.targets[rows]))
    for size in (16, 5, 1):
        loader = DataLoader(
            TensorDataset(p.inputs, p.targets),
            batch_size=size,
            shuffle=True,
            generator=torch.Generator().manual_seed(2),
        )
        whole = ls.Objective(p.model, p.loss, loader, cache=cache)
        with harmless(p.model, None, loader):
            one = whole.by_class()[1]
            close(one.value(), alone.value(), 1e-12)
            close(ls.Hessian(one).to_dense(), ls.Hessian(alone).to_dense(), 1e-12)
        assert one.provenance()["data"]["examples"] == int(rows.sum())
        assert one.batches._held is None


def test_labels_that_do_not_count_are_no_classes() -> None:
    p = problem("mlp")
    for criterion in (
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)),
    ):
        assert list(ls.Objective(p.model, criterion, p.batches()).by_class()) == [0, 1]


def test_a_regularizer_is_part_of_each() -> None:
    p = problem("mlp")
    whole = ls.Objective(p.model, p.loss, p.batches(), regularizer=0.1)
    classes = whole.by_class()
    parts = sum(o.weight() / whole.weight() * ls.Hessian(o).to_dense() for o in classes.values())
    close(parts, ls.Hessian(whole).to_dense(), 1e-12)
    with pytest.raises(InputError, match="a summed loss with a regularizer cannot be split by class"):
        ls.Objective(p.model, nn.CrossEntropyLoss(reduction="sum"), p.batches(), regularizer=0.1).by_class()


class _Mixing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


def test_what_has_no_classes_is_refused() -> None:
    p, tokens, squares = problem("mlp"), problem("language model", OWN), problem("mlp", "square")
    probabilities = problem("mlp", "cross-entropy, probabilities")
    wanted = "classes need a criterion over .inputs, targets. with one integer label an example"
    for case in (tokens, squares, probabilities):
        with pytest.raises(InputError, match=wanted):
            ls.Objective(case.model, case.loss, case.batches()).by_class()
    own = FunctionLoss(lambda model, batch: (nn.functional.cross_entropy(model(batch[0]), batch[1]), len(batch[1])))
    with pytest.raises(InputError, match=wanted):
        ls.Objective(p.model, own, p.batches()).by_class()
    with pytest.raises(InputError, match="eval mode only"):
        ls.Objective(p.model, p.loss, p.batches(), mode="train").by_class()
    mixing = nn.Sequential(_Mixing(), p.model)
    with pytest.raises(InputError, match="examples that do not act on each other"):
        ls.Objective(mixing, p.loss, p.batches()).by_class()


def test_densities_by_class() -> None:
    p = problem("mlp")
    objective = ls.Objective(p.model, p.loss, p.batches())
    classes = objective.by_class()
    family = ls.each(
        ls.spectral_density, {c: ls.Hessian(o) for c, o in classes.items()}, by="class", probes=3, steps=12
    )
    assert list(family.members) == [str(c) for c in classes]
    for label, one in classes.items():
        low, high = family[str(label)].moment_interval(1, 0.9999)
        assert low <= float(ls.Hessian(one).to_dense().trace()) / objective.space.n <= high
