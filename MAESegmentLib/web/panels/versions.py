"""The view of `VersionsPresenter` and `ComparePresenter`: which version is used, and how two of them differ."""

from __future__ import annotations

from pathlib import Path

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.compare import ComparePresenter
from ...app.presenters.presenter import plain
from ...app.presenters.versions import VersionsPresenter
from ...app.texts.model_cards import name_of
from .panel import Page, Panel


class VersionsPanel(Panel):
    prefix = "versions"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._notice = ""
        self._versions = VersionsPresenter(self.logic, app.improve, self._on_versions)
        self._comparison = ComparePresenter(self.logic, app.improve, self._show)
        app.state.update({self.name("url"): "", self.name("file"): ""})
        self._show()
        app.state.change("segment_model")(lambda **_state: self.update())
        self.workspace.add_listener(self._update_comparison)

    def update(self) -> None:
        """List the versions that belong together with the one that is chosen."""
        self._versions.update()
        self._update_comparison()

    def compare(self, first: str, second: str) -> None:
        """Segment the scan with both (name@version) and show where they differ."""
        self._comparison.start(first, second)

    def _update_comparison(self) -> None:
        self._comparison.update(self._versions.versions, self._versions.state.previous)

    def _on_versions(self) -> None:
        """One may have been deleted."""
        self._update_comparison()
        self._show()

    def _compare_with_used(self, version: str) -> None:
        if self.app.segment.bundle is not None:
            self.compare(version, name_of(self.app.segment.bundle))

    def _export(self, version: str) -> None:
        if self._versions.state.row(version) is None or self._versions.state.is_exporting:
            return
        # Its file goes when the next one is begun.
        self.put(url="", file="")
        path = self.app.downloads.folder("model") / f"{version.replace('@', '-')}.zip"
        self._versions.export(version, path, self._offer)

    def _offer(self, path: Path) -> None:
        self._versions.forget()
        self.put(url=self.app.downloads.offer(path), file=path.name)

    def _show(self) -> None:
        versions = self._versions.state
        self.put(list=plain(versions), comparison=plain(self._comparison.state))
        if versions.notice != self._notice:
            self._notice = versions.notice
            self.app.say(versions.notice, kind="success")

    def build(self) -> None:
        versions, comparison = self.name("list"), self.name("comparison")
        with html.Div(v_for=f"row in {versions}.rows", key="row.name", classes="d-flex align-center my-1"):
            with html.Div(classes="flex-grow-1", title=("row.card",)):
                html.Div("{{ row.title }}", classes="text-body-2 font-weight-medium")
                html.Div("{{ row.accuracy }}", classes="text-caption")
            for icon, title, act, shown, nothing in (
                ("mdi-check", "Use", self._versions.use, "!row.why_not_use", "''"),
                ("mdi-compare", "Compare with", self._compare_with_used, "!row.is_used", f"{comparison}.blocked"),
                ("mdi-download", "Export", self._export, "true", f"{versions}.is_exporting"),
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
            f"Go back to {{{{ {versions}.previous_title }}}}",
            v_if=(f"{versions}.previous",),
            id="go-back",
            click=self.guarded(self._versions.go_back),
            title=(f"{versions}.previous_tip",),
            size="small",
            variant="tonal",
            prepend_icon="mdi-undo",
        )
        self.build_question(f"{versions}.asks", self._versions.act, "version-deleting")
        with html.Div(v_if=(self.name("url"),), classes="mt-2"):
            v3.VBtn(
                "Save the model",
                href=(self.name("url"),),
                raw_attrs=[f':download="{self.name("file")}"'],
                size="small",
                color="primary",
            )
        self._build_comparison(comparison)

    def _build_comparison(self, state: str) -> None:
        with html.Div(v_if=(f"{state}.is_running",), classes="mt-2"):
            v3.VProgressLinear(model_value=(f"100 * {state}.fraction",), height=8, rounded=True)
            v3.VBtn("Cancel", click=self.guarded(self._comparison.cancel), size="small", variant="text")
        with html.Div(v_if=(f"{state}.text",), id="comparison", classes="mt-2"):
            html.Div(f"{{{{ {state}.text }}}}", classes="text-body-2 info-text")
            with v3.VTable(v_if=(f"{state}.rows.length",), density="compact", classes="result-table"):
                with html.Thead(), html.Tr():
                    html.Th("{{ title }}", v_for=f"title in {state}.titles", key="title")
                with html.Tbody(), html.Tr(v_for=f"row in {state}.rows", key="row.label"):
                    for column in ("label", "first", "second", "agreement"):
                        html.Td(f"{{{{ row.{column} }}}}")
