"""The one training loop. What is trained comes in as a `Task`; what differs between runs is values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ...device import autocast, resolve_device
from ...errors import Cancelled, ConfigurationError, TrainingError, explaining_memory
from ..data.patches import Batch
from ..run_context import UNATTENDED, Progress, RunContext
from ..settings import LoopSettings
from .checkpoint import load_checkpoint, save_checkpoint
from .distributed import seed_of
from .optimiser import MovingAverage
from .pace import Pace
from .runlog import RunLog
from .schedule import BySteps, Schedule


class Task(Protocol):
    """What the loop needs to know about what it trains."""

    model: nn.Module
    #: Equal for two runs on the same cases from the same start; part of the checkpoint's identity.
    identity: str

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For AdamW; each with its `lr_scale`."""

    def batches(self, first_step: int, device: torch.device) -> Iterator[Batch]:
        """The batch of each step from `first_step` on, or this process's parts of it; must depend on the step alone."""

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Tensor:
        """Scalar."""

    def validate(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Named results on held-out cases, `score` the one to maximise; empty where nothing is held out."""


@runtime_checkable
class DivisibleTask(Task, Protocol):
    """A task whose batches may be computed in parts, by one process or several."""

    def amounts(self, batch: Batch, step: int) -> Sequence[float]:
        """What each average in the loss of `batch` is taken over: masked voxels, samples, ..."""

    def loss(self, model: nn.Module, batch: Batch, step: int, of: Sequence[float] | None = None) -> Tensor:
        """Scalar. With the amounts `of` a whole batch, what this part adds to the loss of the whole."""


@runtime_checkable
class TaughtTask(Task, Protocol):
    """A task that may learn from the moving average of its own weights, and has something to keep in a checkpoint."""

    def begin(self, average: nn.Module, device: torch.device, planned: Callable[[int], int]) -> None:
        """Before the first step of this process, and before `load_state`; `average` changes with every step.

        `planned` says how many steps there will be in all, as far as is known after so many.
        """

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """What `state` returned at the step that is resumed from."""


@dataclass(frozen=True)
class Trained:
    """`weights` are float32 on the CPU: the moving average's where there is one. `score` is of the best validation.

    `stopped`: it ended before its last step, because it was asked to or did not improve any more. `is_best`: `weights`
    are those of `best_step`, chosen on the held-out cases.
    """

    weights: dict[str, Tensor]
    step: int
    best_step: int | None
    score: float | None
    seconds: float
    stopped: bool = False
    is_best: bool = False


def train(
    task: Task,
    settings: LoopSettings,
    folder: Path,
    context: RunContext = UNATTENDED,
    *,
    keep_best: bool = False,
    patience: int | None = None,
    schedule: Schedule | None = None,
) -> Trained:
    """Train `task` up to the end of its `schedule` (None: `settings.steps`), resuming from the checkpoint in `folder`.

    It ends early, with the best weights so far, once `context` asks to stop or `patience` validations were no better.

    A run by steps that was killed ends with the same weights as one that was not: patches, masks and dropout depend on
    the seed and the step alone, and everything else is in the checkpoint. (By time see `ByTime`.) All of a team call
    this alike and get the same result; the first process writes the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = resolve_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    schedule = schedule or BySteps(settings)
    # Whoever stops a run early wants the best; otherwise a second copy of the weights would be of no use.
    track_best = keep_best or patience is not None or (context.may_stop and not schedule.anneals)
    run = _Run(task, settings, folder, device, context, schedule, keep_best=keep_best, track_best=track_best)
    run.resume()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(RunLog(folder, resume_step=run.step)) if context.team.is_first else None
        pace = context.pace
        if pace is None:
            pace = Pace(settings.batch_size)
            pace.plan(schedule.work_left(0, context.windows))
        pace.skip(schedule.work_left(0, context.windows) - schedule.work_left(run.step, context.windows))
        pace.start_lap()

        def report(stage: str, metrics: Mapping[str, float]) -> None:
            steps = schedule.planned(run.step)
            context.report(Progress(stage, pace.fraction, pace.left_s, run.step, metrics=metrics, steps=steps))

        too_small = (
            f"The memory of {device} is too small to train on {len(settings.parts()[0])} patches at a time.",
            "Close other programs that use this device, choose another device, or make the micro-batch smaller.",
        )
        batches = stack.enter_context(contextlib.closing(task.batches(run.step, device)))  # type: ignore[type-var]
        while not schedule.is_over(run.step) and not run.stopped:
            with explaining_memory(*too_small):  # patches go to the device as they are asked for
                values = run.update(run.next_parts(batches))
            pace.lap(steps=1)
            run.stopped = context.all_reduce_stop() and (schedule.stop(run.step) or context.all_reduce_end())
            due = schedule.after(run.step, values["loss"], stopped=run.stopped)
            report("train", values)
            if log is not None and due.log:
                log.training(run.step, {**values, "seconds": run.seconds})
            if due.validate:
                report("validate", {})
                with explaining_memory(*too_small):  # of patches; whole cases say so themselves
                    results = run.validate()
                pace.lap(windows=context.windows)
                schedule.scored(results.get("score"), run.step)
                if results:
                    if log is not None:
                        log.validation(run.step, results)
                    report("validate", results)
            run.stopped = run.stopped or run.is_stale(patience)
            if due.save or run.stopped:
                run.save()
        pace.skip(schedule.work_left(run.step, context.windows))
    return run.result()


class _Run:
    """Everything a checkpoint holds, and the step that changes it."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        folder: Path,
        device: torch.device,
        context: RunContext,
        schedule: Schedule,
        *,
        keep_best: bool,
        track_best: bool,
    ) -> None:
        self.task, self.settings, self.folder, self.device = task, settings, folder, device
        self.context, self.team, self.schedule = context, context.team, schedule
        self.keep_best, self.track_best = keep_best, track_best
        self.model = task.model.to(device)
        self.average = MovingAverage(self.model, settings.ema_decay)
        self.taught = task if isinstance(task, TaughtTask) else None
        if self.taught is not None:
            self.taught.begin(self.average.model, device, schedule.planned)
        self.own_parts = len(self.team.own(settings.parts()))
        self.divisible = _divisible(task) if len(settings.parts()) > 1 else None
        self.optimiser = torch.optim.AdamW(
            task.parameter_groups(), lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        # fp16 has too little range for small gradients; bf16 and fp32 need no scaling.
        precision = autocast(device, settings.precision)
        scaled = isinstance(precision, torch.autocast) and precision.fast_dtype is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.fingerprint = f"{settings.fingerprint()}-{task.identity}"
        self.step = 0
        self.seconds = 0.0
        self.stopped = False
        self.best: dict[str, Any] = {"step": None, "score": None, "weights": None, "since": 0}
        if settings.compile:
            self.model.compile()

    def resume(self) -> None:
        state = load_checkpoint(self.folder, self.fingerprint)
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average.decay:
                self.average.model.load_state_dict(state["average"])
            if self.taught is not None:
                self.taught.load_state(state.get("task", {}))
            self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
            self.stopped = state.get("stopped", False)
            self.schedule.load(state.get("schedule", {}))
        self.team.check_same(self.step, f"the step to resume from in {self.folder}")
        self.network = self.team.data_parallel(self.model)

    def save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average.decay else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "stopped": self.stopped,
            "task": {} if self.taught is None else self.taught.state(),
            "schedule": self.schedule.state(),
        }
        self.team.first(lambda: save_checkpoint(self.folder, state))
        self.schedule.saved()

    def next_parts(self, batches: Iterator[Batch]) -> list[Batch]:
        """This process's parts of the next step; saves and raises `Cancelled` in all once one was cancelled."""
        cancelled, parts, failed = self.context.should_cancel(), [], None
        try:
            if not cancelled:
                parts = list(islice(batches, self.own_parts))
        except Exception as error:  # raised in all by `all_reduce_any`
            failed = error
        if self.team.all_reduce_any(cancelled, failed):
            self.save()
            raise Cancelled("Training was stopped.", "Start it again with the same output folder to resume.")
        return parts

    def update(self, parts: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step; a loss or gradient that is not finite stops the run before it can spoil the weights."""
        started = time.perf_counter()
        rate, average = self.schedule.before(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._accumulate_gradients(parts)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if not self.scaler.is_enabled():
            self._check(norm, "gradient", parts)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        self.average.update(self.model, average)
        self.seconds += time.perf_counter() - started
        return {"loss": loss, "learning_rate": rate, "gradient_norm": float(norm)}

    def _accumulate_gradients(self, parts: Sequence[Batch]) -> float:
        """Gradients of the loss of the whole step, all processes together, in every process; returns that loss."""
        of = None
        if self.divisible is not None:
            amounts = [self.divisible.amounts(batch, self.step) for batch in parts]
            of = self.team.all_reduce_sum([sum(column) for column in zip(*amounts, strict=True)])
        total, failed = 0.0, None
        try:
            for batch in parts[:-1]:
                with self._without_exchange():
                    loss = self._loss(batch, of)
                    self._backward(loss)
                total += float(loss.detach())
            loss = self._loss(parts[-1], of)
            total += float(loss.detach())
        except Exception as error:  # raised in all by `all_reduce_sum`, before any waits for this one's gradients
            failed = error
        (total,) = self.team.all_reduce_sum([total], failed)
        self._backward(loss)
        return total

    def _backward(self, loss: Tensor) -> None:
        # Processes exchange the mean of their gradients; the whole loss is the sum of theirs.
        self.scaler.scale(loss * self.team.size if self.team.size > 1 else loss).backward()

    def _loss(self, batch: Batch, of: Sequence[float] | None) -> Tensor:
        # Dropout of step n is the same whether or not the run was interrupted before it.
        torch.manual_seed(seed_of(self.settings, self.step, batch.part))
        with autocast(self.device, self.settings.precision):
            if self.divisible is None or of is None:
                loss = self.task.loss(self.network, batch, self.step)
            else:
                loss = self.divisible.loss(self.network, batch, self.step, of)
        self._check(loss.detach(), "loss", [batch])
        return loss

    def _without_exchange(self) -> contextlib.AbstractContextManager[object]:
        no_sync = getattr(self.network, "no_sync", None)
        return contextlib.nullcontext() if no_sync is None else no_sync()

    def validate(self) -> Mapping[str, float]:
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            results = self.task.validate(self.average.model.eval(), self.device)
        score = results.get("score")
        if score is not None and (self.best["score"] is None or score > self.best["score"]):
            weights = _on_cpu(self.average.model.state_dict()) if self.track_best else None
            self.best = {"step": self.step, "score": float(score), "weights": weights, "since": 0}
        elif score is not None:
            self.best["since"] = self.best.get("since", 0) + 1
        return results

    def is_stale(self, patience: int | None) -> bool:
        """Whether the last `patience` validations brought no better score."""
        return patience is not None and self.best.get("since", 0) >= patience

    def result(self) -> Trained:
        weights = self.best["weights"] if self.keep_best or self.stopped else None
        is_best = weights is not None
        if weights is None:
            weights = _on_cpu(self.average.model.state_dict())
        best = self.best
        stopped = self.stopped or self.schedule.asked
        return Trained(weights, self.step, best["step"], best["score"], self.seconds, stopped, is_best)

    def _check(self, value: Tensor, what: str, parts: Sequence[Batch]) -> None:
        if not bool(torch.isfinite(value)):
            cases = ", ".join(dict.fromkeys(name for batch in parts for name in batch.case_ids))
            raise TrainingError(
                f"The {what} of step {self.step + 1} is {float(value)}; its patches are of case {cases}.",
                "Check the grey values of these cases, or lower the learning rate. The last checkpoint is kept.",
            )


def _divisible(task: Task) -> DivisibleTask:
    if not isinstance(task, DivisibleTask):
        raise ConfigurationError(
            f"{type(task).__name__} computes the loss of a whole batch only.", "Leave micro_batch unset."
        )
    return task


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
