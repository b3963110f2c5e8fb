"""The demo's two networks: a small residual one with batch normalisation, and its twin without skips."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation; the input is added to their output if ``skip``."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(x + y if self.skip else y)


class Network(nn.Module):
    """A stem, ``blocks`` blocks, average pooling and a linear classifier."""

    def __init__(self, channels: int, classes: int, *, skip: bool, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, stride=stride, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*(Block(width, skip) for _ in range(blocks)))
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class scores."""
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        x = nn.functional.adaptive_avg_pool2d(x, 2)
        scores: torch.Tensor = self.head(x.flatten(1))
        return scores
