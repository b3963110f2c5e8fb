"""The loss's own Hessian by the model's outputs: in closed form where there is one, else by autograd.

A ``Curve`` maps tangents of the outputs to the products with a symmetric operator on them, unnormalised: that of
the batch's numerator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from landscape.curvature.outputs.rows import balanced, by_class, class_dimension, normalised_dimension, target_mass
from landscape.curvature.unsupported import recognised, refuse_once
from landscape.objective.losses.terms import Split
from landscape.objective.scale import middle

Curve = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]

#: Criteria that are convex in their outputs: with them the GGN is positive semi-definite.
CONVEX = (
    nn.CrossEntropyLoss, nn.NLLLoss, nn.KLDivLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss,
    nn.BCEWithLogitsLoss, nn.PoissonNLLLoss, nn.GaussianNLLLoss, nn.SoftMarginLoss, nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss, nn.MultiMarginLoss,
)  # fmt: skip


def softmax_curve(outputs: torch.Tensor, mass: torch.Tensor, dim: int) -> Curve:
    """Return u -> mass (p * u - p <p, u>) row by row, p being the softmax of ``outputs`` along ``dim``."""
    rows = by_class(dim)
    likeliest = outputs.max(dim).indices.reshape(-1)  # where p is all but 1, u - <p, u> cancels

    def product(u: torch.Tensor, z: torch.Tensor, s: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        p = z.softmax(-1)
        inner = torch.linalg.vecdot(p, u).unsqueeze(-1)
        times = p.mul_(u - inner).mul_(s.unsqueeze(-1)) if not _transformed() else p * (u - inner) * s.unsqueeze(-1)
        return balanced(times, place)

    return lambda tangents: [rows.map(product, tangents[0], outputs, mass, likeliest)]


def _transformed() -> bool:
    """Whether torch.func is at work, where writing into a tensor may not be possible."""
    return bool(torch._C._are_functorch_transforms_active())


def _cross_entropy(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Curve:
    return softmax_curve(outputs, target_mass(criterion, outputs, targets), class_dimension(outputs))


def _likelihood(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Curve:
    """Return the curvature of the logits that log-probabilities could come from: in them the loss is linear."""
    normalised_dimension(outputs)
    return _cross_entropy(criterion, outputs, targets)


def _divergence(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Curve:
    dim = normalised_dimension(outputs)
    mass = by_class(dim).to(targets.exp() if criterion.log_target else targets).sum(-1)
    return softmax_curve(outputs, mass.to(outputs.dtype), dim)


def _square(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Curve | None:
    return (lambda tangents: [2 * tangents[0]]) if outputs.shape == targets.shape else None


def _binary(criterion: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Curve:
    diagonal = outputs.sigmoid() * (-outputs).sigmoid()
    if criterion.pos_weight is not None:
        diagonal = diagonal * (1 + (criterion.pos_weight.to(outputs) - 1) * targets)
    if criterion.weight is not None:
        diagonal = diagonal * criterion.weight.to(outputs)
    return lambda tangents: [diagonal * tangents[0]]


#: Criterion -> its Hessian in closed form, from (criterion, outputs, targets); ``None`` where it does not fit.
CLOSED: dict[type[nn.Module], Callable[[Any, torch.Tensor, torch.Tensor], Curve | None]] = {
    nn.CrossEntropyLoss: _cross_entropy,
    nn.NLLLoss: _likelihood,
    nn.KLDivLoss: _divergence,
    nn.MSELoss: _square,
    nn.BCEWithLogitsLoss: _binary,
}


def closed(split: Split, table: dict[type[nn.Module], Any]) -> Any:
    """Return the entry of ``table`` for a split's criterion; ``None`` where there is none."""
    criterion = split.criterion
    return next((table[k] for k in table if criterion is not None and type(criterion).forward is k.forward), None)


def loss_hessian(split: Split) -> Curve:
    """Return the products with the Hessian of the batch's numerator by the outputs."""
    outputs = [output.detach() for output in split.outputs]
    form = closed(split, CLOSED)
    curve: Curve | None = None if form is None else form(split.criterion, outputs[0], split.targets)
    return differentiated(split) if curve is None else curve


def output_gradient(split: Split, *, create_graph: bool = False) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return fresh leaves for the outputs, and the numerator's gradient by them."""
    leaves = [output.detach().requires_grad_() for output in split.outputs]
    with torch.enable_grad():
        terms = split.terms(leaves)
    if create_graph:
        refuse_once([terms.numerator])
    if not terms.numerator.requires_grad:
        return leaves, [torch.zeros_like(leaf) for leaf in leaves]
    narrow = any(leaf.dtype == torch.float16 for leaf in leaves)  # a weight may be out of its range
    unit = middle(terms.weight).to(terms.numerator) if narrow else None
    parts = torch.autograd.grad(terms.numerator, leaves, unit, create_graph=create_graph, materialize_grads=True)
    return leaves, [part if unit is None else (part.float() / unit).to(part.dtype) for part in parts]


def differentiated(split: Split) -> Curve:
    """Return the products with the Hessian by the outputs, made by differentiating the loss twice."""
    with recognised():
        leaves, gradients = output_gradient(split, create_graph=True)
    pairs = [i for i, g in enumerate(gradients) if g.requires_grad]

    def curve(tangents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if not pairs:  # the loss is linear in its outputs
            return [torch.zeros_like(t) for t in tangents]
        with recognised():
            return list(
                torch.autograd.grad(
                    [gradients[i] for i in pairs], leaves, [tangents[i] for i in pairs],
                    retain_graph=True, materialize_grads=True,
                )
            )  # fmt: skip

    return curve
