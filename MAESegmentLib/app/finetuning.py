"""A fine-tuning as the module sees it: a run folder that is looked at, whoever started it and when."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..bundle import Bundle, ModelStore, open_bundle
from ..cases.records import CaseRecord
from ..errors import Cancelled, MAESegmentError, WorkerError
from ..runs import Curves, FineTuneRun, RunResult, RunState, RunStatus, start
from ..translation import tr as _
from ..worker.client.client import JobState
from .session import SceneSession
from .staged_job import StagedJob

ACCEPTED, DECLINED = "accepted", "declined"


class FineTuneJob:
    """`run` is None while its cases are being stored. `status` and `curves` are those of the last look."""

    def __init__(
        self, session: SceneSession, models: ModelStore, callback: Callable[[FineTuneJob], None] | None = None
    ) -> None:
        self.run: FineTuneRun | None = None
        self.status = RunStatus(RunState.WAITING, text=_("Storing the cases ..."))
        self.curves = Curves()
        self._session = session
        self._models = models
        self._listeners = [callback] if callback else []
        self._adding: StoreCases | None = None
        self._answer = ""

    @classmethod
    def of_run(cls, session: SceneSession, models: ModelStore, run: FineTuneRun) -> FineTuneJob:
        """For a run that is there, of this Slicer or an earlier one."""
        job: FineTuneJob = session.watch.job_of(run, lambda: cls(session, models))
        if job.run is None:
            job.run = run
            job.look()
            session.watch.add(run, job)
        return job

    @property
    def is_over(self) -> bool:
        """Whether looking again would show nothing new; an interrupted run may be resumed, by another Slicer too."""
        return self.status.is_finished

    @property
    def is_finished(self) -> bool:
        return self.status.is_finished or self.status.state is RunState.INTERRUPTED

    @property
    def answer(self) -> str:
        """ "accepted", "declined", or "" as long as nobody decided about the result."""
        return self.run.answer if self.run is not None else self._answer

    def add_listener(self, callback: Callable[[FineTuneJob], None]) -> None:
        """`callback(job)` when something changed, at most once a second."""
        self._listeners.append(callback)

    def begin(self, run: FineTuneRun) -> None:
        """Start the process of a new run."""
        if self.status.state is RunState.DISCARDED:
            run.remove()
            return
        self.run, self._adding = run, None
        self._launch(run)
        self._session.watch.add(run, self)
        self.look()

    def add_cases(self, adding: StoreCases) -> None:
        """For a run whose cases are stored first."""
        self._adding = adding

        def changed(_job: StagedJob[Any]) -> None:
            if adding.state in (JobState.FAILED, JobState.CANCELLED):
                state = RunState.DISCARDED if adding.state is JobState.CANCELLED else RunState.FAILED
                text = adding.error.message if adding.error is not None else ""
                self._set(RunStatus(state, text=text, error=adding.error))
            elif not adding.is_finished:
                self._set(RunStatus(RunState.WAITING, text=adding.text, fraction=0.0))

        adding.add_listener(changed)

    def fail(self, error: MAESegmentError) -> None:
        """It cannot begin."""
        self._set(RunStatus(RunState.FAILED, text=error.message, error=error))

    def look(self) -> None:
        """Read where the run stands, and tell if that is news."""
        if self.run is None:
            return
        if not self.run.path.is_dir():
            self._set(RunStatus(RunState.DISCARDED, text=_("Discarded.")))
            return
        self._set(self.run.status(), self.run.curves())

    def stopAndKeep(self) -> None:
        """End training soon; the best weights so far become a version."""
        if self.run is not None:
            self.run.stop_and_keep()
            self.look()

    def discard(self) -> None:
        """End it and forget it."""
        if self._adding is not None:
            self._adding.cancel()
        if self.run is not None:
            self.run.discard()
            self.look()

    def resume(self) -> None:
        """Go on from the last checkpoint, after an interruption or a failure."""
        if self.run is not None:
            self.run.resume(self._launch)
            self._session.watch.add(self.run, self)
            self.look()

    def accept(self) -> Bundle:
        """Use the new version from now on: it is what the model's name means. Answers its bundle."""
        result = self._result()
        known = {bundle.content_hash: bundle for bundle in self._models.list()}
        bundle = known.get(str(result.model["hash"])) or open_bundle(result.path, verify=False)
        self._models.select(bundle)
        self._note(ACCEPTED)
        return bundle

    def decline(self) -> None:
        """Leave everything as it was; the new version stays among the models."""
        self._note(DECLINED)

    def result(self, timeout_s: float | None = None) -> RunResult:
        """What came of it, waited for while Slicer stays alive. Raises why nothing did, or `TimeoutError`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_finished:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"The fine-tuning is not finished after {timeout_s:g} s.")
            self._session.pump(0.1)
        return self._result()

    def _result(self) -> RunResult:
        status = self.status
        if status.result is not None:
            return status.result
        if status.error is not None:
            raise status.error
        if status.state is RunState.DISCARDED:
            raise Cancelled(_("The fine-tuning was discarded."))
        if status.state is RunState.INTERRUPTED:
            raise WorkerError(_("The fine-tuning was interrupted."), _("Resume it: it goes on where it was."))
        raise WorkerError(_("The fine-tuning has no result yet."), _("Wait until it is finished."))

    def _launch(self, run: FineTuneRun) -> None:
        start(run, self._session.interpreter(), self._session.environment())

    def _note(self, answer: str) -> None:
        self._answer = answer
        if self.run is not None and self.run.path.is_dir():
            self.run.set_answer(answer)
        self._tell()

    def _set(self, status: RunStatus, curves: Curves | None = None) -> None:
        is_news = _without_identity(status) != _without_identity(self.status)
        if is_news or (curves is not None and curves != self.curves):
            self.status, self.curves = status, curves if curves is not None else self.curves
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(self)
            except Exception:
                logging.exception("MAESegment: a callback of the fine-tuning failed")


def _without_identity(status: RunStatus) -> tuple[RunStatus, str]:
    """Two errors are the same if they say the same."""
    return replace(status, error=None), str(status.error or "")


class StoreCases(StagedJob[list[CaseRecord]]):
    """Stores pairs of scan and segmentation one after the other; what is stored and unchanged is taken as it is."""

    def __init__(
        self, session: SceneSession, pairs: Sequence[tuple[Any, Any]], store_one: Callable[[Any, Any], CaseRecord | Any]
    ) -> None:
        """`store_one(volume, segmentation)` answers the record of a case that is there, or the job that stores it."""
        super().__init__(session)
        self._pairs = list(pairs)
        self._store_one = store_one
        self._records: dict[str, CaseRecord] = {}
        self._done = 0
        self._job: Any = None
        self._loop.call_later(0, lambda: self._guarded(self._next))

    @property
    def text(self) -> str:
        return _("Storing case {number} of {count} ...").format(
            number=min(self._done + 1, len(self._pairs)), count=len(self._pairs)
        )

    def _cancel_current(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _next(self) -> None:
        if self.cancel_requested:
            self._fail(Cancelled())
        elif self._done == len(self._pairs):
            self._finish([*self._records.values()])
        else:
            self._go_on(JobState.RUNNING, "store", self._done / len(self._pairs))
            stored = self._store_one(*self._pairs[self._done])
            if isinstance(stored, CaseRecord):
                self._take(stored)
            else:
                self._job = stored
                stored.add_listener(self._changed)

    def _changed(self, job: Any) -> None:
        if job is not self._job or not job.is_finished:
            return
        self._job = None
        if job.error is not None:
            self._fail(job.error, job.details)
        else:
            self._take(job.result())

    def _take(self, record: CaseRecord) -> None:
        self._done += 1
        self._records[record.id] = record
        self._loop.call_later(0, lambda: self._guarded(self._next))
