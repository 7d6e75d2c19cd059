"""The worker's client: one warm process, started on demand, restarted after a crash, and the jobs it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from itertools import count
from typing import Any

from ...errors import Cancelled, ConfigurationError, MAESegmentError, WorkerError, from_code
from ...jobs import EventLoop, Job, JobProgress, JobState, Listeners, Promise
from ...jobs.runner import Operation
from ...processes.launch import Launch
from ..protocol import Accepted, Cancel, Devices, Error, Message, Progress, Ready, Result, Started
from .exchange import Exchange
from .transport import Transport
from .worker_process import WorkerProcess

#: Makes a job's result of the data of the worker's answer; may be a generator that returns it.
Finish = Callable[[Mapping[str, Any]], Any]

#: How often a new worker is tried for the jobs of one that ended, without any job coming to an end.
MOST_RESTARTS = 2


class WorkerState(Enum):
    """STARTING until the worker is ready; BUSY while there are unfinished jobs."""

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
        loop: EventLoop,
        transport_factory: Callable[[], Transport],
        launch: Callable[[], Launch],
        *,
        start_timeout_s: float = 120.0,
        answer_timeout_s: float = 15.0,
        grace_s: float = 5.0,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """`launch` is called for every process, whose events `transport_factory` brings to `loop`. `log(level, text)`
        gets every line for users.

        A job that is cancelled has `grace_s` to stop before its process is killed.
        """
        self.loop = loop
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
        self._exchanges: dict[str, Exchange] = {}
        self._numbers = count(1)
        self._restarts = 0
        self._culprit: Exchange | None = None
        self._is_settling = False
        self._notified_state = WorkerState.STOPPED
        self._listeners: Listeners[WorkerClient] = Listeners()

    # For callers ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        if self._process is None:
            return WorkerState.STOPPED
        if not self._process.is_ready:
            return WorkerState.STARTING
        unfinished = any(not exchange.job.is_finished for exchange in self._exchanges.values())
        return WorkerState.BUSY if unfinished else WorkerState.IDLE

    @property
    def is_ended(self) -> bool:
        """Whether no process of this client lives any more; after `shutdown` that takes a moment."""
        return self._process is None and all(process.is_gone for process in self._leaving)

    def add_listener(self, callback: Callable[[WorkerClient], None]) -> Callable[[], None]:
        """`callback(client)` after every change of `state`; what is returned removes it."""
        return self._listeners.add(callback)

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
        job: Job[Any] | None = None,
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
        if not job_id or job_id in self._exchanges:
            raise ValueError(f"job id {job_id!r} is empty or in use")
        self.start()
        job = job or Job(self.loop)
        job.id = job_id
        exchange = Exchange(job, line, cleanup, is_prepared=prepare is None)
        exchange.answer = Promise(lambda: self._cancel(exchange))
        self._exchanges[job_id] = exchange
        if prepare is not None:
            job.update(JobState.PREPARING)
        job.run(
            self._carry_out(exchange, prepare, finish),
            cleanup=lambda: self._drop_unless_awaited(exchange),
            after=self._advance,
        )
        self._advance()
        return job

    def devices(self) -> Job[list[dict[str, Any]]]:
        """Ask what devices there are and how much memory is free on each."""
        return self.submit(Devices(self.new_id()), finish=lambda data: [dict(one) for one in data["devices"]])

    def new_id(self) -> str:
        """For a request; each time another."""
        return f"job-{next(self._numbers)}"

    def shutdown(self) -> None:
        """End the worker: its input is closed, and it is killed if it has not ended soon. Its jobs are cancelled.

        The next job, or `start`, starts a new one.
        """
        process, self._process = self._process, None
        if process is not None:
            self._leave(process)
            process.retire(self._grace_s)
        self._is_settling = True
        for exchange in [*self._exchanges.values()]:
            self._release(exchange, Cancelled("Cancelled: the worker was shut down."))
        self._is_settling = False
        self._advance()

    def wait_until_ended(self, timeout_s: float) -> bool:
        """After `shutdown`: process events until the process is gone."""
        return self.loop.wait_until(lambda: self.is_ended, timeout_s)

    # From the worker --------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Ready):
            self.devices_known = tuple(dict(device) for device in message.devices)
            for sent in [one for one in self._exchanges.values() if one.is_sent]:
                self._expect_answer(sent)
            self._advance()
            return
        exchange = self._exchanges.get(str(getattr(message, "id", "")))
        if exchange is None or not exchange.is_sent or exchange.is_answered:
            return
        exchange.is_accepted = True
        if isinstance(message, Accepted):
            return
        if isinstance(message, Started | Progress):
            self._on_progress(exchange, message)
        elif isinstance(message, Result):
            data = dict(message.data)
            self._on_answer(exchange)
            if exchange.job.is_finished:
                self._drop(exchange)
            exchange.answer.resolve(data)
        elif isinstance(message, Error):
            details = dict(message.details)
            self._on_answer(exchange)
            self._release(exchange, from_code(str(message.code), str(message.message), str(message.hint)), details)
        self._advance()

    def _on_end(self, process: WorkerProcess, error: MAESegmentError) -> None:
        if process is not self._process:
            return
        self._process = None
        self._leave(process)
        culprit, self._culprit = self._culprit, None
        on_purpose = culprit is not None and (culprit.job.cancel_requested or culprit.job.is_finished)
        if on_purpose:
            self._log("warning", error.message)
        else:
            self.last_exit = error.message
            self._log("error", f"{error.message} {error.hint}".strip())
            self._restarts += 1
        self._is_settling = True
        for exchange in [*self._exchanges.values()]:
            self._after_process(exchange, process, error, culprit)
        self._is_settling = False
        if self._process is None and any(exchange.needs_worker for exchange in self._exchanges.values()):
            self._start_process()
        self._advance()

    def _carry_out(self, exchange: Exchange, prepare: Iterator[float] | None, finish: Finish | None) -> Operation[Any]:
        job = exchange.job
        if prepare is not None:
            yield JobProgress("send")
            yield from prepare
            exchange.is_prepared = True
            job.update(JobState.QUEUED, replace(job.progress, fraction=1.0))
            self._advance()
        data = yield exchange.answer
        value = data if finish is None else finish(data)
        if isinstance(value, Generator):
            value = yield from _silently(value)
        return value

    def _start_process(self) -> None:
        self._process = WorkerProcess(
            self.loop,
            self._new_transport(),
            self._on_message,
            self._on_end,
            self._log,
            start_timeout_s=self._start_timeout_s,
        )
        self._process.start(self._launch)

    def _leave(self, process: WorkerProcess) -> None:
        self._leaving = [*(one for one in self._leaving if not one.is_gone), process]

    def _advance(self) -> None:
        """Send what is prepared, and notify jobs and listeners of where things stand."""
        if self._is_settling:
            return
        position = 0
        for exchange in [*self._exchanges.values()]:
            if exchange.job.is_finished:
                continue
            if exchange.is_prepared and not exchange.is_sent and self._process is not None:
                exchange.is_sent = True
                self._process.send(exchange.line)
                if self._process.is_ready:
                    self._expect_answer(exchange)
            exchange.job.update(exchange.state, replace(exchange.job.progress, position=position))
            position += exchange.needs_worker
        if self.state is not self._notified_state:
            self._notified_state = self.state
            self._listeners.notify(self)

    def _cancel(self, exchange: Exchange) -> None:
        """The job, which waits for the worker's answer, is cancelled."""
        if exchange.is_sent and not exchange.is_answered and self._process is not None:
            self._process.send(Cancel(exchange.job.id).encode())
            if exchange.is_started:
                self._expect_end(exchange)
                return
        # It waits behind another: over for its owner now, for the client when the worker has dropped it.
        exchange.cancel_timer()
        exchange.answer.resolve()

    def _on_progress(self, exchange: Exchange, message: Started | Progress) -> None:
        progress = exchange.job.progress
        if isinstance(message, Progress):
            eta = None if message.eta_s is None else max(0.0, float(message.eta_s))
            progress = JobProgress(str(message.stage), _share(message.fraction), eta, progress.position)
        if not exchange.is_started:
            exchange.is_started = True
            if exchange.job.is_finished:
                self._expect_end(exchange)  # it was cancelled while it waited
        exchange.job.update(JobState.RUNNING, progress)

    def _on_answer(self, exchange: Exchange) -> None:
        exchange.cancel_timer()
        exchange.is_answered = True
        self._restarts = 0

    def _expect_answer(self, exchange: Exchange) -> None:
        """Kill the process if it neither takes the request nor gives any other sign of life."""
        process = self._process
        if process is None or exchange.is_accepted:
            return
        heard = process.heard

        def check() -> None:
            if exchange.is_accepted or exchange.is_answered or process is not self._process:
                return
            if process.heard != heard:
                self._expect_answer(exchange)
                return
            error = WorkerError(
                f"The worker does not respond (for {self._answer_timeout_s:g} s) and was ended.",
                "Try again; if it happens again, send the log.",
            )
            self._end_because_of(exchange, error)

        exchange.cancel_timer()
        exchange.cancel_timer = self.loop.call_later(self._answer_timeout_s, check)

    def _expect_end(self, exchange: Exchange) -> None:
        """Kill the process if it still works on a cancelled job after the grace period."""
        process = self._process

        def check() -> None:
            if not exchange.is_answered and process is self._process:
                error = WorkerError(f"The worker did not stop within {self._grace_s:g} s and was ended.")
                self._end_because_of(exchange, error)

        exchange.cancel_timer()
        exchange.cancel_timer = self.loop.call_later(self._grace_s, check)

    def _end_because_of(self, exchange: Exchange, error: WorkerError) -> None:
        if self._process is not None:
            self._culprit = exchange
            self._process.end_by_force(error)

    def _after_process(
        self, exchange: Exchange, process: WorkerProcess, error: MAESegmentError, culprit: Exchange | None
    ) -> None:
        """The worker is gone: the exchange has its answer, fails, or goes to a new worker."""
        if exchange.is_answered:
            return
        job = exchange.job
        is_lost = exchange.is_started or exchange is culprit or not process.is_ready or self._restarts > MOST_RESTARTS
        if job.is_finished or job.cancel_requested or is_lost:
            self._release(exchange, error, {"log": process.last_lines})
        else:
            exchange.forget_process()

    def _release(self, exchange: Exchange, error: MAESegmentError, details: Mapping[str, Any] | None = None) -> None:
        """End without a result."""
        exchange.is_answered = True
        exchange.job.fail(error, details)
        self._drop(exchange)

    def _drop_unless_awaited(self, exchange: Exchange) -> None:
        """The job has ended; the worker may still read its files."""
        if not exchange.is_sent or exchange.is_answered or self._process is None:
            self._drop(exchange)

    def _drop(self, exchange: Exchange) -> None:
        """Neither side needs the request any more."""
        exchange.cancel_timer()
        self._exchanges.pop(exchange.job.id, None)
        cleanup, exchange.cleanup = exchange.cleanup, None
        if cleanup is not None:
            cleanup()


def _silently(steps: Generator[Any, Any, Any]) -> Operation[Any]:
    """`steps` without their progress: that of the worker stands."""
    try:
        while True:
            next(steps)
            yield None
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()


def _share(value: Any) -> float:
    """A number from another process as a share from 0 to 1."""
    number = float(value)
    return min(max(number, 0.0), 1.0) if math.isfinite(number) else 0.0
