"""How large the demo is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Everything that decides the demo's numbers; printed in its report."""

    width: int = 12
    blocks: int = 7
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    record_every: int = 25
    snapshot_every: int = 20
    probe: int = 256
    examples: int = 512
    eigenvalues: int = 10
    probes: int = 6
    steps: int = 50
    points: int = 25
    seed: int = 0

    @classmethod
    def quick(cls) -> Settings:
        """Return the same demo, smaller."""
        return cls(
            width=8, blocks=4, epochs=10, record_every=25, snapshot_every=10, probe=128, examples=256, probes=4,
            steps=30, points=13,
        )  # fmt: skip
