"""The networks that are timed, each with seeded random data: sizes at which a gradient takes tens of milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
Data = list[tuple[Tensor, Tensor]]


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.second, self.norm2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.shortcut = (
            nn.Identity()
            if inner == outer and stride == 1
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        )

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm2(self.second(functional.relu(self.norm1(self.first(x)))))
        return functional.relu(inside + self.shortcut(x))


def resnet(widths: tuple[int, ...] = (16, 32, 64), counts: tuple[int, ...] = (3, 3, 3), classes: int = 10) -> nn.Module:
    """Return residual blocks in groups, of which each but the first halves the image; 20 layers by default."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inner = widths[0]
    for outer, count in zip(widths, counts, strict=True):
        for i in range(count):
            layers.append(Residual(inner, outer, 2 if outer > widths[0] and i == 0 else 1))
            inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


class Block(nn.Module):
    """A pre-norm transformer block on the fused attention kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (part.view(n, t, self.heads, d // self.heads).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """A causal language model with scores (N, V, T), as torch's cross-entropy takes them."""

    def __init__(
        self, vocabulary: int = 512, length: int = 128, *, layers: int = 4, width: int = 128, tied: bool = False
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 64)) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        inside = self.tokens(x) + self.positions.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(inside))).transpose(1, 2)


def mlp() -> nn.Module:
    """Return two hidden layers of 512 on 32 x 32 pixels."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 10)
    )


def _images(size: int) -> Data:
    return [(torch.randn(size, 3, 32, 32), torch.randint(10, (size,))) for _ in range(2)]


def _tokens(size: int) -> Data:
    return [(torch.randint(512, (size, 128)), torch.randint(512, (size, 128))) for _ in range(2)]


#: name -> (a new model, two batches)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Data]]] = {
    "MLP": (mlp, lambda: _images(128)),
    "ResNet-20": (resnet, lambda: _images(32)),
    "GPT": (GPT, lambda: _tokens(4)),
}


def network(name: str) -> tuple[nn.Module, Data]:
    """Return a model in eval mode and its two batches; the same each time."""
    torch.manual_seed(0)
    make, data = NETWORKS[name]
    model = make().eval()
    return model, data()
