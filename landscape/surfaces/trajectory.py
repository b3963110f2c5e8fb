"""Training trajectories: parameter snapshots, and what a plane shows and hides of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.objective import Objective
from landscape.progress import Bar
from landscape.results import Projection, Recording
from landscape.results.provenance import Cost, collect
from landscape.space import Space
from landscape.surfaces.basis import Directions
from landscape.surfaces.checkpoint import load_state


class Trajectory:
    """Snapshots of the parameters in the order of training.

    Parameters
    ----------
    steps : sequence of int
        The step of each snapshot.
    snapshots : sequence
        Flat vectors (n,), or dictionaries of tensors by parameter name.
    """

    def __init__(self, steps: Sequence[int], snapshots: Sequence[Any]) -> None:
        if len(steps) != len(snapshots) or not snapshots:
            raise InputError(
                "a trajectory needs one step for each of at least one snapshot",
                got=f"{len(steps)} steps and {len(snapshots)} snapshots",
                fix="pass equal numbers",
            )
        self.steps = [int(step) for step in steps]
        self._snapshots = list(snapshots)

    @classmethod
    def from_checkpoints(cls, paths: Sequence[str | Path]) -> Trajectory:
        """Read state dictionaries saved by ``torch.save``, in the order given.

        A file may hold the state dictionary itself or a dictionary with one under ``"state_dict"`` or
        ``"model"``. Weights only are loaded: no code in a file is run.
        """
        states = [load_state(path) for path in paths]
        return cls(range(len(states)), states)

    @classmethod
    def from_run(cls, run: Recording) -> Trajectory:
        """Take the snapshots that a monitor stored beside its log (``Monitor(..., snapshots=20)``)."""
        steps, vectors = run.snapshots()
        if not vectors:
            raise InputError("the run holds no snapshots", got="none", fix="record with Monitor(..., snapshots=20)")
        return cls(steps, [torch.from_numpy(v) for v in vectors])

    def __len__(self) -> int:
        return len(self.steps)

    def vectors(self, space: Space | None = None) -> torch.Tensor:
        """Return the snapshots as rows (M, n) on the host."""
        flat = []
        for snapshot in self._snapshots:
            if isinstance(snapshot, Mapping):
                if space is None:
                    raise InputError("snapshots by name need to know which parameters are meant",
                                     got="no objective", fix="pass the objective too")  # fmt: skip
                snapshot = space.flatten({name.removeprefix("module."): t for name, t in snapshot.items()})
            flat.append(torch.as_tensor(snapshot).detach().cpu())
        return torch.stack(flat)

    def project(self, directions: Directions, objective: Objective, *, loss: bool = True) -> Projection:
        """Project the snapshots onto the plane of ``directions`` through the model's present point.

        Coordinates are least squares, right for directions of any length and angle. With ``loss`` the
        objective is evaluated at each snapshot itself (one forward pass each, buffers as they are now),
        since the plane's loss at the projected point is another number.
        """
        plane = directions.vectors.detach().cpu().double()
        origin = objective.vector().cpu().double()
        moves = self.vectors(objective.space).double() - origin
        solution = torch.linalg.lstsq(plane.T, moves.T).solution
        off = (moves - solution.T @ plane).norm(dim=1)
        losses = None
        with Cost() as cost:
            if loss:
                losses = []
                with Bar("loss along the trajectory", total=len(self)) as bar:
                    for vector in self.vectors(objective.space):
                        losses.append(float(objective.value(at=vector)))
                        bar.advance()
        return Projection.make(
            self.steps,
            solution.T.numpy(),
            moves.norm(dim=1).numpy(),
            off.numpy(),
            loss=losses,
            labels=directions.labels,
            random_walk=random_walk_hidden_share(len(self), len(directions)),
            provenance=collect(cost, directions=directions.describe(), **objective.provenance()),
        )


def random_walk_hidden_share(snapshots: int, dimensions: int) -> float:
    """Return the share of a long random walk's motion that its own ``dimensions`` principal directions hide.

    Displacements from the end of a walk in many dimensions have the Gram matrix min(i, j), whose
    eigenvalues give the shares; about 0.1 for a plane (Antognini & Sohl-Dickstein 2018, arXiv:1806.08805,
    treat the centred case).
    """
    if snapshots < 2:
        return 0.0
    index = np.arange(1, snapshots)
    values = np.linalg.eigvalsh(np.minimum.outer(index, index).astype(float))[::-1]
    return float(values[dimensions:].sum() / values.sum())
