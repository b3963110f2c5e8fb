"""The loss ``"model"``: what a Hugging Face model computes itself, on stand-ins and on the library."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import InputError
from landscape.gradients.per_example import per_example
from tests.harmless import harmless
from tests.objective.test_losses import rows
from tests.reference import close

N, T, V = 9, 5, 7
Tensor = torch.Tensor
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Output:
    """What a model returns, with the fields of the library's own class."""

    loss: Tensor | None
    logits: Tensor


def causal(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def masked(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def sequence(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, -1], labels)


def regression(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(logits[:, -1, :1].squeeze(), labels.squeeze())


def bits(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits[:, -1], labels)


class Model(nn.Module):
    """Embedding, a mixing layer and a head; the loss is a function of the logits, as the library's models have."""

    def __init__(self, loss: Loss, cut: Callable[[Tensor], Tensor] = lambda logits: logits, wrap: Any = Output) -> None:
        super().__init__()
        self.embedding, self.mix, self.head = nn.Embedding(V, 4), nn.Linear(4, 4), nn.Linear(4, V)
        self.loss, self.cut, self.wrap = loss, cut, wrap

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        logits = self.head(torch.tanh(self.mix(self.embedding(input_ids).cumsum(1))))
        loss = None if labels is None else self.loss(logits, labels)
        return self.wrap(loss, self.cut(logits))


class ToyForCausalLM(Model):
    """A name that says which loss it is."""


class ToyForMaskedLM(Model):
    """A name that says which loss it is."""


def last(logits: Tensor) -> Tensor:
    return logits[:, -1]


def first_of_last(logits: Tensor) -> Tensor:
    return logits[:, -1, :1]


def _tokens(g: torch.Generator) -> Tensor:
    tokens = torch.randint(0, V, (N, T), generator=g)
    labels = torch.where(torch.rand(N, T, generator=g) < 0.4, -100, tokens)
    labels[2] = -100  # an example, and with batches of one a batch, without a counted label
    return labels


#: name -> (loss of logits and labels, what the model returns of its logits, labels)
KINDS: dict[str, tuple[Loss, Callable[[Tensor], Tensor], Callable[[torch.Generator], Tensor]]] = {
    "causal": (causal, lambda logits: logits, _tokens),
    "masked": (masked, lambda logits: logits, _tokens),
    "classes": (sequence, last, lambda g: torch.randint(0, V, (N,), generator=g)),
    "regression": (regression, first_of_last, lambda g: torch.randn(N, generator=g)),
    "regression, column": (regression, first_of_last, lambda g: torch.randn(N, 1, generator=g)),
    "bits": (bits, last, lambda g: torch.randint(0, 2, (N, V), generator=g).float()),
}


def made(kind: str, dtype: torch.dtype = torch.float64, like: type[Model] = Model, wrap: Any = Output) -> Model:
    loss, cut, _ = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return like(loss, cut, wrap).to(dtype)


def drawn(kind: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    labels = KINDS[kind][2](g)
    return {
        "input_ids": torch.randint(0, V, (N, T), generator=g),
        "attention_mask": torch.ones(N, T),
        "labels": labels.to(dtype) if labels.is_floating_point() else labels,
    }


def cut(data: dict[str, Tensor], size: int, container: Any = dict) -> list[Any]:
    return [container({name: t[r] for name, t in data.items()}) for r in rows(N, size)]


@pytest.mark.parametrize("container", [dict, UserDict])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_pooled_loss_for_any_batches(kind: str, dtype: torch.dtype, tolerance: float, container: Any) -> None:
    wide, model, data = made(kind), made(kind, dtype), drawn(kind, dtype)
    expected = wide(**drawn(kind)).loss
    if data["labels"].is_floating_point() and dtype == torch.float32:
        expected = wide(**{**data, "labels": data["labels"].double()}).loss
    parts = torch.autograd.grad(expected, list(wide.parameters()))
    gradient = torch.cat([part.flatten() for part in parts])
    vector = torch.randn(len(gradient), generator=torch.Generator().manual_seed(1), dtype=dtype)
    products = []
    for size in (1, 7, N):
        objective = ls.Objective(model, "model", cut(data, size, container))
        value, found = objective.value_and_gradient()
        close(value, expected, tolerance)
        close(found, gradient, tolerance)
        products.append(ls.Hessian(objective) @ vector)
    for product in products[:-1]:
        close(product, products[-1], tolerance)


@pytest.mark.parametrize(
    "wrap", [lambda loss, logits: {"loss": loss, "logits": logits}, lambda loss, logits: (loss, logits)]
)
def test_other_containers(wrap: Any) -> None:
    data = drawn("causal")
    objective = ls.Objective(made("causal", wrap=wrap), "model", cut(data, 4))
    close(objective.value(), made("causal")(**data).loss, 1e-12)


@pytest.mark.parametrize("position", [None, 0])
def test_first_batch_without_a_counted_label(position: int | None) -> None:
    """The label at position 0 is one that a causal model does not count, and another would."""
    data = {name: torch.cat([t[2:3], t]) for name, t in drawn("causal").items()}
    if position is not None:
        data["labels"][0, position] = 1
    batches = [{name: t[r] for name, t in data.items()} for r in rows(N + 1, 1)]
    close(ls.Objective(made("causal"), "model", batches).value(), made("causal")(**data).loss, 1e-12)


@pytest.mark.parametrize(("like", "loss"), [(ToyForCausalLM, causal), (ToyForMaskedLM, masked)])
def test_the_name_decides_where_values_do_not(like: type[Model], loss: Loss) -> None:
    """All logits are equal at the start, so both cross-entropies are; away from it they differ."""
    model = like(loss).double()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    data = drawn("causal")
    objective = ls.Objective(model, "model", cut(data, 4))
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(model(**data).loss, list(model.parameters()))])
    close(objective.gradient(), gradient, 1e-12)


def test_bfloat16_is_computed_from_the_logits_in_float32() -> None:
    model, data = made("classes", torch.bfloat16), drawn("classes", torch.bfloat16)
    with torch.no_grad():
        logits = model(**data).logits.float()
    for size in (1, 7, N):
        value = ls.Objective(model, "model", cut(data, size)).value()
        close(value, functional.cross_entropy(logits, data["labels"]), 1e-6)


def test_token_accuracy() -> None:
    model, data = made("causal"), drawn("causal")
    found = ls.Objective(model, "model", cut(data, 4)).evaluate(("accuracy",))["accuracy"]
    with torch.no_grad():
        predicted = model(**data).logits[:, :-1].argmax(-1)
    counted = data["labels"][:, 1:] != -100
    assert float(found) == pytest.approx(float((predicted == data["labels"][:, 1:])[counted].double().mean()))


@pytest.mark.parametrize("method", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["causal", "classes", "bits"])
def test_gradients_of_single_examples(kind: str, method: str) -> None:
    objective = ls.Objective(made(kind), "model", cut(drawn(kind), 4))
    blocks = list(per_example(objective, method=method))
    total = sum((block.weights[:, None] * block.gradients).sum(0) for block in blocks)
    close(total / sum(block.weights.sum() for block in blocks), objective.gradient(), 1e-12)


def test_a_diverged_model_stays_nan() -> None:
    model = made("causal")
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    assert ls.Objective(model, "model", cut(drawn("causal"), 4)).value().isnan()


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=0.1)


def routed(logits: Tensor, labels: Tensor) -> Tensor:
    return causal(logits, labels) + 0.01 * logits.square().mean()


def changing(logits: Tensor, labels: Tensor) -> Tensor:
    return causal(logits, labels) if len(labels) == 4 else masked(logits, labels)


@pytest.mark.parametrize(
    ("loss", "change", "match"),
    [
        (smoothed, {}, r"cannot be found, got a loss of .* none of the known .*; pass a function \(model, batch\)"),
        (routed, {}, r"cannot be found, got a loss of .* none of the known functions"),
        (changing, {}, r"cannot be found, got a loss of .* none of the known functions"),
        (causal, {"labels": None}, r"got a batch without 'labels'"),
        (causal, {"wrap": lambda loss, logits: logits}, r"got a Tensor without a loss and logits"),
        (causal, {"cut": lambda logits: logits[:, :2]}, r"got logits and labels that fit no known loss"),
        (causal, {"zero": True}, r"got one that two known functions of its logits and labels give"),
    ],
)
def test_refused(loss: Loss, change: dict[str, Any], match: str) -> None:
    model = Model(loss, **{name: v for name, v in change.items() if name in ("wrap", "cut")}).double()
    if "zero" in change:
        model.head.weight.data.zero_()
        model.head.bias.data.zero_()
    data = drawn("causal")
    if "labels" in change:
        del data["labels"]
    with harmless(), pytest.raises(InputError, match=match):
        ls.Objective(model, "model", cut(data, 4)).value()


def test_batches_that_are_no_dictionaries() -> None:
    data = drawn("causal")
    with pytest.raises(InputError, match="must be a dictionary of what the model takes, got a tuple"):
        ls.Objective(made("causal"), "model", (data["input_ids"], data["labels"])).value()


# -- the library itself -------------------------------------------------------------------------------


def _library(name: str) -> tuple[Any, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    small = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "vocab_size": V,
    }
    make = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=V, n_positions=8)
        ),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**small)),
        "bert, classes": lambda: transformers.BertForSequenceClassification(
            transformers.BertConfig(num_labels=3, **small)
        ),
        "bert, regression": lambda: transformers.BertForSequenceClassification(
            transformers.BertConfig(num_labels=1, **small)
        ),
        "bert, bits": lambda: transformers.BertForSequenceClassification(
            transformers.BertConfig(num_labels=3, problem_type="multi_label_classification", **small)
        ),
        "bert, masked": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**small)),
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                num_layers=1, num_heads=2, d_model=8, d_ff=16, d_kv=4, vocab_size=V, decoder_start_token_id=0
            )
        ),
    }[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().eval()
    g = torch.Generator().manual_seed(0)
    labels = {
        "bert, classes": lambda: torch.randint(0, 3, (N,), generator=g),
        "bert, regression": lambda: torch.randn(N, generator=g),
        "bert, bits": lambda: torch.randint(0, 2, (N, 3), generator=g).float(),
    }.get(name, lambda: _tokens(g))()
    tokens = torch.randint(0, V, (N, T), generator=g)
    return model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "bert, classes", "bert, regression", "bert, bits", "bert, masked", "t5"]
)
def test_models_of_the_library(name: str) -> None:
    model, data = _library(name)
    transformers = pytest.importorskip("transformers")
    expected = model(**data).loss
    parts = torch.autograd.grad(expected, [p for p in model.parameters() if p.requires_grad], materialize_grads=True)
    gradient = torch.cat([part.flatten() for part in parts])
    for size in (1, 7, N):
        batches = cut(data, size, transformers.BatchEncoding)
        with harmless(model):
            value, found = ls.Objective(model, "model", batches).value_and_gradient()
            close(value, expected, 2e-6)
            close(found, gradient, 2e-6)
    wide = [ls.Objective(model, "model", cut(data, size), dtype=torch.float64).gradient() for size in (1, 7, N)]
    close(wide[0], wide[2], 1e-12)
    close(wide[1], wide[2], 1e-12)
