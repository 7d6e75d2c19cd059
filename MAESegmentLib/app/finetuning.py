"""A fine-tuning as a user sees it: a run folder that is polled, whoever started it and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..bundle import Bundle, ModelStore, open_bundle
from ..cases.records import CaseRecord
from ..jobs import Job, JobProgress, JobState, Listeners
from ..jobs.runner import Operation
from ..runs import Curves, FineTuneRun, RunResult, RunState, RunStatus, start
from ..translation import tr as _
from .session import SceneSession

ACCEPTED, DECLINED = "accepted", "declined"


class FineTuneJob:
    """`run` is None until its cases are stored. `status` and `curves` are as of the last poll."""

    def __init__(
        self, session: SceneSession, models: ModelStore, callback: Callable[[FineTuneJob], None] | None = None
    ) -> None:
        self.run: FineTuneRun | None = None
        self.status = RunStatus(RunState.WAITING, text=_("Storing the cases ..."))
        self.curves = Curves()
        self._session = session
        self._models = models
        self._listeners: Listeners[FineTuneJob] = Listeners(callback)
        self._store: Callable[[], Job[None]] | None = None
        self._adding: Job[Any] | None = None
        self._decision = ""

    @classmethod
    def of_run(cls, session: SceneSession, models: ModelStore, run: FineTuneRun) -> FineTuneJob:
        """For a run that is there, of this Slicer or an earlier one."""
        job: FineTuneJob = session.watch.job_for(run, lambda: cls(session, models))
        if job.run is None:
            job.run = run
            job.poll()
            session.watch.add(run, job)
        return job

    @property
    def is_over(self) -> bool:
        """Whether polling again would show nothing new; an interrupted run may be resumed, by another Slicer too."""
        return self.status.is_finished

    @property
    def is_finished(self) -> bool:
        return self.status.is_finished or self.status.state is RunState.INTERRUPTED

    @property
    def decision(self) -> str:
        """ "accepted", "declined", or "" until the user has decided about the result."""
        return self.run.decision if self.run is not None else self._decision

    def add_listener(self, callback: Callable[[FineTuneJob], None]) -> Callable[[], None]:
        """`callback(job)` when something changed, at most once a second; what is returned removes it."""
        return self._listeners.add(callback)

    def begin(self, run: FineTuneRun) -> None:
        """Start the process of a new run."""
        if self.status.state is RunState.DISCARDED:
            run.remove()
            return
        self.run, self._adding = run, None
        self._launch(run)
        self._session.watch.add(run, self)
        self.poll()

    def begin_after(self, prepare: Callable[[], Operation[FineTuneRun]]) -> None:
        """Begin the run that `prepare` makes, once it has stored what is learned from; what fails can be resumed."""

        def operation() -> Operation[None]:
            self.begin((yield from prepare()))

        self._store = lambda: Job[None](self._session.loop).run(operation(), changed)

        def changed(adding: Job[None]) -> None:
            if adding.error is not None:
                state = RunState.DISCARDED if adding.state is JobState.CANCELLED else RunState.FAILED
                self._set(RunStatus(state, text=adding.error.message, error=adding.error))
            elif not adding.is_finished:
                self._set(RunStatus(RunState.WAITING, text=adding.stage or self.status.text))

        self._adding = self._store()

    def poll(self) -> None:
        """Read where the run stands, and notify if that is news."""
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
            self.poll()

    def discard(self) -> None:
        """End it and forget it."""
        if self._adding is not None:
            self._adding.cancel()
        if self.run is not None:
            self.run.discard()
            self.poll()
        elif self._adding is None or self._adding.is_finished:
            self._set(RunStatus(RunState.DISCARDED, text=_("Discarded.")))

    def resume(self) -> None:
        """Resume from the last checkpoint, or from the cases if one could not be stored."""
        if self.run is None and self._store is not None and self.status.state is RunState.FAILED:
            self._set(RunStatus(RunState.WAITING, text=_("Storing the cases ...")))
            self._adding = self._store()
        elif self.run is not None:
            self.run.resume(self._launch)
            self._session.watch.add(self.run, self)
            self.poll()

    def accept(self) -> Bundle:
        """Use the new version from now on: it is what the model's name means. Returns its bundle."""
        result = self.status.outcome()
        known = {bundle.content_hash: bundle for bundle in self._models.list()}
        bundle = known.get(str(result.model["hash"])) or open_bundle(result.path, verify=False)
        self._models.select(bundle)
        self._note(ACCEPTED)
        return bundle

    def decline(self) -> None:
        """Leave everything as it was, also if the new version was chosen already; it stays among the models."""
        result = self.status.result
        if result is not None and result.model["name"] == result.parent["name"]:
            known = {bundle.content_hash: bundle for bundle in self._models.list()}
            meant, parent = self._models.selected(str(result.model["name"])), known.get(str(result.parent["hash"]))
            if parent is not None and meant is not None and meant.content_hash == result.model["hash"]:
                self._models.select(parent)
        self._note(DECLINED)

    def result(self, timeout_s: float | None = None) -> RunResult:
        """What came of it, waited for while Slicer stays alive. Raises why nothing did, or `TimeoutError`."""
        if not self._session.loop.wait_until(lambda: self.is_finished, timeout_s):
            raise TimeoutError(f"The fine-tuning is not finished after {timeout_s:g} s.")
        return self.status.outcome()

    def _launch(self, run: FineTuneRun) -> None:
        start(run, self._session.interpreter(), self._session.environment())

    def _note(self, decision: str) -> None:
        self._decision = decision
        if self.run is not None and self.run.path.is_dir():
            self.run.set_decision(decision)
        self._listeners.notify(self)

    def _set(self, status: RunStatus, curves: Curves | None = None) -> None:
        is_news = _without_identity(status) != _without_identity(self.status)
        if is_news or (curves is not None and curves != self.curves):
            self.status, self.curves = status, curves if curves is not None else self.curves
            self._listeners.notify(self)


def _without_identity(status: RunStatus) -> tuple[RunStatus, str]:
    """Two errors are the same if they say the same."""
    return replace(status, error=None), str(status.error or "")


def store_cases(
    pairs: Sequence[tuple[Any, Any]], store_one: Callable[[Any, Any], CaseRecord | Job[CaseRecord]]
) -> Operation[list[CaseRecord]]:
    """Store pairs of scan and segmentation one after the other; the stage is a sentence that says which.

    `store_one(volume, segmentation)` returns the record of a case that is there, unchanged, or the job that stores it.
    """
    yield None
    records: dict[str, CaseRecord] = {}
    for number, pair in enumerate(pairs):
        text = _("Storing case {number} of {count} ...").format(number=number + 1, count=len(pairs))
        yield JobProgress(text, number / len(pairs))
        stored = store_one(*pair)
        record = (yield stored) if isinstance(stored, Job) else stored
        records[record.id] = record
    return [*records.values()]
