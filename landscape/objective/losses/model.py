"""The loss that a Hugging Face model computes itself, found again from its logits and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from landscape.errors import InputError
from landscape.objective.losses.criterion import CriterionLoss
from landscape.objective.losses.terms import Split, Terms

Pair = tuple[torch.Tensor, torch.Tensor]


def _next_token(logits: torch.Tensor, labels: torch.Tensor) -> Pair | None:
    """Return each position's logits with the next one's label, as causal models pair them."""
    if labels.is_floating_point() or logits.ndim != 3 or logits.shape[:-1] != labels.shape:
        return None
    return logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()


def _own_label(logits: torch.Tensor, labels: torch.Tensor) -> Pair | None:
    """Return the logits of each token or example with its own label."""
    if labels.is_floating_point() or logits.ndim < 2 or logits.numel() != labels.numel() * logits.shape[-1]:
        return None
    return logits.flatten(0, -2), labels.flatten()


def _regression(logits: torch.Tensor, labels: torch.Tensor) -> Pair | None:
    return (logits.flatten(), labels.flatten().to(logits.dtype)) if logits.numel() == labels.numel() else None


def _bits(logits: torch.Tensor, labels: torch.Tensor) -> Pair | None:
    return (logits, labels.to(logits.dtype)) if labels.is_floating_point() and logits.shape == labels.shape else None


@dataclass(frozen=True)
class _Kind:
    """One way in which models make a loss of logits and labels: a criterion, of ``pair``."""

    pair: Callable[[torch.Tensor, torch.Tensor], Pair | None]
    loss: CriterionLoss

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> Terms | None:
        """Return the terms of this kind, ``None`` where the shapes do not fit it."""
        pair = self.pair(logits, labels)
        return None if pair is None else self.loss.terms(pair[0], [pair[1]])


CAUSAL = _Kind(_next_token, CriterionLoss(nn.CrossEntropyLoss()))
PLAIN = _Kind(_own_label, CriterionLoss(nn.CrossEntropyLoss()))
SQUARE = _Kind(_regression, CriterionLoss(nn.MSELoss()))
BINARY = _Kind(_bits, CriterionLoss(nn.BCEWithLogitsLoss()))
KINDS = (CAUSAL, PLAIN, SQUARE, BINARY)


class ModelLoss:
    """``model(**batch).loss``, weighted by its counted labels.

    Which criterion of logits and labels the model uses is found from the values of the first batch, and
    the numerator is then computed from the logits, in float32 at least.
    """

    name, reduction = "model", "mean"
    criterion = None

    def __init__(self) -> None:
        self._kind: _Kind | None = None  # once a batch has shown it

    def __call__(self, model: nn.Module, batch: Any) -> Terms:
        """Return the terms of one batch."""
        mean, loss, outputs, targets = self._forward(model, batch)
        terms = loss.terms(outputs, [targets])
        # where values can be looked at without waiting for a device, each batch's is
        seen = mean.device.type == "cpu" and not torch._C._are_functorch_transforms_active()
        if seen and mean.isfinite() and not _equal(mean, terms):
            raise _other(mean)
        return terms

    def split(self, model: nn.Module, batch: Any) -> Split:
        """Return the loss of one batch, cut at the logits that count, (tokens, classes) of a language model."""
        _, loss, outputs, targets = self._forward(model, batch)
        return Split([outputs], lambda values: loss.terms(values[0], [targets]), loss.criterion, targets)

    def _forward(self, model: nn.Module, batch: Any) -> tuple[torch.Tensor, CriterionLoss, torch.Tensor, torch.Tensor]:
        """Return the model's own loss, the criterion that it is, and outputs and targets as this takes them."""
        if not isinstance(batch, Mapping):
            raise InputError(
                "with the loss 'model', a batch must be a dictionary of what the model takes",
                got=f"a {type(batch).__name__}",
                fix="pass batches such as {'input_ids': ..., 'labels': ...}, or another loss",
            )
        if batch.get("labels") is None:
            raise _unknown("a batch without 'labels'")
        returned, labels = model(**batch), batch["labels"]
        loss, logits = _field(returned, "loss", 0), _field(returned, "logits", 1)
        if not isinstance(loss, torch.Tensor) or not isinstance(logits, torch.Tensor) or loss.numel() != 1:
            raise _unknown(f"a {type(returned).__name__} without a loss and logits")
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        kind = self._found(model, loss.detach(), logits, labels)
        pair = kind.pair(logits, labels)
        if pair is None:
            raise _unknown("logits and labels of other shapes than those of the batches before")
        return loss.detach(), kind.loss, *pair

    def _found(self, model: nn.Module, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> _Kind:
        """Return the kind whose value is ``loss``, or the one that an earlier batch has shown."""
        if self._kind is not None:
            return self._kind
        fits = [(kind, terms) for kind in KINDS if (terms := kind.terms(logits.detach(), labels)) is not None]
        if not fits:
            raise _unknown("logits and labels that fit no known loss")
        same = [kind for kind, terms in fits if _equal(loss, terms)]
        if not same:
            raise _other(loss)
        if not torch.isfinite(loss):  # nothing counted, or diverged: so do all of these say, and a later batch decides
            return same[0]
        kind = same[0] if len(same) == 1 else _likely(model, same)
        if kind is None:
            raise _unknown("one that two known functions of its logits and labels give")
        self._kind = kind
        return kind


def _equal(loss: torch.Tensor, terms: Terms) -> bool:
    tolerance = max(1e-5, 4 * torch.finfo(loss.dtype).eps)
    mean = terms.numerator.detach().double() / terms.weight
    if not loss.isfinite():
        return not mean.isfinite()
    return bool((mean - loss.double()).abs() <= tolerance * mean.abs().clamp(min=0.1))


def _likely(model: nn.Module, kinds: list[_Kind]) -> _Kind | None:
    """Return which of ``kinds`` the model's name says, for values that do not: all logits equal, for example."""
    name = f"{getattr(model, 'loss_type', '')} {type(model).__name__}"
    causal = re.search(r"CausalLM|LMHead", name) is not None
    other = re.search(r"MaskedLM|Classification|ConditionalGeneration", name) is not None
    named = CAUSAL if causal and not other else PLAIN if other and not causal else None
    return named if named in kinds else None


def _field(returned: Any, name: str, place: int) -> Any:
    if isinstance(returned, Mapping):
        return returned.get(name)
    if type(returned) is tuple and len(returned) > place:  # return_dict=False
        return returned[place]
    return getattr(returned, name, None)


def _other(loss: torch.Tensor) -> InputError:
    return _unknown(f"a loss of {float(loss):.6g} that is none of the known functions of its logits and labels")


def _unknown(got: str) -> InputError:
    return InputError(
        "what the mean of the model's own loss divides by cannot be found",
        got=got,
        why="unequal batches could not be averaged rightly",
        fix="pass a function (model, batch) -> (loss, weight), weight being for example the number of counted labels",
    )
