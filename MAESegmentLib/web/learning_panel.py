"""Fine-tuning: what it would take, live curves of what runs, and whether its result is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.finetuning import ACCEPTED, FineTuneJob
from ..app.texts.cases import validation_count
from ..app.texts.learning import banner_text, change_text, dice_text, interrupted_text, plan_text, run_text
from ..errors import ConfigurationError
from ..runs import RunState
from .curves_svg import curves_svg
from .panel import Page, Panel

#: The run that a person wants to see, first of all.
_ORDER = (RunState.RUNNING, RunState.WAITING, RunState.DONE, RunState.INTERRUPTED, RunState.FAILED)


class LearningPanel(Panel):
    prefix = "learning"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self.job: FineTuneJob | None = None
        self._told_done = ""
        defaults = {
            "plan": "", "missing": "", "running": False, "state": "", "text": "", "percent": 0, "curves": "",
            "dice": [], "banner": "", "better": True, "can_keep": False, "stopping": False, "steps": "",
        }  # fmt: skip
        app.state.update({self.name(key): value for key, value in defaults.items()})

    def build(self) -> None:
        name = self.name
        html.Div(f"{{{{ {name('plan')} }}}}", classes="text-body-2 info-text", id="plan")
        with html.Div(classes="d-flex align-center ga-2 mt-2"):
            v3.VBtn(
                "Fine-tune",
                id="fine-tune",
                click=self.guarded(self.start),
                disabled=(f"!!{name('missing')}",),
                title=(name("missing"),),
                color="primary",
                classes="flex-grow-1",
            )
            v3.VTextField(
                v_model=(name("steps"),),
                label="Steps",
                id="steps",
                placeholder="automatic",
                persistent_placeholder=True,
                density="compact",
                hide_details=True,
                style="max-width: 120px",
            )
        html.Div(f"{{{{ {name('missing')} }}}}", v_if=(name("missing"),), classes="text-caption mt-1")
        with html.Div(v_if=(name("running"),), classes="mt-2"):
            v3.VProgressLinear(model_value=(name("percent"),), height=8, rounded=True)
            html.Div(f"{{{{ {name('text')} }}}}", classes="text-body-2", id="run-text")
            with html.Div(classes="d-flex ga-2 mt-1"):
                v3.VBtn(
                    "Stop and keep best",
                    click=self.guarded(lambda: self._do("stopAndKeep")),
                    disabled=(f"!{name('can_keep')} || {name('stopping')}",),
                    size="small",
                    variant="tonal",
                )
                v3.VBtn(
                    "Discard",
                    id="discard-run",
                    click=self.guarded(lambda: self._do("discard")),
                    size="small",
                    variant="text",
                )
        self._build_outcome()
        html.Div(v_html=(name("curves"),), v_if=(name("curves"),), id="curves", classes="mt-2")
        with (
            v3.VTable(v_if=(f"{name('dice')}.length",), density="compact", classes="result-table"),
            html.Tbody(),
            html.Tr(v_for=f"row in {name('dice')}", key="row.name"),
        ):
            html.Td("{{ row.name }}")
            html.Td("{{ row.change }}", classes="text-right")

    def _build_outcome(self) -> None:
        name = self.name
        with v3.VCard(v_if=(name("banner"),), variant="tonal", color="primary", classes="pa-3 mt-2", id="banner"):
            html.Div(f"{{{{ {name('banner')} }}}}", classes="text-body-2 info-text", id="banner-text")
            with html.Div(v_if=(f"{name('state')} === 'done'",), classes="d-flex flex-wrap ga-2 mt-2"):
                for title, key, act in (
                    ("Use it", "accept", lambda: self._do("accept")),
                    ("Keep the old one", "decline", lambda: self._do("decline")),
                    ("Compare", "compare-new", self._compare),
                ):
                    v3.VBtn(title, id=key, click=self.guarded(act), size="small", variant="flat")
            with html.Div(v_if=(f"{name('state')} !== 'done'",), classes="d-flex ga-2 mt-2"):
                for title, what in (("Resume", "resume"), ("Discard", "discard")):
                    v3.VBtn(title, click=self.guarded(self._act(what)), size="small", variant="flat")

    # Before -----------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """What could be learned now, from the cases of the chosen model."""
        records, bundle = self.app.cases.records, self.app.segment.bundle
        missing = ""
        if bundle is None:
            missing = "Choose a model."
        elif self.job is not None:
            missing = "A fine-tuning is running." if self.get("running") else "Decide first about the last fine-tuning."
        elif not records:
            missing = "Add a corrected case first."
        elif validation_count(records) == len(records):
            missing = "All cases are validation cases: let the model learn from at least one."
        self.put(plan=plan_text(records, bundle), missing=missing)

    def start(self) -> None:
        """Begin a run: a process of its own, which goes on when the browser is closed."""
        settings: dict[str, Any] = {}
        steps = str(self.get("steps") or "").strip()
        if steps:
            if not steps.isdecimal() or int(steps) < 1:
                raise ConfigurationError(f"{steps} is no number of steps.", "Give a whole number, or leave it empty.")
            settings["steps"] = int(steps)
            settings["validate_every"] = max(1, int(steps) // 4)
        job = self.logic.fineTune(
            baseModel=self.app.segment.bundle, device=self.app.segment.device, wait=False, **settings
        )
        self._follow(job)

    def look_for_runs(self) -> None:
        """Those that an earlier session left, too."""
        if self.job is None:
            jobs = [job for job in self.logic.fineTuneRuns() if job.status.state in _ORDER]
            if jobs:
                self._follow(min(jobs, key=lambda job: _ORDER.index(job.status.state)))

    # Under way and after ----------------------------------------------------------------------------------------------

    def _follow(self, job: FineTuneJob) -> None:
        self.job = job
        job.add_listener(self._on_run)
        self._on_run(job)

    def _on_run(self, job: FineTuneJob) -> None:
        if job is not self.job:
            return
        status = job.status
        if status.state is RunState.DISCARDED or (status.state is RunState.DONE and job.answer):
            self._leave(job)
            return
        colours = (
            {label.name: label.colour for label in self.app.segment.bundle.labels} if self.app.segment.bundle else {}
        )
        running = status.state in (RunState.WAITING, RunState.RUNNING)
        banner = ""
        if status.state is RunState.DONE and status.result is not None:
            banner = banner_text(status.result)
        elif not running:
            banner = interrupted_text(status)
        self.put(
            running=running,
            state=status.state.value,
            text=run_text(status),
            percent=round(100 * status.fraction),
            curves=curves_svg(job.curves, status.steps, colours),
            dice=_dice_rows(job),
            banner=banner,
            can_keep=status.step > 0,
            stopping=status.stop_requested,
        )
        if status.state is RunState.DONE and job.run is not None and self._told_done != job.run.id:
            self._told_done = job.run.id
            self.app.segment.refresh_models()
            self.app.versions.update()
        self.update()

    def _leave(self, job: FineTuneJob) -> None:
        """It is dealt with."""
        result = job.status.result
        self.job = None
        self.put(running=False, state="", curves="", dice=[], banner="")
        if result is None or job.answer == "":
            self.app.say("Discarded. Your models are as they were.")
        else:
            used = result.model if job.answer == ACCEPTED else result.parent
            self.app.segment.use_model(f"{used['name']}@{used['version']}")
            self.app.say(f"{used['name']} {used['version']} is used from now on.", kind="success")
        self.app.versions.update()
        self.look_for_runs()
        self.update()

    def _compare(self) -> None:
        result = self.job.status.result if self.job is not None else None
        if result is not None:
            names = [f"{one['name']}@{one['version']}" for one in (result.parent, result.model)]
            self.app.versions.compare(*names)

    def _act(self, what: str) -> Callable[[], None]:
        return lambda: self._do(what)

    def _do(self, what: str) -> None:
        """A method of the run; that it is done is heard from the run itself."""
        if self.job is not None:
            getattr(self.job, what)()


def _dice_rows(job: FineTuneJob) -> list[dict[str, str]]:
    result = job.status.result
    if result is not None:
        before, after = dict(result.before or {}), dict(result.after or {})
        if result.mean_after is not None and len(after) > 1:
            after = {"Mean": result.mean_after, **after}
            before = {**before, **({"Mean": result.mean_before} if result.mean_before is not None else {})}
        return [{"name": name, "change": change_text(before.get(name), value)} for name, value in after.items()]
    if not job.curves.dice:
        return []
    before, now = dict(job.curves.before or {}), job.curves.dice[-1][1]
    return [{"name": name, "change": f"{dice_text(before.get(name))} \u2192 {dice_text(now[name])}"} for name in now]
