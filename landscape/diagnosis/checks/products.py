"""Checks of the operator's products: symmetric, derivatives of the gradient, and how many digits they have."""

from __future__ import annotations

import copy
from typing import Any

import torch

from landscape.diagnosis.compared import SHARPEST
from landscape.diagnosis.finding import Finding, failed, listed, passed, share, warned, within
from landscape.diagnosis.subject import Subject
from landscape.objective import Objective

KINKS = (
    "kinks (ReLU, max-pooling, rounding) do this and need no mending: products are the curvature between them; to have "
    "them compared, look at the model with a smooth activation, or in float64"
)
LOOSE, LOST = 1e-3, 0.1  # relative errors from which products have few digits, and hardly a right one
TURNS = 4  # of power iterations towards the largest eigenvalue


def backend(subject: Subject) -> Finding:
    """Make a product, and say by which backend and why."""
    op = subject.make(subject.part)
    op @ subject.vector(subject.part, 0)
    facts = op.provenance()
    if "backend" not in facts:
        return passed(f"{type(op).__name__}, which has no choice of backends")
    failures = facts.get("backends that failed")
    words = f"{facts.get('operator', type(op).__name__)} by {facts['backend']}"
    if failures is None:
        return passed(words)
    by_differences = str(facts["backend"]).startswith("difference")
    return warned(
        f"{words}; given up: {failures}",
        "write that part in operations that torch differentiates twice, or pass dtype=torch.float64 for a smaller error"
        if by_differences
        else "products are as exact, and take more time: nothing needs to be done",
    )


def symmetry(subject: Subject) -> Finding:
    """Compare uᵀHv with vᵀHu on a random pair, in the objective's precision and in float64."""
    own = copy.copy(subject.part)
    own.checked = {"deterministic"}
    asked = subject.make(own)
    off = _asymmetry(subject, asked, own)  # an operator of ours refuses, with the parameters at fault
    op = subject.make(subject.fine)
    fine = _asymmetry(subject, op, subject.fine)
    eps = torch.finfo(subject.fine.coarsest).eps
    if fine > max(SHARPEST, 10 * getattr(op, "bound", 0.0), 100 * eps**0.5 if eps > 1e-12 else 0.0):
        return failed(
            f"uᵀHv and vᵀHu differ by {fine:.1e} {subject.words(subject.fine)}, where rounding is {eps:.0e}",
            "a derivative in the model or the loss is wrong: check custom functions with torch.autograd.gradgradcheck",
        )
    words = f"uᵀHv and vᵀHu agree {within(off)}"
    if subject.fine is not subject.part:
        words += f", in float64 {within(fine)}"
    if not getattr(op, "psd", False):
        return passed(words)
    v = subject.vector(subject.fine, 0)
    form, size = float(subject.fine.space.dot(v, op @ v)), float(subject.fine.space.norm(op @ v))
    if form < -SHARPEST * size * len(v) ** 0.5:
        return failed(
            f"{words}, but vᵀHv is {form:.3g}: not positive semi-definite",
            "the loss must be convex in the model's outputs",
        )
    return passed(f"{words}; vᵀHv is not negative")


def _asymmetry(subject: Subject, op: Any, objective: Objective) -> float:
    """Return |uᵀHv - vᵀHu| relative to |Hu| + |Hv|."""
    space = objective.space
    u, v = (subject.vector(objective, i) for i in range(2))
    hu, hv = (op @ torch.stack([u, v], dim=1)).unbind(1)
    size = float(space.norm(hu) + space.norm(hv))
    return abs(float(space.dot(u, hv) - space.dot(v, hu))) / size if size else 0.0


def differences(subject: Subject) -> Finding:
    """Compare products with central differences of the gradient, whose step a second one has checked."""
    found = subject.differences
    if found.why:
        return passed(f"not compared: {found.why}")
    if found.unresolved:
        return warned(f"nothing could be compared: {found.unresolved}", KINKS)
    known = f"a second step confirms these to {found.bound:.0e}, {subject.words(found.objective)}"
    if found.agree:
        words = f"products equal central differences of the gradient {within(found.off)}; {known}"
        return passed(words) if found.clear else warned(words, KINKS)
    return failed(
        f"products are off by {share(found.off)} from central differences of the gradient, most in "
        f"{listed(list(found.where))}; {known}",
        "a backward leaves out a part or is wrong: check custom functions with torch.autograd.gradcheck and "
        "gradgradcheck; where the gradient is right, backend='difference' is",
    )


def precision(subject: Subject) -> Finding:
    """Compare products with those in float64: eigenvalues below what is left mean nothing."""
    coarse, fine = subject.part, subject.fine
    exact = subject.make(fine)
    u, largest = _unit(fine, subject.vector(fine, 0)), 0.0
    for _ in range(TURNS):
        u = exact @ u
        largest = float(fine.space.norm(u))
        u = _unit(fine, u)
    if largest == 0:
        return warned(
            "all products are zero: along every direction that was tried the loss is linear",
            "expect it of piecewise linear losses and models only",
        )
    op = subject.make(coarse)
    same = coarse is fine
    means = f"repeated products in {_name(coarse)}" if same else f"{_name(coarse)} products against float64"
    floor = 0.0
    for _ in range(2):  # towards where the error is largest
        again = 3 * (exact @ (u / 3)) if same else exact @ u  # a third has other roundings
        error = (op @ u.to(coarse.space.dtype)).to(u) - again
        size = float(fine.space.norm(error))
        floor = max(floor, size)
        if not size:
            break
        u = _unit(fine, error)
    floor = max(floor, torch.finfo(coarse.space.dtype).eps * largest)
    words = (
        f"{means}: an error of {floor / largest:.0e} of the largest eigenvalue, which is about {largest:.3g}; "
        f"eigenvalues within ±{floor:.1e} mean nothing"
    )
    if floor > LOST * largest:
        return failed(f"{words}: hardly a digit is right", "pass dtype=torch.float64 (or float32) to the objective")
    if floor > LOOSE * largest:
        return warned(words, "pass dtype=torch.float32 to the objective; on a GPU look whether TF32 is on")
    return passed(words)


def _unit(objective: Objective, v: torch.Tensor) -> torch.Tensor:
    length = float(objective.space.norm(v))
    return v / length if length else v


def _name(objective: Objective) -> str:
    return str(objective.coarsest).removeprefix("torch.")
