"""An objective in words: what its numbers are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landscape.objective.share import WHOLE

if TYPE_CHECKING:
    from landscape.objective.objective import Objective


def provenance(objective: Objective) -> dict[str, Any]:
    """Return loss, mode, precision, device, seed, parameters and data; options only where they are in use."""
    o = objective
    found: dict[str, Any] = {}
    found |= {"model": type(o.model).__name__, "loss": o.loss.name, "reduction": o.loss.reduction}
    if o.regularizer is not None:
        found["regularizer"] = o.regularizer.name
    found |= {"mode": o.mode, "seed": o.seed, "dtype": str(o.space.dtypes[0]).removeprefix("torch.")}
    if o.autocast is not None:
        found["autocast"] = str(o.autocast).removeprefix("torch.")
    found["device"] = str(o.device)
    count = sum(p.numel() for p in o.parameters.values())  # of all shards
    found["parameters"] = {"count": count, "tensors": len(o.space.names), "selection": o.selection}
    whole = o.batches if o.share is WHOLE else o.share
    found["data"] = {
        "examples": whole.examples,
        "batches": o.batches.count if o.share is WHOLE else o.share.batches,
        "fingerprint": whole.fingerprint,
        "cache": o.batches.place,
    }
    if o.ranks.group is not None:
        found["processes"] = o.ranks.count
    if o.pieces.size is not None:
        found["batches split to"] = o.pieces.size
    return found


def shown(objective: Objective) -> str:
    """Return the objective in one line."""
    o = objective
    regularizer = "" if o.regularizer is None else f" + {o.regularizer.name}"
    autocast = "" if o.autocast is None else f", autocast={o.autocast}"
    return (
        f"Objective({type(o.model).__name__}, {o.loss.name}{regularizer}, n={o.space.n} parameters "
        f"({o.selection}), mode={o.mode!r}, device={o.device}{autocast})"
    )
