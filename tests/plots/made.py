"""Results with synthetic numbers, one of every kind, through the constructors that computations use."""

from __future__ import annotations

import numpy as np

from landscape.results import (
    Checkup,
    DiagonalResult,
    EigenResult,
    Estimate,
    Family,
    GradientConflict,
    GradientStatistics,
    LayerCurvature,
    Projection,
    Recording,
    SpectralDensity,
    SubspaceResult,
    Surface,
    TraceResult,
)
from landscape.results.checkup import Row

ORIGIN = {
    "model": "Net",
    "operator": "Hessian",
    "mode": "eval",
    "dtype": "float32",
    "data": {"examples": 512, "batches": 4, "fingerprint": "9f31c0aa77d2"},
    "parameters": {"count": 1000, "selection": "all"},
    "seed": 0,
}


def eigenpairs(good=True):
    values = np.array([61.0, 8.1, 0.31, -2.2])
    converged = np.array([True, True, True, good])
    return EigenResult.make(
        values, np.abs(values) * 0.01, converged, np.eye(6, 4), which="LM", tol=1e-3, matvecs=40,
        status="converged" if good else "not converged", message="" if good else "raise max_matvecs", provenance=ORIGIN,
    )  # fmt: skip


def trace(probes=12):
    rng = np.random.default_rng(0)
    by = rng.normal(size=(probes, 15)) + np.arange(15)
    names = [f"layers.{i}.weight" for i in range(15)]
    stderr = float(by.sum(1).std(ddof=1)) / probes**0.5 if probes > 1 else float("nan")
    return TraceResult.make(
        np.zeros(15), by, names, stderr=stderr, dof=max(1, probes - 1), n=1000, rtol=0.1, method="hutchinson",
        matvecs=probes, status="converged", message="", provenance=ORIGIN,
    )  # fmt: skip


def diagonal():
    rng = np.random.default_rng(3)
    by = rng.normal(size=(12, 3)) + np.array([1.0, 5.0, 0.2])
    values = np.abs(rng.normal(size=30)) + 0.1
    return DiagonalResult.make(
        values, 0.1 * values + 0.02, ["a.weight", "a.bias", "b.weight"], [16, 20, 30], np.zeros(3), by, dof=11, n=30,
        rtol=0.1, method="hutchinson", matvecs=12, status="converged", message="", provenance=ORIGIN,
    )  # fmt: skip


def estimate(probes=12):
    running = 5 + np.cumsum(np.random.default_rng(4).normal(size=probes)) / np.arange(1, probes + 1)
    errors = 1 / np.arange(1, probes + 1) ** 0.5
    last = (float(running[-1]), float(errors[-1])) if probes else (5.0, 0.0)
    return Estimate.make(
        *last, running, errors, name="Frobenius norm", definition="|A| = sqrt(tr A²)", dof=max(1, probes - 1),
        positive=True, n=1000, rtol=0.1, method="deflated", matvecs=30, status="converged", message="",
        provenance=ORIGIN,
    )  # fmt: skip


def density(probes=4, steps=20, scale=1.0, **options):
    rng = np.random.default_rng(1)
    nodes = np.sort(np.concatenate([rng.normal(size=(probes, steps - 1)) * 0.3, np.full((probes, 1), 80.0)], 1), 1)
    weights = np.full((probes, steps), 0.999 / (steps - 1))
    weights[:, -1] = 0.001
    widths = np.full((probes, steps), 0.02)
    nodes[0, 0], weights[0, 0], widths[0, 0] = np.nan, 0.0, np.nan
    weights[0] /= weights[0].sum()
    return SpectralDensity.make(
        scale * nodes, weights, scale * widths, n=1000, matvecs=probes * steps, status="complete", message="",
        provenance=ORIGIN, **options,
    )  # fmt: skip


def family(of=eigenpairs, count=5, by="layer"):
    members = {f"blocks.{i}.attention.projection": of() for i in range(count)}
    return Family.make(members, by=by, provenance=ORIGIN)


def layers(count=5):
    rng = np.random.default_rng(4)
    members = {f"blocks.{i}.attention.projection": eigenpairs() for i in range(count)}
    exact = np.exp(-np.abs(np.subtract.outer(np.arange(count), np.arange(count))) - np.arange(count)[:, None])
    return LayerCurvature.of_blocks(
        members, eigenpairs(), rng.normal(size=(4, count, count)), rng.dirichlet(np.ones(count), 4), exact + exact.T,
        rng.uniform(size=(8, count, count)), by="layer", provenance=ORIGIN, matvecs=99, message="", interrupted=False,
    )  # fmt: skip


def plane(holes=True, scale=1.0, points=9, mode="eval"):
    x, y = np.linspace(-1, 1, points), np.linspace(-0.5, 0.5, points)
    loss = scale * (0.1 + 8 * x**2 + 20 * y[:, None] ** 2)
    accuracy = np.exp(-loss)
    evaluated = np.ones_like(loss, bool)
    if holes:
        loss[0, :3] = [np.nan, np.inf, np.nan]
        evaluated[-1] = False
        loss[-1] = accuracy[-1] = np.nan
    return Surface.make(
        {"loss": loss, "accuracy": accuracy}, [x, y], evaluated, centre={"loss": 0.1 * scale, "accuracy": 0.9},
        directions={"method": "random", "normalize": "filter", "labels": ["first direction", "second direction"]},
        status="interrupted" if holes else "complete", message="stopped by Ctrl-C" if holes else "",
        provenance=ORIGIN | {"mode": mode},
    )  # fmt: skip


def line(holes=True):
    x = np.linspace(-1, 1, 21)
    loss = 0.1 + 5 * x**2
    evaluated = np.ones(21, bool)
    if holes:
        loss[-2:], loss[0], evaluated[0] = np.nan, np.nan, False
    return Surface.make(
        {"loss": loss, "error": 1 - np.exp(-loss)}, [x], evaluated, centre={"loss": 0.1, "error": 0.1},
        directions={"labels": ["from a to b"]}, status="complete", message="", provenance=ORIGIN,
    )  # fmt: skip


def projection():
    t = np.linspace(0, 1, 12)
    points = np.stack([(1 - t) * np.cos(3 * t), (1 - t) * np.sin(3 * t)], 1) * 0.4
    whole = 1.2 * np.hypot(*points.T)
    return Projection.make(
        np.arange(12) * 10, points, whole, 0.5 * whole, labels=["PC 1", "PC 2"], random_walk=0.4, provenance=ORIGIN
    )


def gradients():
    estimates = {"coherence": 3.2, "alpha": 0.05, "noise_trace": 2.0, "noise_scale": 171.0}
    return GradientStatistics.make(
        estimates, {name: 0.1 * value for name, value in estimates.items()}, [0.5, 2.0, 30.0],
        ["a.weight", "b.weight", "c.weight"], examples=64, status="complete", message="", provenance=ORIGIN,
    )  # fmt: skip


def conflict():
    cosine = np.array([[1.0, -0.6, 0.2], [-0.6, 1.0, np.nan], [0.2, np.nan, 1.0]])
    z = np.array([[9.0, -3.0, 1.0], [-3.0, 9.0, 0.0], [1.0, 0.0, 9.0]])
    return GradientConflict.make(
        ["cats", "dogs", "birds"], np.nan_to_num(cosine), cosine, z, [1.0, 2.0, 3.0], [10, 10, 10], status="complete",
        message="", provenance=ORIGIN,
    )  # fmt: skip


def recording_lines(steps=400):
    rng = np.random.default_rng(2)
    lines = []
    for step in range(steps):
        loss = float("nan") if step == 77 else 2 * np.exp(-step / 100) + 0.1 * rng.uniform()
        values = {"loss": loss, "lr": 0.1, "gradient_norm": rng.uniform(0.1, 2), "update_ratio": 1e-3}
        lines.append({"step": step, "values": values})
        if step % 40 == 0:
            bad = step == 80
            sharp = {"sharpness": 10 + step / 40, "sharpness_residual": 0.1, "threshold": 20.0, "edge": 0.7}
            status = "not converged" if bad else "converged"
            lines.append({"step": step, "metric": "sharpness", "values": sharp, "status": status, "seconds": 0.1})
            coherence = {"gradient_coherence": 3.0, "gradient_coherence_stderr": 0.2}
            lines.append({"step": step, "metric": "gradient_coherence", "values": coherence, "status": "complete"})
            noise = {"noise_scale": 20.0 + step, "noise_scale_stderr": 30.0}
            lines.append({"step": step, "metric": "noise_scale", "values": noise, "status": "complete"})
            pairs = {
                "conflict_rate": 0.4,
                "conflict_significant_rate": 0.1,
                "conflict_cosine": [[1.0, -0.2], [-0.2, 1.0]],
            }
            lines.append({"step": step, "metric": "gradient_conflict", "values": pairs, "status": "complete"})
            lines.append({"step": step, "metric": "mine", "values": {"my_number": float(step)}, "status": "complete"})
    return lines


def recording(steps=310):
    labels = {"conflict_cosine": ["cats", "dogs"]}
    return Recording.from_lines({"status": "complete", "provenance": ORIGIN, "labels": labels}, recording_lines(steps))


def overlaps(count=4, k=3, pair=False):
    times = np.linspace(0, 0.7, count)
    angles = np.arange(1, k + 1) * (np.subtract.outer(times, times)[..., None] if not pair else 0.3)
    cosines, dims = np.cos(angles), () if pair else ("row", "column")
    names = [f"step {100 * i}" for i in range(count)]
    return SubspaceResult.make(
        {"overlap": (dims, (cosines**2).mean(-1)), "cosines": ((*dims, "angle"), cosines)},
        {"angle": np.arange(k)} if pair else {"angle": np.arange(k), "row": names, "column": names},
        n=1000, k=k, status="complete", message="", provenance=ORIGIN,
    )  # fmt: skip


def shares(count=2, k=5):
    cumulative = np.cumsum(np.random.default_rng(3).dirichlet(np.ones(k + 1), count)[:, :k], axis=1)
    return SubspaceResult.make(
        {"share": ("vector", cumulative[:, -1]), "cumulative": (("vector", "direction"), cumulative)},
        {"direction": np.arange(1, k + 1), "vector": [f"gradient {i}" for i in range(count)]},
        n=1000, k=k, status="complete", message="", provenance=ORIGIN,
    )  # fmt: skip


def checkup():
    rows = [
        Row("data", "pass", "512 examples in 4 batches; reading twice gives the same"),
        Row("modes", "warning", "eval mode: batch normalisation uses running statistics of a new layer", "train first"),
        Row(
            "differences",
            "fail",
            "products are off by 12.3% from central differences of the gradient, most in layers.3.weight, "
            "layers.3.bias; a second step confirms these to 2e-09, on 64 examples in float64",
            "a backward leaves out a part or is wrong: check custom functions with torch.autograd.gradcheck",
        ),
    ]
    return Checkup.make(rows, provenance=ORIGIN)


#: kind -> a result of it, made anew each time
EVERY = {
    "checkup": checkup,
    "conflict": conflict,
    "density": density,
    "diagonal": diagonal,
    "eigenpairs": eigenpairs,
    "estimate": estimate,
    "family": family,
    "gradients": gradients,
    "layers": layers,
    "projection": projection,
    "recording": recording,
    "subspace": overlaps,
    "surface": plane,
    "trace": trace,
}
