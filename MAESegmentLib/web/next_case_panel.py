"""The view of `NextCasePresenter`: which scans are ranked, and the ranked ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.presenters.next_case import FOLDER, SCENE, NextCasePresenter, intro
from ..errors import NodeError
from ..mrml.case_nodes import stored_volumes
from .improve_part import ImprovePart
from .panel import Page


class NextCasePanel(ImprovePart):
    prefix = "next"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._presenter = NextCasePresenter(self.logic, self, self._show)
        self._show()
        self.on_change("source", self._on_source)
        self.workspace.add_listener(self.update)
        app.state.change("segment_model")(lambda **_state: self.update())

    # What the presenter asks for --------------------------------------------------------------------------------------

    def scans(self, source: str, folder: str) -> list[Any]:  # noqa: ARG002
        """The open ones that are not stored as cases, or all in the folders that the server was given."""
        if source == FOLDER:
            return [scan.path for scan in self.app.folders.scans]
        stored = stored_volumes()
        return [scan.node for scan in self.workspace.scans if scan.node not in stored]

    def show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        self.run(self._show_scan(source, position))

    async def _show_scan(self, source: Any, position: tuple[float, float, float]) -> None:
        if isinstance(source, Path):
            await self.app.data.open_listed(next(scan for scan in self.app.folders.scans if scan.path == source))
        else:
            known = self.workspace.scan_of(source.GetID()) if source.GetScene() is not None else None
            if known is None:
                raise NodeError(f"{source.GetName()} is no longer open.", "Open it again.")
            self.workspace.show(known)
        self.app.views.go_to(position)

    # ------------------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        self._presenter.update()

    def _on_source(self, source: str) -> None:
        self._presenter.set_source(source if source == FOLDER else SCENE)

    def _show(self) -> None:
        state = self._presenter.state
        self.put(
            source=state.source,
            blocked=state.blocked,
            running=state.is_running,
            button=state.button_text,
            tip=state.tip,
            percent=round(100 * state.fraction),
            stage=state.stage,
            rows=[
                {"place": row.place, "name": row.name, "why": row.why, "tip": row.tip, "can_show": row.can_show}
                for row in state.rows
            ],
        )

    def build(self) -> None:
        name = self.name
        html.Div(intro(), classes="text-body-2 mb-2")
        if self.app.config.folders:
            sources = [{"title": "The open scans", "value": SCENE}, {"title": "All on this server", "value": FOLDER}]
            v3.VSelect(
                v_model=(name("source"),),
                items=(sources,),
                id="next-source",
                density="compact",
                hide_details=True,
                classes="mb-2",
                raw_attrs=['aria-label="Which scans are ranked"'],
            )
        v3.VBtn(
            f"{{{{ {name('button')} }}}}",
            id="rank-scans",
            click=self.guarded(self._presenter.press),
            disabled=(f"!{name('running')} && !!{name('blocked')}",),
            title=(name("tip"),),
            color="primary",
            block=True,
        )
        html.Div(f"{{{{ {name('blocked')} }}}}", v_if=(name("blocked"),), classes="text-caption mt-1")
        with html.Div(v_if=(name("running"),), classes="mt-2"):
            v3.VProgressLinear(model_value=(name("percent"),), height=8, rounded=True)
            html.Div(f"{{{{ {name('stage')} }}}}", classes="text-body-2")
        with (
            v3.VTable(v_if=(f"{name('rows')}.length",), density="compact", classes="result-table mt-2", id="ranked"),
            html.Tbody(),
            html.Tr(v_for=f"(row, number) in {name('rows')}", key="number", title=("row.tip",)),
        ):
            html.Td("{{ row.place }}")
            html.Td("{{ row.name }}", style="overflow-wrap: anywhere")
            html.Td("{{ row.why }}")
            with html.Td():
                v3.VBtn(
                    icon="mdi-crosshairs",
                    click=(self.guarded(self._presenter.show), "[number]"),
                    disabled=("!row.can_show",),
                    title="Show the slice where the model is least certain",
                    raw_attrs=[":aria-label=\"'Show ' + row.name\""],
                    variant="text",
                    density="compact",
                    size="small",
                )
