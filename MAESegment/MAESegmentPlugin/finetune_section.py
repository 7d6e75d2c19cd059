"""Learning from the stored cases: what it would take, a run under way, and whether its result is to be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.curves import Colour
from MAESegmentLib.app.texts.cases import validation_count
from MAESegmentLib.app.texts.learning import banner_text, interrupted_text, plan_text
from MAESegmentLib.app.texts.messages import breakable, tooltip
from MAESegmentLib.errors import MAESegmentError
from MAESegmentLib.runs import RunResult, RunState, RunStatus

from .ask_bar import Answer, AskBar
from .qt_connection import connect
from .run_live import RunLive
from .run_outcome import OutcomeTable

#: The run that a person wants to see, first of all.
_ORDER = (RunState.RUNNING, RunState.WAITING, RunState.DONE, RunState.INTERRUPTED, RunState.FAILED)


class FineTuneSection:
    """`place` is the section Improve. One run is shown at a time; others follow when that is dealt with."""

    def __init__(self, ui: Any, logic: Any, place: Any) -> None:
        self._ui = ui
        self._logic = logic
        self._place = place
        self.job: Any = None
        self._estimate: Any = None
        self._estimate_job: Any = None
        self._estimate_of: tuple[Any, ...] = ()
        self._told_done = ""
        self._banner = AskBar(ui, "bannerAsk")
        self._live = RunLive(ui, self._do)
        self._outcome = OutcomeTable(ui)
        connect(ui.estimateButton, "clicked()", self._on_estimate)
        connect(ui.fineTuneButton, "clicked()", self._on_start)

    @property
    def is_running(self) -> bool:
        return self.job is not None and self.job.status.state in (RunState.RUNNING, RunState.WAITING)

    @property
    def summary(self) -> str:
        """For the header of the section, which may be closed: where the run stands, "" if there is none."""
        if self.job is None:
            return ""
        status = self.job.status
        if self.is_running:
            return _("fine-tuning, {percent} %").format(percent=round(100 * status.fraction))
        return _("fine-tuning is finished") if status.state is RunState.DONE else _("fine-tuning was interrupted")

    def look_for_runs(self) -> None:
        """Those of an earlier Slicer, too."""
        if self.job is not None:
            return
        jobs = [job for job in self._logic.fineTuneRuns() if job.status.state in _ORDER]
        if jobs:
            self._follow(min(jobs, key=lambda job: _ORDER.index(job.status.state)))

    def update(self, *, reason: str) -> None:
        """`reason` says why nothing can be learned now, beside what is missing here."""
        place, ui = self._place, self._ui
        if self.job is not None and self._live.is_lost:
            self._live.show(self.job, self.job.status, self.job.curves, self._colours())
        self._forget_old_estimate()
        ui.planLabel.text = breakable(plan_text(place.records, place.bundle, self._estimate))
        nothing = reason or self._missing()
        is_measuring = self._estimate_job is not None
        ui.fineTuneButton.enabled = not nothing
        ui.fineTuneButton.toolTip = tooltip(
            nothing
            or _(
                "Train a new version of the model on the cases. It runs aside at low priority; the model that you "
                "have is not changed, and you decide afterwards which one to use."
            )
        )
        ui.estimateButton.enabled = not nothing and not is_measuring
        ui.estimateButton.text = _("Measuring...") if is_measuring else _("Estimate time")
        ui.estimateButton.toolTip = tooltip(
            nothing or _("Try a few steps on this computer, to say how long it takes and how much memory it needs.")
        )

    def scene_start_close(self) -> None:
        self._live.scene_start_close()

    def cleanup(self) -> None:
        """The run goes on; its nodes leave the scene."""
        self.job = None
        self._live.scene_start_close()

    # Before -----------------------------------------------------------------------------------------------------------

    def _missing(self) -> str:
        place = self._place
        if place.bundle is None:
            return _("Choose a model.")
        if self.is_running:
            return _("A fine-tuning is running.")
        if self.job is not None:
            return _("Decide first what becomes of the last fine-tuning.")
        if not place.records:
            return _("Add a corrected case first.")
        if validation_count(place.records) == len(place.records):
            return _("All cases are validation cases: let the model learn from at least one.")
        return ""

    def _forget_old_estimate(self) -> None:
        """It was measured for these cases and this model only."""
        place = self._place
        of = (place.device, place.bundle and place.bundle.content_hash, *((r.id, r.role) for r in place.records))
        if of != self._estimate_of:
            self._estimate_of, self._estimate = of, None
            if self._estimate_job is not None:
                job, self._estimate_job = self._estimate_job, None
                job.cancel()

    def _on_estimate(self) -> None:
        try:
            job = self._logic.estimateFineTune(self._place.bundle, device=self._place.device)
        except MAESegmentError as error:
            self._place.failed(error)
            return
        self._estimate_job = job
        job.add_listener(self._on_measured)
        self._place.update()

    def _on_measured(self, job: Any) -> None:
        if job is not self._estimate_job or not job.is_finished:
            return
        self._estimate_job = None
        if job.error is not None:
            self._place.failed(job.error)
        else:
            self._estimate = job.result()
        self._place.update()

    def _on_start(self) -> None:
        place = self._place
        if self._estimate_job is not None:
            job, self._estimate_job = self._estimate_job, None
            job.cancel()
        try:
            job = self._logic.fineTune(baseModel=place.bundle, device=place.device, wait=False)
        except MAESegmentError as error:
            place.failed(error)
        else:
            self._follow(job)
        place.update()

    # Under way and after ----------------------------------------------------------------------------------------------

    def _follow(self, job: Any) -> None:
        self.job = job
        job.add_listener(self._on_run)
        self._on_run(job)

    def _on_run(self, job: Any) -> None:
        if job is not self.job:
            return
        status = job.status
        if status.state is RunState.DISCARDED:
            self._leave(_("Discarded. Your models are as they were."))
            return
        if status.state is RunState.DONE and job.answer:
            self._on_answer(job.answer, status.result)
            return
        self._live.show(job, status, job.curves, self._colours())
        self._outcome.show(status.result)
        if status.state is RunState.DONE:
            self._show_banner(job, status.result)
        elif status.state in (RunState.INTERRUPTED, RunState.FAILED):
            self._show_interrupted(job, status)
        else:
            self._banner.clear()
        self._place.update()

    def _show_banner(self, job: Any, result: RunResult) -> None:
        """The answer that speaks for itself comes first."""
        new, old = f"{result.model['version']}", f"{result.parent.get('version', '?')}"
        use = Answer(
            _("Use it"), lambda: self._do(job.accept), _("Segment with version {v} from now on.").format(v=new)
        )
        keep = Answer(
            _("Keep the old one"),
            lambda: self._do(job.decline),
            _("Go on with version {v}; the new one stays in the list of versions.").format(v=old),
        )
        compare = Answer(
            _("Compare"),
            lambda: self._compare(job, result),
            _("Segment the chosen volume with both versions, and show where they differ."),
        )
        best = (keep, use) if result.is_better is False else (use, keep)
        self._banner.show(banner_text(result), *best, compare)
        if self._told_done != job.run.id:
            self._told_done = job.run.id
            self._place.models_changed()

    def _show_interrupted(self, job: Any, status: RunStatus) -> None:
        self._banner.show(
            interrupted_text(status),
            Answer(_("Resume"), lambda: self._do(job.resume), _("From where it was.")),
            Answer(_("Discard"), lambda: self._do(job.discard), _("Forget what it has learned.")),
        )

    def _on_answer(self, answer: str, result: RunResult) -> None:
        """Of the buttons, or of a script."""
        if answer == "accepted":
            name, version = result.model["name"], result.model["version"]
            self._place.use_model(f"{name}@{version}")
            text = _("{name} {version} is used from now on.")
        else:
            name, version = result.parent.get("name", "?"), result.parent.get("version", "?")
            text = _("{name} {version} stays in use.")
        self._leave(text.format(name=name, version=version))

    def _compare(self, job: Any, result: RunResult) -> None:
        names = [f"{one['name']}@{one['version']}" for one in (result.parent, result.model)]
        self._place.compare(*names)
        self._show_banner(job, result)

    def _do(self, act: Callable[[], Any]) -> None:
        """What cannot be done is said, and the question stays. That it is done is heard from the run itself."""
        try:
            act()
        except (MAESegmentError, OSError) as error:
            self._place.failed(error)
            if self.job is not None:
                self._on_run(self.job)

    def _leave(self, text: str) -> None:
        """This run is dealt with."""
        self.job = None
        self._live.clear()
        self._outcome.show(None)
        self._banner.clear()
        self._place.say(text)
        self.look_for_runs()
        self._place.refresh()

    def _colours(self) -> Mapping[str, Colour]:
        """Of the model's labels and of those that the cases brought along."""
        labels = [*(self._place.bundle.labels if self._place.bundle is not None else ()), *self._place.labels]
        return {label.name: label.colour for label in reversed(labels)}
