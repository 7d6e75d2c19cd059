"""The widgets of fine-tuning in the browser: what it would take, live curves, and the decision about the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.finetune import FineTunePresenter
from ...app.presenters.finetune_state import RunView
from ...app.presenters.presenter import plain
from ...bundle import Bundle
from ...cases.records import CaseRecord
from ...images.labels import Label
from .curves_svg import curves_svg
from .panel import Page, Panel

_NO_RUN: dict[str, Any] = {
    "running": False, "text": "", "percent": 0, "stop": {}, "discard": {}, "banner": None, "discarding": None,
    "curves": "", "dice": [], "dice_titles": [], "outcome": [],
}  # fmt: skip


class LearningPanel(Panel):
    """Draws the state of a `FineTunePresenter`, and is the place around it."""

    prefix = "learning"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self.presenter = FineTunePresenter(self.logic, self, self.update)
        defaults = {"plan": "", "start": {}, "estimate": {}, "steps": "", "show_outcome": False, **_NO_RUN}
        app.state.update({self.name(key): value for key, value in defaults.items()})
        self.on_change("steps", self._on_steps)

    def build(self) -> None:
        name = self.name
        html.Div(f"{{{{ {name('plan')} }}}}", classes="text-body-2 info-text", id="plan")
        v3.VTextField(
            v_model=(name("steps"),),
            label="Training steps",
            id="steps",
            placeholder="automatic",
            persistent_placeholder=True,
            density="compact",
            hide_details=True,
            classes="mt-2",
        )
        with html.Div(classes="d-flex align-center ga-2 mt-2"):
            self._button("estimate", self.presenter.estimate, variant="tonal")
            self._button("start", self.presenter.start, id="fine-tune", color="primary", classes="flex-grow-1")
        html.Div(
            f"{{{{ {name('start')}.tip }}}}",
            v_if=(f"{name('start')}.is_enabled === false",),
            classes="text-caption mt-1",
        )
        with html.Div(v_if=(name("running"),), classes="mt-2"):
            v3.VProgressLinear(model_value=(name("percent"),), color="primary", height=8, rounded=True)
            html.Div(f"{{{{ {name('text')} }}}}", classes="text-body-2", id="run-text")
            html.Div(
                "You can keep working or close this page: training continues in the background.",
                classes="text-caption",
            )
            with html.Div(classes="d-flex ga-2 mt-1"):
                self._button("stop", self.presenter.stop, size="small", variant="tonal")
                self._button("discard", self.presenter.ask_discard, id="discard-run", size="small", variant="text")
        self.build_question(self.name("discarding"), self.presenter.act, "discarding")
        self.build_question(self.name("banner"), self.presenter.act, "banner")
        html.Div(v_html=(name("curves"),), v_if=(name("curves"),), id="curves", classes="mt-2")
        with v3.VTable(v_if=(f"{name('dice')}.length",), density="compact", classes="result-table"):
            with html.Thead(), html.Tr():
                html.Th(
                    "{{ title }}",
                    v_for=f"(title, column) in {name('dice_titles')}",
                    key="title",
                    classes=("{'text-right': column > 0}",),
                )
            with html.Tbody(), html.Tr(v_for=f"row in {name('dice')}", key="row.name"):
                html.Td("{{ row.name }}")
                html.Td("{{ row.before }}", classes="text-right")
                html.Td("{{ row.after }}", classes="text-right")
        with html.Div(v_if=(f"{name('outcome')}.length",)):
            v3.VSwitch(
                v_model=(name("show_outcome"),),
                label="Results per case",
                id="show-outcome",
                color="primary",
                density="compact",
                hide_details=True,
            )
            with (
                v3.VTable(v_if=(name("show_outcome"),), density="compact", classes="result-table", id="outcome"),
                html.Tbody(),
                html.Tr(v_for=f"(row, number) in {name('outcome')}", key="number"),
            ):
                for key in ("case", "label", "change"):
                    html.Td(f"{{{{ row.{key} }}}}")

    def _button(self, key: str, act: Any, **how: Any) -> None:
        """A button that shows a `Control` of the state."""
        name = self.name(key)
        v3.VBtn(
            f"{{{{ {name}.text }}}}",
            **{"id": key, **how},
            click=self.guarded(act),
            disabled=(f"{name}.is_enabled === false",),
            title=(f"{name}.tip",),
        )

    # What the presenter sees of the page ------------------------------------------------------------------------------

    @property
    def bundle(self) -> Bundle | None:
        return self.app.segment.bundle

    @property
    def device(self) -> str:
        return self.app.segment.device

    @property
    def records(self) -> Sequence[CaseRecord]:
        return self.app.cases.records

    @property
    def labels(self) -> Sequence[Label]:
        return self.app.cases.labels

    def note(self, text: str) -> None:
        self.app.say(text)

    def use_model(self, name: str) -> None:
        self.app.segment.use_model(name)

    def models_changed(self) -> None:
        self.app.segment.refresh_models()
        self.app.versions.update()

    def compare(self, first: str, second: str) -> None:
        self.app.versions.compare(first, second)

    def refresh(self) -> None:
        self.app.versions.update()

    # ------------------------------------------------------------------------------------------------------------------

    def look_for_runs(self) -> None:
        """Show a run that an earlier session left, too."""
        self.presenter.look_for_runs()

    def update(self) -> None:
        """Draw the state as it is now."""
        state = self.presenter.state()
        run = _run_values(state.run) if state.run is not None else _NO_RUN
        self.put(plan=state.plan, start=asdict(state.start), estimate=asdict(state.estimate), **run)

    def _on_steps(self, steps: Any) -> None:
        self.presenter.set_steps(str(steps or ""))


def _run_values(run: RunView) -> dict[str, Any]:
    return {
        "running": run.is_running,
        "text": run.text,
        "percent": round(100 * run.fraction),
        "stop": asdict(run.stop),
        "discard": asdict(run.discard),
        "banner": plain(run.banner),
        "discarding": plain(run.discarding),
        "curves": curves_svg(run.curves, run.steps, run.colours),
        "dice": [asdict(row) for row in run.dice],
        "dice_titles": [*run.dice_titles],
        "outcome": [asdict(row) for row in run.outcome],
    }
