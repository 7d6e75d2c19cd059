"""The view of `VersionsPresenter` and `ComparePresenter`: which version is used, and how two of them differ."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.presenters.compare import ComparePresenter
from ..app.presenters.versions import VersionsPresenter, shown_name
from ..app.texts.model_cards import name_of
from .improve_part import ImprovePart
from .panel import Page


class VersionsPanel(ImprovePart):
    prefix = "versions"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._said = ""
        self._versions = VersionsPresenter(self.logic, self, self._show)
        self._comparison = ComparePresenter(self.logic, self, self._show)
        app.state.update({self.name("url"): "", self.name("file"): ""})
        self._show()
        app.state.change("segment_model")(lambda **_state: self.update())
        self.workspace.add_listener(self._update_comparison)

    # What the presenters ask for --------------------------------------------------------------------------------------

    def use_model(self, name: str) -> None:
        self.app.segment.use_model(name)

    def models_changed(self) -> None:
        self.app.segment.refresh_models()

    def show_comparison(self, segmentation: Any) -> None:
        self.workspace.choose(segmentation)

    # ------------------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """List the versions that belong together with the one that is chosen."""
        self._versions.update()
        self._update_comparison()

    def compare(self, first: str, second: str) -> None:
        """Segment the scan with both (name@version) and show where they differ."""
        self._comparison.start(first, second)

    def _update_comparison(self) -> None:
        self._comparison.update(self._versions.versions, self._versions.state.previous)

    def _compare_with_used(self, version: str) -> None:
        if self.bundle is not None:
            self.compare(version, name_of(self.bundle))

    def _export(self, version: str) -> None:
        # Its file goes when the next one is begun.
        self.put(url="", file="")
        path = self.app.downloads.folder("model") / f"{version.replace('@', '-')}.zip"
        self._versions.export(version, path, self._offer)

    def _offer(self, path: Path) -> None:
        self._versions.forget()
        self.app.say("")
        self.put(url=self.app.downloads.offer(path), file=path.name)

    def _show(self) -> None:
        versions, comparison = self._versions.state, self._comparison.state
        self.put(
            rows=[
                {
                    "name": row.name,
                    "title": row.title,
                    "text": row.accuracy,
                    "card": row.card,
                    "used": row.is_used,
                    "why_not_use": row.why_not_use,
                    "why_kept": row.why_kept,
                }
                for row in versions.rows
            ],
            previous=shown_name(versions.previous),
            previous_tip=versions.previous_tip,
            deleting=versions.deletion_text,
            exporting=versions.is_exporting,
            blocked=comparison.blocked,
            comparing=comparison.is_running,
            percent=round(100 * comparison.fraction),
            titles=list(comparison.titles),
            table=[list(astuple(row)) for row in comparison.rows],
            line=comparison.text,
        )
        if versions.said != self._said:
            self._said = versions.said
            self.app.say(versions.said, kind="success")

    def build(self) -> None:
        name = self.name
        with html.Div(v_for=f"row in {name('rows')}", key="row.name", classes="d-flex align-center my-1"):
            with html.Div(classes="flex-grow-1", title=("row.card",)):
                html.Div("{{ row.title }}", classes="text-body-2 font-weight-medium")
                html.Div("{{ row.text }}", classes="text-caption")
            for icon, title, act, shown, nothing in (
                ("mdi-check", "Use", self._versions.use, "!row.why_not_use", "''"),
                ("mdi-compare", "Compare with the one in use:", self._compare_with_used, "!row.used", name("blocked")),
                (
                    "mdi-download",
                    "Export",
                    self._export,
                    "true",
                    name("exporting"),
                ),
                ("mdi-delete-outline", "Delete", self._versions.ask_to_delete, "true", "row.why_kept"),
            ):
                v3.VBtn(
                    v_if=(shown,),
                    icon=icon,
                    click=(self.guarded(act), "[row.name]"),
                    disabled=(f"!!({nothing})",),
                    title=(f"({nothing}) || '{title}'",),
                    raw_attrs=[f":aria-label=\"'{title} ' + row.title\""],
                    variant="text",
                    density="compact",
                    size="small",
                )
        v3.VBtn(
            f"Go back to {{{{ {name('previous')} }}}}",
            v_if=(name("previous"),),
            id="go-back",
            click=self.guarded(self._versions.go_back),
            title=(name("previous_tip"),),
            size="small",
            variant="tonal",
            prepend_icon="mdi-undo",
        )
        with v3.VCard(v_if=(name("deleting"),), variant="tonal", classes="pa-3 mt-2", id="version-deleting"):
            html.Div(f"{{{{ {name('deleting')} }}}}", classes="text-body-2 info-text")
            with html.Div(classes="d-flex ga-2 mt-2"):
                v3.VBtn("Delete", id="delete-version", click=self.guarded(self._versions.delete), size="small")
                v3.VBtn("Keep it", click=self._versions.keep, size="small", variant="text")
        with html.Div(v_if=(name("url"),), classes="mt-2"):
            v3.VBtn(
                "Save the model",
                href=(name("url"),),
                raw_attrs=[f':download="{name("file")}"'],
                size="small",
                color="primary",
            )
        self._build_comparison()

    def _build_comparison(self) -> None:
        name = self.name
        with html.Div(v_if=(name("comparing"),), classes="mt-2"):
            v3.VProgressLinear(model_value=(name("percent"),), height=8, rounded=True)
            v3.VBtn("Cancel", click=self.guarded(self._comparison.cancel), size="small", variant="text")
        with html.Div(v_if=(f"{name('table')}.length",), id="comparison", classes="mt-2"):
            html.Div(f"{{{{ {name('line')} }}}}", classes="text-body-2 info-text")
            with v3.VTable(density="compact", classes="result-table"):
                with html.Thead(), html.Tr():
                    html.Th("{{ title }}", v_for=f"title in {name('titles')}", key="title")
                with html.Tbody(), html.Tr(v_for=f"row in {name('table')}", key="row[0]"):
                    html.Td("{{ cell }}", v_for="(cell, number) in row", key="number")
