"""The comparison with PyHessian, on a deep copy of the model: it changes what it works on."""

from __future__ import annotations

import copy
import warnings
from importlib.util import find_spec
from typing import Any

import torch

from landscape.curvature import Hessian
from landscape.diagnosis.checks.loss import unused_of
from landscape.diagnosis.finding import Finding, counted, failed, passed, share, warned, within
from landscape.diagnosis.subject import Subject
from landscape.objective.session import in_mode, math_attention_only, plain_passes
from landscape.seeds import preserved_rng

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # rounding is less
EXAMPLES = 16


def pyhessian(subject: Subject) -> Finding:
    """Compare products with those of the pyhessian package, where what it can do suffices."""
    if find_spec("pyhessian") is None:
        return warned("not compared: pyhessian is not installed", "pip install torch-landscape[peers]")
    reason = _beyond(subject)
    if reason:
        return passed(f"not compared: pyhessian cannot do {reason}")
    objective = subject.fine.over([_few(subject.batch)])
    with objective.session(grad=False):
        (batch,) = objective.batches
    vectors = torch.stack([subject.vector(objective, i) for i in range(2)], dim=1)
    op = subject.make(objective)
    ours = op @ vectors
    try:
        theirs, used = _theirs(objective, batch, vectors, set(unused_of(subject)))
    except Exception as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        return passed(f"not compared: pyhessian fails on a copy of the model ({words})")
    ours = ours * used[:, None]
    space = objective.space
    size = float(space.norm(theirs.reshape(-1)))
    off = float(space.norm((ours - theirs).reshape(-1))) / size if size else float(ours.any())
    where = f"on {counted(len(batch[0]), 'example')} in {str(objective.coarsest).removeprefix('torch.')}"
    if off <= max(TOLERANCE[objective.coarsest], op.bound):
        return passed(f"products equal pyhessian's {within(off)}, {where}")
    words = f"products differ from pyhessian's by {share(off)}, {where}"
    if op.backend == "difference" or (subject.differences.clear and subject.differences.agree):
        return warned(
            f"{words}; central differences of the gradient are with these products, and not with pyhessian's",
            "nothing to do here; do not compare with numbers of pyhessian for this model",
        )
    return failed(words, "read 'differences': where it fails too, a custom backward is wrong")


def _beyond(subject: Subject) -> str:
    """Return what of the objective pyhessian cannot do, if anything."""
    objective, batch = subject.objective, subject.batch
    op = subject.make(subject.fine)
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, torch.Tensor) for t in batch)
    beyond = {
        f"operators such as {type(op).__name__}": not isinstance(op, Hessian),
        "losses that are not a torch criterion": objective.loss.criterion is None or objective.loss.name == "model",
        "batches other than a pair of tensors": not pair,
        "train mode": objective.mode != "eval",
        "regularizers": objective.regularizer is not None,
        f"{objective.device.type} devices": objective.device.type not in ("cpu", "cuda"),
        f"models in {objective.coarsest}, which float64 cannot stand for": subject.fine.coarsest not in TOLERANCE,
    }
    return next((reason for reason, holds in beyond.items() if holds), "")


def _few(batch: Any) -> Any:
    return type(batch)(t[:EXAMPLES] for t in batch)


def _theirs(objective: Any, batch: Any, vectors: torch.Tensor, unused: set[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pyhessian's products (n, k), and which entries (n,) it can make: those of parameters that are used."""
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    space = objective.space
    names = [name for name in space.names if name not in unused]
    with preserved_rng(), torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that backward with create_graph makes a cycle, which is cut below
        model = copy.deepcopy(objective.model).to(device=objective.device, dtype=objective.coarsest)
        named = dict(model.named_parameters(remove_duplicate=False))
        model.zero_grad(set_to_none=True)
        for p in named.values():
            p.requires_grad_(False)
        chosen = {id(named[name].requires_grad_(True)): name for name in names}
        criterion = copy.deepcopy(objective.loss.criterion).to(device=objective.device, dtype=objective.coarsest)
        with math_attention_only, plain_passes, in_mode(model, train=False):
            theirs = hessian(model, criterion, data=tuple(batch), cuda=objective.device.type == "cuda")
            order = [chosen[id(p)] for p in theirs.params]
            products, used = torch.zeros_like(vectors), torch.zeros_like(vectors[:, 0])
            for column, v in zip(products.unbind(1), vectors.unbind(1), strict=True):
                parts = space.unflatten(v)
                rows = hessian_vector_product(theirs.gradsH, theirs.params, [parts[name] for name in order])
                for name, row in zip(order, rows, strict=True):
                    column[space.slices[name]] = row.detach().reshape(-1)
        for name in order:
            used[space.slices[name]] = 1
        model.zero_grad(set_to_none=True)
    return products, used
