"""Every operator of an objective, with its dense reference: one line here and it inherits all contract tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

import landscape as ls
from landscape.curvature import LinearOperator
from tests.problems import LOSSES, TASKS
from tests.reference import Dense

Tensor = torch.Tensor


@dataclass(frozen=True)
class Case:
    """An operator of an objective, the reference's products, and what it is defined for."""

    make: Callable[..., LinearOperator]
    expected: Callable[[Dense, Tensor], Tensor] | None  # nothing for one that draws
    losses: Sequence[str] = tuple(LOSSES)
    tasks: Sequence[str] = tuple(TASKS)
    by_order: bool = False  # whether the order of the examples plays a part
    by_example: bool = False  # whether examples must not act on each other


def _without(*losses: str) -> list[str]:
    return [l for l in LOSSES if l not in losses]


TWICE = _without("label margin", "margin")  # torch has no second derivative of these
FORWARD = _without("label margin", "margin", "huber", "soft margin")  # nor, in dual numbers, of these
LIKELIHOODS = [l for l in LOSSES if l.startswith(("cross-entropy", "function", "likelihood", "square"))]
LIKELIHOODS.append("binary, logits, weighted")
LABELLED = ["language model", "segmentation", "sequence"]


def _hessian(backend: str, losses: Sequence[str] = TWICE, **options: str) -> Case:
    return Case(partial(ls.Hessian, backend=backend, **options), lambda d, V: d.hessian_times(V), losses)


def _ggn(backend: str, **options: str) -> Case:
    return Case(partial(ls.GGN, backend=backend, **options), lambda d, V: d.ggn @ V, TWICE)


def _fisher(backend: str) -> Case:
    return Case(partial(ls.Fisher, backend=backend), lambda d, V: d.fisher @ V, LIKELIHOODS, LABELLED)


OPERATORS: dict[str, Case] = {
    "Hessian, autograd": _hessian("autograd"),
    "Hessian, autograd, batched": _hessian("autograd", columns="batch"),
    "Hessian, forward": _hessian("forward", FORWARD),
    "Hessian, forward, batched": _hessian("forward", FORWARD, columns="batch"),
    "Hessian, difference": _hessian("difference"),
    "GGN, forward": _ggn("forward"),
    "GGN, forward, batched": _ggn("forward", columns="batch"),
    "GGN, autograd": _ggn("autograd"),
    "Fisher, forward": _fisher("forward"),
    "Fisher, autograd": _fisher("autograd"),
    "Fisher, empirical": Case(partial(ls.Fisher, kind="empirical"), lambda d, V: d.empirical_fisher @ V),
    "Fisher, mc": Case(partial(ls.Fisher, kind="mc", samples=2), None, LIKELIHOODS, LABELLED, by_order=True),
    "GradientCovariance": Case(ls.GradientCovariance, lambda d, V: d.gradient_covariance @ V, by_example=True),
    "Jacobian": Case(ls.Jacobian, lambda d, V: d.jacobian @ V, by_order=True),
    "Jacobian, adjoint": Case(lambda o, **at: ls.Jacobian(o, **at).T, lambda d, V: d.jacobian.T @ V, by_order=True),
    "NTK": Case(ls.NTK, lambda d, V: d.ntk @ V, by_order=True),
}


def agree(op: LinearOperator, product: Tensor, expected: Tensor, tolerance: float) -> None:
    """Assert that columns differ by ``tolerance`` or the bound that ``op`` states, relative to the longest."""
    limit, expected = max(tolerance, getattr(op, "bound", 0.0)), expected.detach()
    error, size = (torch.linalg.vector_norm(t, dim=0).max() for t in (product.double() - expected, expected))
    assert product.shape == expected.shape
    assert float(error) <= limit * max(float(size), 1e-3), f"differs by {error / size:.3g}, allowed {limit:.3g}"
