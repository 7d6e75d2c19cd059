"""The view of `NextCasePresenter`: which scans are ranked, and the ranked ones."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.next_case import FOLDER, SCENE, NextCasePresenter, intro
from ...app.presenters.presenter import plain
from .panel import Page, Panel


class NextCasePanel(Panel):
    prefix = "next"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._presenter = NextCasePresenter(self.logic, app.improve, self._show)
        self._show()
        self.on_change("source", lambda source: self._presenter.set_source(FOLDER if source == FOLDER else SCENE))
        self.workspace.add_listener(self.update)
        app.state.change("segment_model")(lambda **_state: self.update())

    def update(self) -> None:
        self._presenter.update()

    def _show(self) -> None:
        self.put(state=plain(self._presenter.state), source=self._presenter.state.source)

    def build(self) -> None:
        state = self.name("state")
        html.Div(intro(), classes="text-body-2 mb-2")
        if self.app.config.folders:
            sources = [{"title": "The open scans", "value": SCENE}, {"title": "All on this server", "value": FOLDER}]
            v3.VSelect(
                v_model=(self.name("source"),),
                items=(sources,),
                id="next-source",
                density="compact",
                hide_details=True,
                classes="mb-2",
                raw_attrs=['aria-label="Which scans are ranked"'],
            )
        v3.VBtn(
            f"{{{{ {state}.button_text }}}}",
            id="rank-scans",
            click=self.guarded(self._presenter.press),
            disabled=(f"!{state}.is_running && !!{state}.blocked",),
            title=(f"{state}.tip",),
            color="primary",
            block=True,
        )
        html.Div(f"{{{{ {state}.blocked }}}}", v_if=(f"{state}.blocked",), classes="text-caption mt-1")
        with html.Div(v_if=(f"{state}.is_running",), classes="mt-2"):
            v3.VProgressLinear(model_value=(f"100 * {state}.fraction",), height=8, rounded=True)
            html.Div(f"{{{{ {state}.stage }}}}", classes="text-body-2")
        with (
            v3.VTable(v_if=(f"{state}.rows.length",), density="compact", classes="result-table mt-2", id="ranked"),
            html.Tbody(),
            html.Tr(v_for=f"(row, number) in {state}.rows", key="number", title=("row.tip",)),
        ):
            self._build_row()

    def _build_row(self) -> None:
        html.Td("{{ row.place }}")
        html.Td("{{ row.name }}", style="overflow-wrap: anywhere")
        html.Td("{{ row.why }}")
        show: Any = self.guarded(self._presenter.show)
        with html.Td():
            v3.VBtn(
                icon="mdi-crosshairs",
                click=(show, "[number]"),
                disabled=("!row.can_show",),
                title="Show the slice where the model is least certain",
                raw_attrs=[":aria-label=\"'Show ' + row.name\""],
                variant="text",
                density="compact",
                size="small",
            )
