"""Small seeded problems, one registry of models and one of losses; any model fits any loss.

Every model maps its inputs to three outputs per example. A loss brings the targets that fit it, and the
last layer that brings the outputs into its range. What fits no other, such as a model with outputs for every
token, is a whole problem in ``TASKS``. Batches are unequal on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests import networks

N, C = 16, 3
SIZES = (7, 6, 3)
Tensor = torch.Tensor


# -- models ---------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers that share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, C)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Recurrent(nn.Module):
    """Embedding and GRU over token sequences, with the embedding as a parameter that is used sparsely."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.head = nn.Embedding(7, 3), nn.GRU(3, 4, batch_first=True), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.embedding(x))[0][:, -1])


class Attention(nn.Module):
    """One attention block on the fused kernel, which has no second derivative of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.head = nn.Linear(4, 12), nn.LayerNorm(4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (part.view(n, t, 2, 2).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, 4)
        return self.head(x + mixed).mean(1)


class Partial(nn.Module):
    """A model with a frozen layer and one that the loss never sees."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.used, self.unused, self.head = (
            nn.Linear(4, 4),
            nn.Linear(4, 4),
            nn.Linear(2, 2),
            nn.Linear(4, C),
        )
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.used(torch.tanh(self.frozen(x)))))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 14), nn.Tanh(), nn.Linear(14, 13), nn.GELU(), nn.Linear(13, C))


def _convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, C)
    )


def _floats(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.randn(N, *shape, generator=g, dtype=torch.float64)


def _tokens(g: torch.Generator) -> Tensor:
    return torch.randint(0, 7, (N, 4), generator=g)


#: name -> (a new model, its N inputs)
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Generator], Tensor]]] = {
    "linear": (lambda: nn.Linear(4, C), _floats(4)),
    "logistic": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, C, bias=False)), _floats(2, 3)),
    "mlp": (_mlp, _floats(4)),
    "convolution": (_convolution, _floats(1, 6, 6)),
    "tied": (Tied, _floats(4)),
    "recurrent": (Recurrent, _tokens),
    "attention": (Attention, _floats(3, 4)),
    "partial": (Partial, _floats(4)),
    "resnet": (lambda: networks.ResNet20(C), _floats(1, 6, 6)),
    "vit": (lambda: networks.ViT(C), _floats(1, 4, 4)),
    "gpt": (lambda: networks.GPT(7, C), _tokens),
    "mixture": (lambda: networks.Mixture(C), _floats(4)),
    "switch": (lambda: networks.Mixture(C, best=1), _floats(4)),
    "adapted": (lambda: networks.adapted(C), _floats(4)),
    "normalised": (lambda: networks.normalised(C), _floats(4)),
    "dropped": (lambda: networks.dropped(C), _floats(4)),
}


# -- losses ---------------------------------------------------------------------------------------


def _labels(g: torch.Generator) -> Tensor:
    return torch.randint(0, C, (N,), generator=g)


def _some_ignored(g: torch.Generator) -> Tensor:
    return torch.where(torch.rand(N, generator=g) < 0.4, -100, _labels(g))


def _probabilities(g: torch.Generator) -> Tensor:
    return torch.randn(N, C, generator=g, dtype=torch.float64).softmax(1)


def _real(g: torch.Generator) -> Tensor:
    return torch.randn(N, C, generator=g, dtype=torch.float64)


def _bits(g: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (N, C), generator=g).double()


def _counts(g: torch.Generator) -> Tensor:
    return torch.randint(0, 4, (N, C), generator=g).double()


def _signs(g: torch.Generator) -> Tensor:
    return _bits(g) * 2 - 1


def _label_lists(g: torch.Generator) -> Tensor:
    lists = torch.full((N, C), -1)
    lists[:, 0] = _labels(g)
    return lists


def _weights() -> Tensor:
    return torch.tensor([0.3, 1.0, 2.7], dtype=torch.float64)


@dataclass(frozen=True)
class LossCase:
    """A loss, the targets that fit it, and the last layer that it needs."""

    make: Callable[[], Any]
    targets: Callable[[torch.Generator], Tensor]
    head: Callable[[], nn.Module] | None = None
    pooled: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None  # of a loss that is not a criterion
    equal: bool = False  # only for batches of one size


def mean_square(model: nn.Module, batch: Any) -> Tensor:
    """A custom loss without a weight."""
    inputs, targets = batch
    return ((model(inputs) - targets) ** 2).sum(1).mean()


def weighted_square(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """A custom loss with a weight of its own: rows count as much as their first target's magnitude."""
    inputs, targets = batch
    rows = targets[:, 0].abs()
    return (((model(inputs) - targets) ** 2).sum(1) * rows).sum() / rows.sum(), rows.sum()


LOSSES: dict[str, LossCase] = {
    "cross-entropy": LossCase(nn.CrossEntropyLoss, _labels),
    "cross-entropy, ignore_index": LossCase(nn.CrossEntropyLoss, _some_ignored),
    "cross-entropy, ignore_index 1": LossCase(lambda: nn.CrossEntropyLoss(ignore_index=1), _labels),
    "cross-entropy, class weights": LossCase(lambda: nn.CrossEntropyLoss(weight=_weights()), _labels),
    "cross-entropy, smoothed": LossCase(lambda: nn.CrossEntropyLoss(label_smoothing=0.1), _labels),
    "cross-entropy, all at once": LossCase(
        lambda: nn.CrossEntropyLoss(weight=_weights(), label_smoothing=0.2), _some_ignored
    ),
    "cross-entropy, probabilities": LossCase(nn.CrossEntropyLoss, _probabilities),
    "cross-entropy, weighted probabilities": LossCase(
        lambda: nn.CrossEntropyLoss(weight=_weights(), label_smoothing=0.1), _probabilities
    ),
    "cross-entropy, sum": LossCase(lambda: nn.CrossEntropyLoss(reduction="sum"), _some_ignored),
    "cross-entropy, sum, class weights": LossCase(
        lambda: nn.CrossEntropyLoss(reduction="sum", weight=_weights()), _labels
    ),
    "function cross_entropy": LossCase(
        lambda: functional.cross_entropy, _labels, pooled=lambda m, x, y: functional.cross_entropy(m(x), y)
    ),
    "function mse_loss": LossCase(
        lambda: functional.mse_loss, _real, pooled=lambda m, x, y: functional.mse_loss(m(x), y)
    ),
    "likelihood": LossCase(lambda: nn.NLLLoss(weight=_weights()), _some_ignored, lambda: nn.LogSoftmax(1)),
    "square": LossCase(nn.MSELoss, _real),
    "square, sum": LossCase(lambda: nn.MSELoss(reduction="sum"), _real),
    "absolute": LossCase(nn.L1Loss, _real),
    "smooth absolute": LossCase(nn.SmoothL1Loss, _real),
    "huber": LossCase(lambda: nn.HuberLoss(delta=0.7), _real),
    "binary": LossCase(nn.BCELoss, _bits, nn.Sigmoid),
    "binary, logits": LossCase(lambda: nn.BCEWithLogitsLoss(pos_weight=_weights()), _bits),
    "binary, logits, weighted": LossCase(lambda: nn.BCEWithLogitsLoss(weight=_weights()), _bits),
    "poisson": LossCase(nn.PoissonNLLLoss, _counts),
    "soft margin": LossCase(nn.SoftMarginLoss, _signs),
    "divergence": LossCase(lambda: nn.KLDivLoss(reduction="batchmean"), _probabilities, lambda: nn.LogSoftmax(1)),
    "divergence, logarithms": LossCase(
        lambda: nn.KLDivLoss(reduction="sum", log_target=True),
        lambda g: _probabilities(g).log(),
        lambda: nn.LogSoftmax(1),
    ),
    "label margin": LossCase(nn.MultiLabelMarginLoss, _label_lists),
    "label soft margin": LossCase(lambda: nn.MultiLabelSoftMarginLoss(weight=_weights()), _bits),
    "margin": LossCase(lambda: nn.MultiMarginLoss(p=2, weight=_weights()), _labels),
    "custom": LossCase(lambda: mean_square, _real, pooled=lambda m, x, y: mean_square(m, (x, y)), equal=True),
    "custom, weighted": LossCase(lambda: weighted_square, _real, pooled=lambda m, x, y: weighted_square(m, (x, y))[0]),
}


# -- problems -------------------------------------------------------------------------------------


@dataclass
class Problem:
    """A model, a loss and all data, in float64."""

    model: nn.Module
    loss: Any
    inputs: Tensor
    targets: Tensor
    pooled_function: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    equal: bool = False

    def pooled(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of all data in one batch, by torch alone."""
        if self.pooled_function is not None:
            return self.pooled_function(model, inputs, targets)
        return self.loss(model(inputs), targets)

    def batches(self, sizes: int | tuple[int, ...] = SIZES, order: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return the data in batches of ``sizes``, after reordering the examples by ``order``."""
        if isinstance(sizes, int):
            sizes = (sizes,) * math.ceil(len(self.inputs) / sizes)
        elif self.equal:
            sizes = (len(self.inputs) // 2,) * 2
        x, y = (self.inputs, self.targets) if order is None else (self.inputs[order], self.targets[order])
        ends = [0]
        for size in sizes:
            ends.append(min(ends[-1] + size, len(x)))
        return [(x[a:b], y[a:b]) for a, b in pairwise(ends)]

    def to(self, dtype: torch.dtype) -> Problem:
        """Return the problem in another precision; the model is converted in place."""

        def cast(t: Tensor) -> Tensor:
            return t.to(dtype) if t.is_floating_point() else t

        loss = self.loss.to(dtype) if isinstance(self.loss, nn.Module) else self.loss
        return Problem(
            self.model.to(dtype), loss, cast(self.inputs), cast(self.targets), self.pooled_function, self.equal
        )


def _token_labels(g: torch.Generator) -> Tensor:
    """Labels of every token, some ignored; of two examples none counts."""
    labels = torch.randint(0, 7, (N, 4), generator=g).masked_fill(torch.rand(N, 4, generator=g) < 0.3, -100)
    labels[3] = labels[8] = -100
    return labels


def next_token(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each next token as a function of its own, with its weight."""
    tokens, labels = batch
    labels = labels[:, 1:]
    return functional.cross_entropy(model(tokens)[:, :, :-1], labels), (labels != -100).sum()


def _pixels(g: torch.Generator) -> Tensor:
    return torch.randint(-1, C, (N, 2, 3), generator=g)


#: name -> (a new model, its N inputs, a loss that fits it alone)
TASKS: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Generator], Tensor], LossCase]] = {
    "language model": (lambda: networks.GPT(7), _tokens, LossCase(nn.CrossEntropyLoss, _token_labels)),
    "language model, shifted": (
        lambda: networks.GPT(7),
        _tokens,
        LossCase(lambda: next_token, _token_labels, pooled=lambda m, x, y: next_token(m, (x, y))[0]),
    ),
    "segmentation": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, C, 3, padding=1)),
        _floats(1, 2, 3),
        LossCase(lambda: nn.CrossEntropyLoss(weight=_weights(), ignore_index=-1, label_smoothing=0.1), _pixels),
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)),
        _floats(3, 2),
        LossCase(nn.MSELoss, lambda g: _floats(3, 2)(g)),
    ),
}
OWN = "its own"  # the loss of a task
TASKS_ONCE = [(task, OWN) for task in TASKS]


def problem(model: str = "mlp", loss: str = "cross-entropy", seed: int = 0) -> Problem:
    """Return a new problem from the registries, ``model`` with ``loss`` or a task with ``OWN``; the same each time."""
    make_model, make_inputs, case = TASKS[model] if loss == OWN else (*MODELS[model], LOSSES[loss])
    state = torch.get_rng_state()
    torch.manual_seed(1000 + seed)
    module = make_model()
    if case.head is not None:
        module = nn.Sequential(module, case.head())
    torch.set_rng_state(state)
    module = module.double()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():  # away from the symmetric start, where much of the Hessian is zero
            p.add_(torch.randn(p.shape, generator=g, dtype=torch.float64), alpha=0.3)
        for b in module.buffers():
            if b.is_floating_point():
                b.add_(torch.rand(b.shape, generator=g, dtype=torch.float64))
    inputs, targets, criterion = make_inputs(g), case.targets(g), case.make()
    return Problem(module, criterion, inputs, targets, case.pooled, case.equal)


def thinned(models: Iterable[str], losses: Iterable[str], every: int = 3) -> list[tuple[str, str]]:
    """Return one in ``every`` pairs of a model and a loss, each model and each loss as often as any other."""
    return [(m, l) for i, m in enumerate(models) for j, l in enumerate(losses) if (i + j) % every == 0]
