"""The demo itself: a plain training loop with a monitor, then the questions one asks of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import landscape as ls
from landscape.monitor import GradientCoherence, GradientConflict, Metric, Sharpness
from landscape.progress import Bar
from landscape.results import Projection, Recording, Result, Surface
from landscape_cli.demo.data import Data
from landscape_cli.demo.networks import Network
from landscape_cli.demo.settings import Settings

NETWORKS = {"residual": True, "plain": False}


class Study:
    """Trains both networks and studies them; every result is saved as soon as it is there.

    ``finished`` lists (heading, result) in the order of the report. A result that Ctrl-C cut short is saved
    with its status, and then the interruption goes on to the caller.
    """

    def __init__(self, data: Data, settings: Settings, folder: Path) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.finished: list[tuple[str, Result]] = []
        self.surfaces: dict[str, Surface] = {}
        self.overlays: dict[str, Projection] = {}
        stride = max(1, min(data.train[0].shape[2:]) // 8)
        torch.manual_seed(settings.seed)
        self.models = {
            name: Network(
                data.channels, data.classes, skip=skip, width=settings.width, blocks=settings.blocks, stride=stride
            )
            for name, skip in NETWORKS.items()
        }
        self.criterion = nn.CrossEntropyLoss()

    def stages(self) -> Iterator[str]:
        """Do the work, one stage after another, yielding what has been done in words."""
        for name in NETWORKS:
            run = self._train(name)
            yield f"trained the {name} network: {self._scores(name)}; {_overhead(run)}"
        yield from self._spectra()
        for name in NETWORKS:
            yield self._surface(name)
        for name in NETWORKS:
            yield self._trajectory(name)

    # -- training -----------------------------------------------------------------------------------

    def _train(self, name: str) -> Recording:
        s, model = self.settings, self.models[name]
        images, labels = self.data.train
        optimizer = torch.optim.SGD(model.parameters(), lr=s.learning_rate, momentum=s.momentum)
        order = torch.Generator().manual_seed(s.seed)
        fixed = ls.Objective(model, self.criterion, self._part(s.probe))
        # what training descends has the batch's own statistics, so its sharpness is measured with them
        descended = ls.Objective(model, self.criterion, self._part(s.probe), mode="train")
        metrics: list[Metric] = [Sharpness(objective=descended), GradientCoherence(), GradientConflict()]
        steps = s.epochs * -(-len(labels) // s.batch)
        monitor = ls.Monitor(
            fixed,
            optimizer,
            metrics=metrics,
            every=max(1, min(s.record_every, steps // 4)),
            snapshots=max(1, min(s.snapshot_every, steps // 8)),
            out=self.folder / f"run-{name}",
        )
        model.train()
        try:
            with monitor, Bar(f"training the {name} network", total=steps) as bar:
                for _ in range(s.epochs):
                    for rows in torch.randperm(len(labels), generator=order).split(s.batch):
                        loss = self.criterion(model(images[rows]), labels[rows])
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                        bar.advance()
        finally:
            run = monitor.result()
            self.finished.append((f"Training the {name} network", run))
        model.eval()
        return run

    def _part(self, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first ``examples`` training examples as one batch; the data come shuffled."""
        return self.data.train[0][:examples], self.data.train[1][:examples]

    def _objective(self, name: str) -> ls.Objective:
        return ls.Objective(self.models[name], self.criterion, self._part(self.settings.examples))

    def _scores(self, name: str) -> str:
        objective = ls.Objective(self.models[name], self.criterion, self.data.test)
        return f"test accuracy {float(objective.evaluate(['accuracy'])['accuracy']):.1%}"

    # -- studying -----------------------------------------------------------------------------------

    def _spectra(self) -> Iterator[str]:
        """Ask each question of both networks, so that they stand side by side."""
        s = self.settings
        questions: list[tuple[str, str, Any, dict[str, Any]]] = [
            (f"{s.eigenvalues} largest eigenvalues", "eigenvalues-top", ls.eigsh, {"k": s.eigenvalues, "tol": 1e-3}),
            ("Smallest eigenvalues", "eigenvalues-bottom", ls.eigsh,
             {"k": 3, "which": "SA", "tol": 1e-2, "max_matvecs": 150}),
            ("Trace", "trace", ls.trace, {"products": s.trace_products}),
            ("Density of the eigenvalues", "density", ls.spectral_density, {"probes": s.probes, "steps": s.steps}),
        ]  # fmt: skip
        hessians = {name: partial(self._hessian, name) for name in NETWORKS}
        for heading, file, question, options in questions:
            found = ls.each(question, hessians, by="network", seed=s.seed, **options)
            self._keep(f"{heading} of both Hessians", file, found)
            said = "; ".join(f"{name} network, {text}" for name, text in found.summary().items())
            yield f"{heading[0].lower()}{heading[1:]}: {said}"

    def _hessian(self, name: str) -> ls.Hessian:
        return ls.Hessian(self._objective(name))

    def _surface(self, name: str) -> str:
        s, objective = self.settings, self._objective(name)
        directions = ls.directions.random(objective, n=2, normalize="filter", seed=s.seed)
        path = self.folder / f"surface-{name}.nc"
        result = ls.surface(objective, directions, points=s.points, metrics=("loss", "accuracy"), out=path)
        self.surfaces[name] = result
        _stop_if_interrupted(result)
        return f"surface of the {name} network: {result.message}"

    def _trajectory(self, name: str) -> str:
        s, objective = self.settings, self._objective(name)
        run = ls.load(self.folder / f"run-{name}")
        assert isinstance(run, Recording)
        trajectory = ls.Trajectory.from_run(run)
        plane = ls.directions.pca(trajectory, objective)
        projection = trajectory.project(plane, objective)
        self._keep(f"Training path of the {name} network", f"trajectory-{name}", projection)
        path = self.folder / f"trajectory-surface-{name}.nc"
        result = ls.surface(objective, plane, span=_around(projection), points=s.points, out=path)
        self.overlays[name] = projection
        self.finished.append((f"Loss around the training path, {name} network", result))
        _stop_if_interrupted(result)
        return f"path of the {name} network: its plane hides {projection.hidden_share:.1%} of the motion"

    def _keep(self, heading: str, file: str, result: Result) -> None:
        result.save(self.folder / f"{file}.nc")
        self.finished.append((heading, result))
        _stop_if_interrupted(result)

    def options(self, result: Result) -> dict[str, Any]:
        """Return what to draw beside ``result``: on the surface around a path, the path."""
        if not isinstance(result, Surface):
            return {}
        made = result.directions["fingerprint"]
        paths = [p for p in self.overlays.values() if p.provenance["directions"]["fingerprint"] == made]
        return {"trajectory": paths[0]} if paths else {}

    def described(self) -> str:
        """Return the settings in one line."""
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in asdict(self.settings).items())


def _around(projection: Projection, margin: float = 0.2) -> list[tuple[float, float]]:
    """Return spans that show the whole path with the same room on every side."""
    ends = [(min(axis.min(), 0.0), max(axis.max(), 0.0)) for axis in projection.dataset["coordinates"].to_numpy().T]
    room = margin * max(high - low for low, high in ends) or 1.0
    return [(float(low - room), float(high + room)) for low, high in ends]


def _overhead(run: Recording) -> str:
    share = run.header["monitor_seconds"] / run.header["seconds"]
    return f"{share:.0%} of the time went into watching"


def _stop_if_interrupted(result: Result) -> None:
    if result.status == "interrupted":
        raise KeyboardInterrupt
