"""Watching a training run without changing it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import optim

from landscape.errors import InputError
from landscape.monitor.metrics import Metric, Moment, as_metric
from landscape.monitor.schedule import intervals, is_due
from landscape.monitor.steps import Hook, StepRecorder
from landscape.monitor.values import LOOP, Names, arrays, number
from landscape.monitor.words import NO_LOSS, described, ending, labels, notes
from landscape.monitor.writer import Writer, last_step, rewind
from landscape.objective import Objective
from landscape.results import Recording, load
from landscape.results.provenance import collect
from landscape.results.runlog import MemoryLog, RunLog, read_log
from landscape.seeds import check_seed


class Monitor:
    """Record a training run: ``with ls.Monitor(objective, optimizer, ...): train()``.

    The monitor hooks ``optimizer.step``; the loop needs no other change, and ends bit-identical to one
    without it. At every step: loss, learning rate, gradient norm and update-to-weight ratio, without a host
    synchronisation a step. Every so many steps, before the first and after the last one: the ``metrics``.

    Parameters
    ----------
    objective : Objective
        What the metrics are measured on: a fixed probe set, in eval mode unless it says otherwise. If its loss
        is the criterion that the loop calls, the training loss is recorded; else call
        ``monitor.log(loss=loss)``.
    optimizer : torch.optim.Optimizer
        The one that trains the objective's model.
    metrics : sequence of str or metric
        Names from ``landscape.monitor.METRICS``, or metric objects with settings of their own.
    every : int or dict of str to int
        Steps between two records, for all metrics or by name.
    probe : int, optional
        Measure on a fixed random choice of that many examples of the objective's data.
    snapshots : int, optional
        Steps between two copies of the parameters, for trajectories.
    out : path, optional
        A folder to write to as training goes on; ``ls.load(out)`` opens it, also after a crash.
    resume : bool
        Go on with the run in ``out`` instead of refusing a folder that holds one.
    start : int, optional
        How many steps the model has been trained already: the number of the step that a checkpoint is of. With
        ``resume`` the last recorded step by default; what was recorded after an earlier one is dropped. Else 0.
    seed : int
        Seeds every random choice of the metrics; each record is a function of it and the step.

    Notes
    -----
    A metric that fails is recorded as failed, with one warning, and training goes on. So it does, unrecorded, when
    ``out`` can no longer be written. Copies of a watched criterion, and of models that hold it, are not watched.
    Memory: one copy of the optimizer's parameters, and what the metrics need while they run.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optim.Optimizer,
        *,
        metrics: Sequence[str | Metric] = ("sharpness", "gradient_coherence"),
        every: int | Mapping[str, int] = 50,
        probe: int | None = None,
        snapshots: int | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        start: int | None = None,
        seed: int = 0,
    ) -> None:
        self.metrics = [as_metric(m) for m in ([metrics] if isinstance(metrics, str) else metrics)]
        self._every = intervals(self.metrics, every)
        if snapshots is not None and snapshots < 1:
            raise InputError("snapshots must be at least 1 step apart", got=snapshots, fix="pass for example 20")
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in trained for p in objective.parameters.values()):
            raise InputError(
                "the optimizer trains none of the objective's parameters",
                got=f"{type(optimizer).__name__} over {len(trained)} others",
                why="the records would not be of this training",
                fix="pass the model that the optimizer trains",
            )
        if resume and out is None:
            raise InputError("resume needs the folder of the run", got="out=None", fix="pass out=")
        self.objective = objective if probe is None else objective.subsample(probe, seed=seed)
        self.optimizer = optimizer
        if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
            raise InputError("start must be a number of steps", got=start,
                             fix="pass the steps that the model has been trained")  # fmt: skip
        self.step = start or 0
        self._snapshots, self._out, self._resume, self._start = snapshots, out, resume, start
        self._seed = check_seed(seed)
        self._log: Writer | None = None
        self._names = Names(self.metrics)
        self._handles: list[Any] = []
        self._warned: set[str] = set()
        self._memory: dict[str, Any] = {}
        self._spent = 0.0
        self._busy = False
        self._loss_seen = False
        self._described = False

    # -- attaching --------------------------------------------------------------------------------

    def __enter__(self) -> Monitor:
        if self._log is not None:
            raise InputError("a monitor watches one run", got="one that was used before", fix="make a new Monitor")
        header = self._header()
        if self._out is None:
            self._log = Writer(MemoryLog(header))
        else:
            if self._resume:
                folder = Path(self._out)
                header |= {key: read_log(folder)[0].get(key, {}) for key in ("labels", "notes")}
                if self._start is None:
                    self.step = last_step(folder)
                else:
                    rewind(folder, self._start)
            self._log = Writer(RunLog(self._out, header, resume=self._resume))
        self._steps = StepRecorder(self.optimizer)
        self._began = time.perf_counter()
        criterion = self.objective.loss.criterion
        self._handles = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]
        if criterion is not None:
            self._handles.append(criterion.register_forward_hook(Hook(self._saw_loss)))
        try:
            if not (self._resume and self.step):
                self._record(first=True)
        except BaseException:
            self._detach()
            self._log.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._log is not None
        try:
            if kind is None and not self._lost:
                self._record(last=True)
            self._flush()
        finally:
            self._detach()
            wall = time.perf_counter() - self._began
            status, message = ending(kind, error, self.step)
            if self.step and not self._loss_seen:
                message += f"; {NO_LOSS}"
            self._log.write_header(
                status=status,
                message=message,
                labels=labels(self.metrics),
                seconds=round(wall, 3),
                monitor_seconds=round(self._spent, 3),
            )
            self._log.close()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._memory.clear()

    # -- hooks --------------------------------------------------------------------------------------

    def _saw_loss(self, module: Any, inputs: Any, output: Any) -> None:
        if not (self._busy or self._lost):
            self._steps.saw_loss(module, inputs, output)

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._lost:
            self._steps.before()

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.step += 1
        if not self._lost:
            self._steps.after(self.step)
            self._record()

    @property
    def _lost(self) -> bool:
        return self._log is not None and self._log.lost

    def log(self, **values: Any) -> None:
        """Record further numbers with the next step.

        Parameters
        ----------
        **values : float or tensor
            Tensors have one entry; they are kept without a synchronisation. ``loss`` counts instead of what the
            criterion returned.

        Raises
        ------
        InputError
            For text, for arrays, and for names that something else is recorded under.
        """
        if not self._handles:
            raise InputError("a monitor records inside its with block", got="log before or after it",
                             fix="call it in the training loop")  # fmt: skip
        numbers = {name: number(name, value) for name, value in values.items()}
        self._names.claim(numbers, LOOP)
        self._steps.log(numbers)

    # -- recording ----------------------------------------------------------------------------------

    def _record(self, *, first: bool = False, last: bool = False) -> None:
        """Measure what is due at the present step, and write what has been collected."""
        assert self._log is not None
        due = [m for m in self.metrics if is_due(self.step, self._every[m.name], first=first, last=last)]
        snapshot = self._snapshots is not None and is_due(self.step, self._snapshots, first=first, last=last)
        if not (due or snapshot or self._steps.due):
            return
        began = time.perf_counter()
        self._flush()
        if self._lost:
            return
        self._busy = True
        try:
            if snapshot:
                self._log.snapshot(self.step, self.objective.vector().cpu().numpy())
            moment = Moment(self.objective, self.optimizer, self.step, self._seed, self._memory)
            lines = [self._measured(metric, moment) for metric in due]
        finally:
            self._busy = False
        self._log.append(lines)
        if not self._described or any(name not in self._log.header.get("labels", {}) for name in labels(self.metrics)):
            self._described = True
            self._log.write_header(
                labels=labels(self.metrics), notes=notes(self.metrics), provenance=self._provenance()
            )
        self._spent += time.perf_counter() - began
        if any(line["status"].startswith("interrupted") for line in lines):
            raise KeyboardInterrupt  # the metric kept its partial result; the loop must hear of Ctrl-C too

    def _flush(self) -> None:
        """Write what the steps have collected since the last time."""
        assert self._log is not None
        lines = self._steps.flush()
        self._loss_seen = self._loss_seen or any("loss" in line["values"] for line in lines)
        self._log.append(lines)

    def _measured(self, metric: Metric, moment: Moment) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            returned, status = metric(moment)
            values, status = arrays(returned), str(status)
            self._names.claim(values, metric.name)
        except Exception as error:  # training must go on; the record and one warning say what happened
            values, status = {}, f"failed: {type(error).__name__}: {error}"
            if metric.name not in self._warned:
                self._warned.add(metric.name)
                warnings.warn(f"landscape: {metric.name} at step {moment.step} {status}", RuntimeWarning, stacklevel=2)
        seconds = round(time.perf_counter() - began, 4)
        return {"step": moment.step, "metric": metric.name, "values": values, "status": status, "seconds": seconds}

    def _provenance(self) -> dict[str, Any]:
        return collect(optimizer=described(self.optimizer), **self.objective.provenance())

    def _header(self) -> dict[str, Any]:
        return {
            "status": "interrupted",  # until the end says otherwise: what a killed run leaves is true
            "message": "the run has not ended, or its process was killed",
            "metrics": {m.name: self._every[m.name] for m in self.metrics},
            "snapshots": self._snapshots,
            "labels": {},
            "notes": {},
            "parameters": list(self.objective.space.names),
            "provenance": self._provenance(),
        }

    def result(self) -> Recording:
        """Return what has been recorded so far."""
        if self._log is None:
            raise InputError(
                "nothing has been recorded", got="a monitor that was not entered", fix="use it with `with`"
            )
        if isinstance(self._log.log, MemoryLog):
            return Recording.from_memory(self._log.log)
        found = load(self._log.log.folder)
        assert isinstance(found, Recording)
        return found
