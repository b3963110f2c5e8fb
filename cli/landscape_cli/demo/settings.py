"""How large the demo is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Everything that decides the demo's numbers; printed in its report."""

    width: int = 12
    blocks: int = 6
    epochs: int = 20
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    record_every: int = 23
    snapshot_every: int = 15
    probe: int = 128
    examples: int = 256
    eigenvalues: int = 10
    trace_products: int = 64
    probes: int = 4
    steps: int = 40
    points: int = 25
    seed: int = 0

    @classmethod
    def quick(cls) -> Settings:
        """Return the same demo, smaller."""
        return cls(
            width=8, blocks=3, epochs=8, record_every=23, snapshot_every=8, probe=64, examples=128,
            trace_products=32, probes=3, steps=25, points=11,
        )  # fmt: skip
