"""The architectures that people train, as small as they can be and still be themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

Tensor = torch.Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut without parameters (option A of He et al. 2016)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.second, self.norm2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.relu, self.stride, self.more = nn.ReLU(), stride, outer - inner

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm2(self.second(self.relu(self.norm1(self.first(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return self.relu(inside + shortcut)


class ResNet20(nn.Module):
    """The 20 layers for CIFAR: a stem, three stages of three blocks, and a head."""

    def __init__(self, outputs: int, widths: tuple[int, int, int] = (1, 1, 2)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks, inner = [], widths[0]
        for stage, outer in enumerate(widths):
            for i in range(3):
                blocks.append(BasicBlock(inner, outer, 2 if stage and not i else 1))
                inner = outer
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(inner, outputs)
        for module in self.modules():  # one channel has no other to lean on when its ReLU is off everywhere
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 0.7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    """A pre-norm transformer block on the fused attention kernel."""

    def __init__(self, width: int, heads: int = 2, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.qkv, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width + 1), nn.GELU(), nn.Linear(width + 1, width))

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (part.view(n, t, self.heads, d // self.heads).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, a class token, positions, one block."""

    def __init__(self, outputs: int, width: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 5, width))
        self.block, self.norm, self.head = Block(width), nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        return self.head(self.norm(self.block(tokens))[:, 0])


class GPT(nn.Module):
    """Tokens and positions through one causal block; scores at the last token, or (N, V, T) at all of them.

    Without ``outputs`` the head is the transposed embedding: a language model with tied weights.
    """

    def __init__(self, vocabulary: int, outputs: int | None = None, width: int = 4, length: int = 4) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.block, self.norm = Block(width, causal=True), nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs or vocabulary, bias=outputs is not None)
        self.last = outputs is not None
        if not self.last:
            self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        inside = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        scores = self.head(self.norm(self.block(inside)))
        return scores[:, -1] if self.last else scores.transpose(1, 2)


class Mixture(nn.Module):
    """A mixture of experts: each example goes to its best ones, which see only what was sent to them."""

    def __init__(self, outputs: int, width: int = 4, experts: int = 3, best: int = 2) -> None:
        super().__init__()
        self.router, self.head, self.best = nn.Linear(width, experts), nn.Linear(width, outputs), best
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        gates, chosen = self.router(x).softmax(1).topk(self.best, dim=1)
        mixed = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows, rank = torch.where(chosen == i)
            if len(rows):
                mixed = mixed.index_add(0, rows, gates[rows, rank, None] * expert(x[rows]))
        return self.head(x + mixed)


class LoRA(nn.Module):
    """A linear layer that stays as it was trained, and a trainable update of rank 2."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


def adapted(outputs: int) -> nn.Module:
    """Return a network that is frozen but for its adapters."""
    return nn.Sequential(LoRA(nn.Linear(4, 6)), nn.Tanh(), LoRA(nn.Linear(6, outputs)))


def normalised(outputs: int) -> nn.Module:
    """Return a network with a weight that is a length times a direction."""
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, outputs))


def dropped(outputs: int) -> nn.Module:
    """Return a network with dropout, which counts in train mode only."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, outputs))


class Applied(nn.Module):
    """Applies a function of torch's."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
