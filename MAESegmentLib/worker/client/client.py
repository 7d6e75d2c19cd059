"""The worker's client: one warm process, started on demand, restarted after a crash, and the jobs it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from itertools import count
from typing import Any

from ...errors import Cancelled, ConfigurationError, MAESegmentError, WorkerError, from_code
from ...processes.launch import Launch
from ..job import Job, JobProgress, JobState, call_safely
from ..protocol import Accepted, Cancel, Devices, Error, Message, Progress, Ready, Result, Started
from .stepping import Stepper, Steps
from .task import Finish, Task, expected_error, share
from .transport import Transport
from .worker_process import WorkerProcess

__all__ = ["Job", "JobProgress", "JobState", "WorkerClient", "WorkerState"]

#: How often a new worker is tried for the jobs of one that ended, without any job coming to an end.
MOST_RESTARTS = 2
#: How long one transport is waited for while another, with an event loop of its own, may have something to say.
_NAP_S = 0.005


class WorkerState(Enum):
    """STARTING until the worker said that it is ready; BUSY while there are unfinished jobs."""

    STOPPED = "stopped"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


class WorkerClient:
    """Give it jobs with `submit`. Everything happens on one thread, that of the transport's event loop.

    If a worker crashes, the job that was running fails and says why; queued jobs go to a new worker.
    """

    def __init__(
        self,
        transport_factory: Callable[[], Transport],
        launch: Callable[[], Launch],
        *,
        start_timeout_s: float = 120.0,
        answer_timeout_s: float = 15.0,
        grace_s: float = 5.0,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """`launch` is asked anew for every process. `log(level, text)` gets all that the worker says for people.

        A job that is cancelled has `grace_s` to stop before its process is killed.
        """
        self.last_exit = ""
        self.devices_known: tuple[Mapping[str, Any], ...] = ()
        self._new_transport = transport_factory
        self._launch = launch
        self._start_timeout_s = start_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._grace_s = grace_s
        self._log = log or (lambda _level, _text: None)
        self._process: WorkerProcess | None = None
        self._leaving: list[WorkerProcess] = []
        self._clock: Transport | None = None
        self._stepper = Stepper(self._call_later)
        self._tasks: dict[str, Task] = {}
        self._numbers = count(1)
        self._restarts = 0
        self._culprit: Task | None = None
        self._is_fresh = True
        self._told_state = WorkerState.STOPPED
        self._listeners: list[Callable[[WorkerClient], None]] = []

    # For callers ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        if self._process is None:
            return WorkerState.STOPPED
        if not self._process.is_ready:
            return WorkerState.STARTING
        return WorkerState.BUSY if any(not task.job.is_finished for task in self._tasks.values()) else WorkerState.IDLE

    @property
    def is_ended(self) -> bool:
        """Whether no process of this client lives any more; after `shutdown` that takes a moment."""
        return self._process is None and not self._still_leaving()

    def add_listener(self, callback: Callable[[WorkerClient], None]) -> None:
        """`callback(client)` after every change of `state`."""
        self._listeners.append(callback)

    def start(self) -> None:
        """Have a worker ready before the first job."""
        if self._process is None:
            self._restarts = 0
            self._start_process()
            self._advance()

    def submit(
        self,
        request: Message,
        *,
        prepare: Iterator[float] | None = None,
        finish: Finish | None = None,
        cleanup: Callable[[], None] | None = None,
    ) -> Job[Any]:
        """Send `request` once `prepare` is through; `finish` makes the job's result of the answer's data.

        `prepare` yields how far it is (0..1); `finish` may be a generator that returns the result. Both are done one
        step a turn of the event loop. `cleanup` is called once, when neither side needs the request any more.
        """
        try:
            line = request.encode()
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"The request cannot be sent: {error}.", "Give finite numbers only.") from None
        job_id = str(getattr(request, "id", ""))
        if not job_id or job_id in self._tasks:
            raise ValueError(f"job id {job_id!r} is empty or in use")
        self.start()
        task = Task(Job(job_id, self, self._log), line, finish, cleanup, is_prepared=prepare is None)
        self._tasks[job_id] = task
        if prepare is not None:
            task.job.update(JobState.PREPARING, JobProgress("send"))
            task.steps = self._step_through(task, prepare, lambda _: self._on_prepared(task), self._on_sending)
            self._stepper.add(task.steps)
        self._advance()
        return task.job

    def devices(self) -> Job[list[dict[str, Any]]]:
        """Ask what devices there are and how much memory is free on each."""
        return self.submit(Devices(self.new_id()), finish=lambda data: [dict(one) for one in data["devices"]])

    def new_id(self) -> str:
        """For a request; never given twice."""
        return f"job-{next(self._numbers)}"

    def pump(self, seconds: float) -> None:
        """Let events happen for at most this long; for callers that wait and have no event loop of their own."""
        clock = self._transport()
        current = self._process.transport if self._process is not None else clock
        others = {id(one): one for one in (clock, *(process.transport for process in self._still_leaving()))}
        others.pop(id(current), None)
        for other in others.values():
            other.pump(0.0)
        current.pump(min(seconds, _NAP_S) if others else seconds)

    def shutdown(self) -> None:
        """End the worker: its input is closed, and it is killed if it has not ended soon. Its jobs are cancelled.

        The next job, or `start`, starts a new one.
        """
        process, self._process = self._process, None
        if process is not None:
            self._leaving.append(process)
            process.retire(self._grace_s)
        for task in [*self._tasks.values()]:
            self._release(task, Cancelled("Cancelled: the worker was shut down."))
        self._advance()

    def wait_until_ended(self, timeout_s: float) -> bool:
        """After `shutdown`: let events happen until the process is gone."""
        end = time.monotonic() + timeout_s
        while not self.is_ended and time.monotonic() < end:
            self.pump(0.05)
        return self.is_ended

    def cancel_job(self, job_id: str) -> None:
        """As `Job.cancel`."""
        task = self._tasks.get(job_id)
        if task is None or task.job.is_finished or task.job.cancel_requested:
            return
        if task.is_sent and not task.is_answered and self._process is not None:
            self._process.send(Cancel(job_id).encode())
            if task.is_started:
                self._expect_end(task)
                task.job.note_cancel_request()
                return
            # It waits behind another: over for its owner now, for the client when the worker has dropped it.
            task.forget_timer()
            task.job.fail(Cancelled())
        else:
            self._release(task, Cancelled())
        self._advance()

    # From the worker --------------------------------------------------------------------------------------------------

    def on_ready(self, _process: WorkerProcess, ready: Ready) -> None:
        self.devices_known = tuple(dict(device) for device in ready.devices)
        for task in self._tasks.values():
            if task.is_sent:
                self._expect_answer(task)
        self._advance()

    def on_message(self, _process: WorkerProcess, message: Any) -> None:
        task = self._tasks.get(str(getattr(message, "id", "")))
        if task is None or not task.is_sent or task.is_answered:
            return
        task.is_accepted = True
        if isinstance(message, Accepted):
            return
        if isinstance(message, Started | Progress):
            self._on_progress(task, message)
        elif isinstance(message, Result):
            data = dict(message.data)
            self._on_answer(task)
            self._on_result(task, data)
        elif isinstance(message, Error):
            details = dict(message.details)
            self._on_answer(task)
            error = from_code(str(message.code), str(message.message), str(message.hint))
            self._release(task, Cancelled() if task.job.cancel_requested else error, details)
        self._advance()

    def on_end(self, process: WorkerProcess, error: MAESegmentError) -> None:
        if process is not self._process:
            return
        self._process = None
        self._leaving.append(process)
        culprit, self._culprit = self._culprit, None
        on_purpose = culprit is not None and (culprit.job.cancel_requested or culprit.job.is_finished)
        if on_purpose:
            self._log("warning", error.message)
        else:
            self.last_exit = error.message
            self._log("error", f"{error.message} {error.hint}".strip())
            self._restarts += 1
        for task in [*self._tasks.values()]:
            self._after_end(task, process, error, culprit)
        if self._process is None and any(task.needs_worker for task in self._tasks.values()):
            self._start_process()
        self._advance()

    # ------------------------------------------------------------------------------------------------------------------

    def _start_process(self) -> None:
        # The first process lives on the transport whose clock stays the client's.
        transport = self._transport() if self._is_fresh else self._new_transport()
        self._is_fresh = False
        self._process = WorkerProcess(transport, self, self._log, start_timeout_s=self._start_timeout_s)
        self._process.start(self._launch)

    def _transport(self) -> Transport:
        """The one whose clock is the client's, for all its life: a timer must not go with a process."""
        if self._clock is None:
            self._clock = self._new_transport()
        return self._clock

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self._transport().call_later(seconds, callback)

    def _still_leaving(self) -> list[WorkerProcess]:
        self._leaving = [process for process in self._leaving if not process.is_gone]
        return self._leaving

    def _advance(self) -> None:
        """Send what is prepared, and tell jobs and listeners where things stand."""
        position = 0
        for task in [*self._tasks.values()]:
            if task.job.is_finished:
                continue
            if task.is_ready_to_send and self._process is not None:
                task.is_sent = True
                self._process.send(task.line)
                if self._process.is_ready:
                    self._expect_answer(task)
            task.job.update(task.state, replace(task.job.progress, position=position))
            position += task.needs_worker
        if self.state is not self._told_state:
            self._told_state = self.state
            for listener in tuple(self._listeners):
                call_safely(listener, self, self._log)

    def _on_sending(self, task: Task, fraction: float) -> None:
        task.job.update(task.job.state, replace(task.job.progress, stage="send", fraction=share(fraction)))

    def _on_prepared(self, task: Task) -> None:
        task.steps = None
        task.is_prepared = True
        task.job.update(JobState.QUEUED, replace(task.job.progress, fraction=1.0))
        self._advance()

    def _on_progress(self, task: Task, message: Started | Progress) -> None:
        progress = task.job.progress
        if isinstance(message, Progress):
            eta = None if message.eta_s is None else max(0.0, float(message.eta_s))
            progress = JobProgress(str(message.stage), share(message.fraction), eta, progress.position)
        if not task.is_started:
            task.is_started = True
            if task.job.is_finished:
                self._expect_end(task)  # it was cancelled while it waited
        task.job.update(JobState.RUNNING, progress)

    def _on_answer(self, task: Task) -> None:
        task.forget_timer()
        task.is_answered = True
        self._restarts = 0

    def _on_result(self, task: Task, data: Mapping[str, Any]) -> None:
        if task.job.is_finished or task.job.cancel_requested:
            self._release(task, Cancelled())
            return

        task.steps = self._step_through(task, task.finishing(data), lambda value: self._on_finished(task, value))
        # The answer is waited for; a volume that is being sent for a later job is not.
        self._stepper.add(task.steps, urgent=True)

    def _on_finished(self, task: Task, value: Any) -> None:
        task.steps = None
        self._drop(task)
        task.job.finish(value)
        self._advance()

    def _step_through(
        self,
        task: Task,
        iterator: Iterator[Any],
        done: Callable[[Any], None],
        advanced: Callable[[Task, float], None] = lambda _task, _fraction: None,
    ) -> Steps:
        def failed(error: Exception) -> None:
            task.steps = None
            self._release(task, expected_error(error, self._log))
            self._advance()

        return Steps(iterator, lambda fraction: advanced(task, fraction), done, failed)

    def _expect_answer(self, task: Task) -> None:
        """Kill the process if it neither takes the request nor gives any other sign of life."""
        process = self._process
        if process is None or task.is_accepted:
            return
        heard = process.heard

        def look() -> None:
            if task.is_accepted or task.is_answered or process is not self._process:
                return
            if process.heard != heard:
                self._expect_answer(task)
                return
            error = WorkerError(
                f"The worker does not answer (for {self._answer_timeout_s:g} s) and was ended.",
                "Try again; if it happens again, send the log (Copy diagnostics).",
            )
            self._end_because_of(task, error)

        task.forget_timer()
        task.forget_timer = self._call_later(self._answer_timeout_s, look)

    def _expect_end(self, task: Task) -> None:
        """Kill the process if it is still at a cancelled job after the grace period."""
        process = self._process

        def look() -> None:
            if not task.is_answered and process is self._process:
                error = WorkerError(f"The worker did not stop within {self._grace_s:g} s and was ended.")
                self._end_because_of(task, error)

        task.forget_timer()
        task.forget_timer = self._call_later(self._grace_s, look)

    def _end_because_of(self, task: Task, error: WorkerError) -> None:
        if self._process is not None:
            self._culprit = task
            self._process.end_by_force(error)

    def _after_end(self, task: Task, process: WorkerProcess, error: MAESegmentError, culprit: Task | None) -> None:
        """What becomes of a task now that the worker is gone: it has its answer, failed, or goes to a new worker."""
        if task.is_answered:
            return
        if task.job.is_finished or task.job.cancel_requested:
            self._release(task, Cancelled())
        elif task.is_started or task is culprit or not process.is_ready or self._restarts > MOST_RESTARTS:
            self._release(task, error, {"log": process.last_lines})
        else:
            task.forget_process()

    def _release(self, task: Task, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> None:
        """End without a result."""
        if task.steps is not None:
            call_safely(lambda steps: steps.close(), task.steps, self._log)
            task.steps = None
        self._drop(task)
        task.job.fail(error, details)

    def _drop(self, task: Task) -> None:
        """Neither side needs the request any more."""
        task.forget_timer()
        self._tasks.pop(task.job.id, None)
        cleanup, task.cleanup, task.finish = task.cleanup, None, None
        if cleanup is not None:
            call_safely(lambda clean: clean(), cleanup, self._log)
