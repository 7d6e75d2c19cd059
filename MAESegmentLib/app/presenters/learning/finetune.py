"""Fine-tuning: what it would take, a run under way with its curves, and whether its result is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ....cases.records import CaseRecord
from ....images.labels import Label
from ....runs import RunResult, RunState, RunStatus
from ....translation import tr as _
from ...finetuning import ACCEPTED
from ...texts.learning import plan_text, validation_count
from ..elements import Control, attempt
from ..next_case import FOLDER, SCENE
from ..presenter import Host
from .finetune_state import UNDER_WAY, FineTuneState, RunView, view_of
from .training_choices import NO_MORE, ScansHost, TrainingChoices

#: The run that the user wants to see, first of all.
_ORDER = (RunState.RUNNING, RunState.WAITING, RunState.DONE, RunState.INTERRUPTED, RunState.FAILED)


class FineTuneHost(Host, ScansHost, Protocol):
    """What is done for fine-tuning; the chosen model is its base."""

    @property
    def records(self) -> Sequence[CaseRecord]:
        """The stored cases of the model."""

    @property
    def labels(self) -> Sequence[Label]:
        """Labels that the cases define beside the model's."""

    def note(self, text: str) -> None:
        """Show a quiet line."""

    def compare(self, first: str, second: str) -> None:
        """Two versions (name@version) on the chosen scan."""


@dataclass
class _Estimate:
    """Measured for these cases, this model and these settings only."""

    of: tuple[Any, ...] = ()
    job: Any = None
    value: Any = None


@dataclass
class FineTunePresenter:
    """Shows one run at a time; the next follows when that is dealt with. `changed` is called after every change."""

    #: Has `fineTune`, `fineTuneRuns` and `estimateFineTune`.
    logic: Any
    host: FineTuneHost
    changed: Callable[[], None]
    now: Callable[[], datetime] = datetime.now
    job: Any = field(default=None, init=False)
    choices: TrainingChoices = field(init=False)
    _estimate: _Estimate = field(default_factory=_Estimate, init=False)
    _announced: str = field(default="", init=False)
    _asks_discard: bool = field(default=False, init=False)
    _discarding: Any = field(default=None, init=False)
    _base_labels: tuple[str | None, Sequence[Label]] = field(default=("", ()), init=False)

    def __post_init__(self) -> None:
        self.choices = TrainingChoices(self.logic.session, self.host)

    # What is shown ----------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self.job is not None and self.job.status.state in UNDER_WAY

    def state(self, reason: str = "") -> FineTuneState:
        """`reason` says why nothing can be learned now, beside what is missing here."""
        self._forget_old_estimate()
        host = self.host
        reason = reason or self._missing()
        return FineTuneState(
            plan=plan_text(
                host.records, host.bundle, self._estimate.value, is_validated=self.choices.is_validated(host.records)
            ),
            choices=self.choices.state(host.records),
            start=Control.unless(
                reason,
                _("Fine-tune"),
                _(
                    "Train a new version of the model on the cases. It runs in the background at low priority; the "
                    "current model is not changed, and you decide afterwards which one to use."
                ),
            ),
            estimate=self._estimate_button(reason),
            run=self._run_view() if self.job is not None else None,
        )

    def _estimate_button(self, reason: str) -> Control:
        text, tip = _("Estimate steps"), _("Do a few steps on this computer to estimate how many fit into the time.")
        if self.choices.steps.strip():
            text, tip = _("Estimate time"), _("Do a few steps on this computer to estimate how long fine-tuning takes.")
        is_measuring = self._estimate.job is not None
        tip += " " + _("The memory that it needs is measured, too.")
        return Control(_("Measuring...") if is_measuring else text, reason or tip, not reason and not is_measuring)

    @property
    def summary(self) -> str:
        """Where the run stands, in a few words; "" if there is none."""
        if self.job is None:
            return ""
        status = self.job.status
        if self.is_running:
            return _("fine-tuning, {percent} %").format(percent=round(100 * status.fraction))
        if status.state is RunState.DONE:
            return _("fine-tuning finished")
        return _("fine-tuning failed") if status.state is RunState.FAILED else _("fine-tuning interrupted")

    def _missing(self) -> str:
        records = self.host.records
        if self.host.bundle is None:
            return _("Choose a model.")
        if self.is_running:
            return _("A fine-tuning is running.")
        if self.job is not None:
            return _("First decide what to do with the last fine-tuning.")
        if not records:
            return _("Add a corrected case first.")
        if validation_count(records) == len(records):
            return _("All cases are validation cases: use at least one for training.")
        return self.choices.missing()

    def _run_view(self) -> RunView:
        labels = [*self._labels_of_base(), *self.host.labels]
        colours = {label.name: label.colour for label in reversed(labels)}
        is_ending = self._discarding is self.job
        status, curves, asks = self.job.status, self.job.curves, self._asks_discard
        request = self.job.run.request if self.job.run is not None else None
        how: dict[str, Any] = {"title": self._title(), "asks": asks, "is_ending": is_ending, "request": request}
        return view_of(status, curves, colours, now=self.now(), **how)

    def _title(self) -> str:
        """Of which model the run is: one of an earlier session may be of another than the one that is chosen now."""
        bundle, run = self.host.bundle, self.job.run
        if run is None:
            return _("Fine-tuning")
        base, name = run.request.base, run.request.name
        title = _("Fine-tuning of {base}").format(base=_reference(base).replace("@", " "))
        if name not in ("", base.get("name")):
            title = _("{title}, to be called {name}").format(title=title, name=name)
        if bundle is not None and bundle.name not in (base.get("name"), name):
            title += " " + _("(not of {name}, which is chosen now)").format(name=bundle.name)
        return title

    def _labels_of_base(self) -> Sequence[Label]:
        """Of the model that the run began with, which need not be the chosen one."""
        base = self.job.run.request.base if self.job.run is not None else {}
        if self.host.bundle is not None and self.host.bundle.content_hash == base.get("hash"):
            return self.host.bundle.labels
        if self._base_labels[0] != base.get("hash"):
            found = [bundle for bundle in self.logic.models() if bundle.content_hash == base.get("hash")]
            found += [self.host.bundle] if self.host.bundle is not None else []
            self._base_labels = (base.get("hash"), found[0].labels if found else ())
        return self._base_labels[1]

    # Intents ----------------------------------------------------------------------------------------------------------

    def look_for_runs(self) -> None:
        """Show a run that is there, also one of an earlier session."""
        if self.job is not None:
            return
        jobs = [job for job in self.logic.fineTuneRuns() if job.status.state in _ORDER]
        if jobs:
            self._follow(min(jobs, key=lambda job: _ORDER.index(job.status.state)))

    def set_steps(self, steps: str) -> None:
        """As typed; "" for those that fit into the time. An estimate for another choice is forgotten."""
        if steps != self.choices.steps:
            self.choices.steps = steps
            self._choice_changed()

    def set_time(self, key: str) -> None:
        """The time that it may take: the key of one of `time_options`."""
        if self.choices.set_time(key):
            self._choice_changed()

    def set_validates(self, validates: bool) -> None:
        """Whether the accuracy is estimated by leave-one-out, where there is no other way."""
        if validates != self.choices.validates:
            self.choices.validates = validates
            self._choice_changed()

    def set_scans(self, source: str, folder: str = "") -> None:
        """Where scans without labels come from: nowhere (""), the scene, or a folder. A page may send anything."""
        if source in (NO_MORE, SCENE, FOLDER):
            self.choices.source, self.choices.folder = source, folder
            self._choice_changed()

    def estimate(self) -> None:
        """Measure how long it would take."""

        def begin() -> None:
            self._forget_old_estimate()
            settings = {**self.choices.settings(self.host.records), **self.choices.scans()}
            job = self.logic.estimateFineTune(
                baseModel=self.host.bundle, device=self.host.device, wait=False, **settings
            )
            self._estimate.job = job
            job.add_listener(self._on_measured)

        attempt(begin, self.host.failed)
        self.changed()

    def start(self) -> None:
        """Begin a run: a process of its own, which continues when the panel is closed.

        Nothing while `state().start` is disabled: the second press of a double click comes before it is drawn so.
        """
        if self._missing():
            return
        self._cancel_estimate()

        def begin() -> None:
            host = self.host
            settings = {**self.choices.settings(host.records), **self.choices.scans()}
            self._follow(self.logic.fineTune(baseModel=host.bundle, device=host.device, wait=False, **settings))

        attempt(begin, self.host.failed)
        self.changed()

    def stop(self) -> None:
        """End training and keep the best weights so far."""
        self._do(lambda job: job.stopAndKeep())

    def ask_discard(self) -> None:
        """Ask before what was learned is thrown away."""
        self._asks_discard = self.is_running
        self.changed()

    def act(self, key: str) -> None:
        """Do what an option under one of the run's questions says. A page may send anything."""
        view = self._run_view() if self.job is not None else None
        questions = (view.discarding, view.banner) if view is not None else ()
        if not any(option.key == key for question in questions if question for option in question.options):
            return
        self._asks_discard = False
        if key == "compare":
            self._compare()
        elif key == "discard":
            # Its process takes a moment to end.
            self._discarding = self.job if self.is_running else None
            self._do(lambda job: job.discard())
        elif key != "keep_training":
            self._do(lambda job: getattr(job, key)())
        self.changed()

    def close(self) -> None:
        """The panel goes away; a run continues."""
        self.job = None
        self.changed = lambda: None
        self._cancel_estimate()

    # ------------------------------------------------------------------------------------------------------------------

    def _choice_changed(self) -> None:
        self._forget_old_estimate()
        self.changed()

    def _forget_old_estimate(self) -> None:
        host, choices = self.host, self.choices
        model = host.bundle.content_hash if host.bundle is not None else ""
        chosen = (choices.steps, choices.duration, choices.validates, bool(choices.source))
        of = (host.device, model, *chosen, *((record.id, record.role) for record in host.records))
        if of != self._estimate.of:
            self._cancel_estimate()
            self._estimate = _Estimate(of)

    def _cancel_estimate(self) -> None:
        job, self._estimate.job = self._estimate.job, None
        if job is not None:
            job.cancel()

    def _on_measured(self, job: Any) -> None:
        if job is not self._estimate.job or not job.is_finished:
            return
        self._estimate.job = None
        if job.error is not None:
            self.host.failed(job.error)
        else:
            self._estimate.value = job.result()
        self.changed()

    def _follow(self, job: Any) -> None:
        self.job, self._asks_discard = job, False
        job.add_listener(self._on_run)
        self._on_run(job)

    def _on_run(self, job: Any) -> None:
        if job is not self.job:
            return
        status: RunStatus = job.status
        if status.state is RunState.DISCARDED:
            self._leave(_("Discarded. Your models are unchanged."))
        elif status.state is RunState.DONE and job.decision and status.result is not None:
            self._on_decision(job.decision, status.result)
        else:
            if status.state is RunState.DONE and self._announced != job.run.id:
                self._announced = job.run.id
                self.host.models_changed()
            self.changed()

    def _on_decision(self, answer: str, result: RunResult) -> None:
        """Made with the buttons, or by a script."""
        if answer == ACCEPTED:
            self.host.use_model(_reference(result.model))
            text, model = _("{name} {version} is used from now on."), result.model
        elif self._is_chosen(result.model):
            self.host.use_model(_reference(result.parent))
            text, model = _("{name} {version} is used from now on."), result.parent
        else:
            text, model = _("{name} {version} stays in use."), result.parent
        self._leave(text.format(name=model.get("name", "?"), version=model.get("version", "?")))

    def _is_chosen(self, model: Mapping[str, str]) -> bool:
        bundle = self.host.bundle
        return bundle is not None and f"{bundle.name}@{bundle.version}" == _reference(model)

    def _leave(self, text: str) -> None:
        self.job = self._discarding = None
        self.host.note(text)
        self.look_for_runs()
        self.host.refresh()
        self.changed()

    def _compare(self) -> None:
        result = self.job.status.result if self.job is not None else None
        if result is not None:
            attempt(lambda: self.host.compare(_reference(result.parent), _reference(result.model)), self.host.failed)

    def _do(self, act: Callable[[Any], Any]) -> None:
        """What cannot be done is shown, and the question stays; the run itself reports what was done."""
        job = self.job
        if job is not None and not attempt(lambda: act(job), self.host.failed):
            self._discarding = None
            self.changed()


def _reference(model: Mapping[str, str]) -> str:
    return f"{model.get('name', '?')}@{model.get('version', '?')}"
