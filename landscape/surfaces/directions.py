"""Directions through parameter space: random, and the principal ones of a trajectory."""

from __future__ import annotations

import numpy as np
import torch

from landscape.errors import InputError
from landscape.objective import Objective
from landscape.seeds import check_seed, normal
from landscape.surfaces.basis import Directions
from landscape.surfaces.filters import normalization
from landscape.surfaces.trajectory import Trajectory


def random(objective: Objective, n: int = 2, *, normalize: str = "filter", seed: int = 0) -> Directions:
    """Return ``n`` Gaussian directions, rescaled to the parameters that they perturb.

    Parameters
    ----------
    objective : Objective
        Whose selected parameters, at the model's present point, set the scale.
    n : int
        How many directions.
    normalize : {"filter", "layer", "none"}
        ``"filter"``: each filter of a direction gets the norm of that filter of the parameters, so that a
        step of 1 is a relative change of 100 % whatever the scale of the weights; biases and normalisation
        parameters do not move. ``"layer"``: the same, tensor by tensor.
    seed : int
        Direction i is a function of (seed, i), on every device.

    References
    ----------
    H. Li et al., Visualizing the Loss Landscape of Neural Nets (2018), arXiv:1712.09913.
    """
    if n < 1:
        raise InputError("n must be at least 1", got=n, fix="pass 1 for a line or 2 for a plane")
    rescale, space = normalization(normalize), objective.space
    theta = space.unflatten(objective.vector())
    rows = []
    for i in range(n):
        drawn = normal(space.n, check_seed(seed), i, dtype=space.dtype, device=space.device)
        parts = [rescale(objective.model, name, d, theta[name]) for name, d in space.unflatten(drawn).items()]
        rows.append(space.flatten(parts))
    vectors = torch.stack(rows)
    if not vectors.any(dim=1).all():
        raise InputError(
            "the direction does not move anything",
            got=f"normalize={normalize!r} over {', '.join(space.names[:3])}",
            why="biases and normalisation parameters stay where they are",
            fix="select weights too, or pass normalize='none'",
        )
    kind = f"{normalize}-normalised " if normalize != "none" else ""
    labels = [f"{kind}random direction {i + 1}" for i in range(n)]
    return Directions(vectors, labels, {"method": "random", "normalize": normalize, "seed": seed})


def pca(trajectory: Trajectory, objective: Objective | None = None, *, n: int = 2) -> Directions:
    """Return the ``n`` principal directions of the displacements from the trajectory's last point.

    Parameters
    ----------
    trajectory : Trajectory
        At least ``n + 1`` snapshots.
    objective : Objective, optional
        Names the parameters; needed when the snapshots are state dictionaries.
    n : int
        How many directions; unit vectors at right angles.

    Notes
    -----
    Displacements are not centred, so the plane goes through the last point and the share it shows is the
    largest that any such plane can. A pure random walk shows about 90 % in its own plane: see
    ``Projection.random_walk_share``. Memory: the M snapshots and an M by M matrix, in float64 by parts.
    """
    vectors = trajectory.vectors(objective.space if objective is not None else None)
    if len(vectors) < n + 1:
        raise InputError(f"{n} principal directions need at least {n + 1} snapshots", got=len(vectors),
                         fix="record more, for example Monitor(..., snapshots=20)")  # fmt: skip
    moves = vectors - vectors[-1]
    gram = _gram(moves)
    values, mix = np.linalg.eigh(gram)
    values, mix = values[::-1][:n], mix[:, ::-1][:, :n]
    if values[-1] <= 1e-12 * max(values[0], 1e-300):
        raise InputError("the trajectory does not span that many directions", got=f"{n} asked for",
                         fix="record more snapshots, or ask for fewer directions")  # fmt: skip
    columns = torch.from_numpy((mix / np.sqrt(values)).T.copy()).to(moves)
    axes = columns @ moves
    axes = axes * torch.sign(axes @ moves[0])[:, None]  # the start lies on the positive side
    shares = values / np.trace(gram)
    labels = [f"principal direction {i + 1} ({share:.0%} of the motion)" for i, share in enumerate(shares)]
    if objective is not None:
        axes = axes.to(device=objective.device, dtype=objective.space.dtype)
    return Directions(axes, labels, {"method": "pca", "normalize": "unit", "shares": [float(s) for s in shares]})


def _gram(rows: torch.Tensor, chunk: int = 1 << 20) -> np.ndarray:
    parts = [(part.double() @ part.double().T) for part in rows.split(chunk, dim=1)]
    return torch.stack(parts).sum(0).cpu().numpy()
