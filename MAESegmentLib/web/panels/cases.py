"""The view of `AddCasePresenter` and `CasesPresenter`: adding what was corrected, and the list of stored cases."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...app.presenters.add_case import AddCasePresenter, role_options
from ...app.presenters.cases import CaseRow, CasesPresenter
from ...app.presenters.presenter import plain
from ...cases.records import CaseRecord
from ...images.labels import Label
from .panel import Page, Panel

_BUTTON = {"variant": "text", "density": "compact", "size": "small"}


class CasesPanel(Panel):
    prefix = "cases"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._pictures: dict[tuple[str, int], str] = {}
        self._is_built = False
        self._adding = AddCasePresenter(self.logic, app.improve, self._show)
        self._list = CasesPresenter(self.logic, app.improve, self._show)
        self._show()
        self.on_change("role", self._adding.set_role)
        self.on_change("only_box", self._adding.set_only_region)
        self.workspace.add_listener(self.update)
        app.state.change("segment_model", "segment_region")(lambda **_state: self.update())
        app.state.change("tab")(self._on_tab)

    @property
    def records(self) -> tuple[CaseRecord, ...]:
        return self._list.records

    @property
    def labels(self) -> tuple[Label, ...]:
        return self._list.labels

    def refresh(self) -> None:
        """Read the stored cases again."""
        self._list.outdate()
        self.update()

    def set_storing(self, is_storing: bool) -> None:
        self._list.set_storing(is_storing)

    def removed(self, case: str) -> None:
        self._adding.removed(case)

    def update(self) -> None:
        """Show what is missing, and the cases of the chosen model."""
        if self._is_built:
            self._adding.update()
            self._list.update()
            self.app.learning.update()

    def _on_tab(self, tab: str, **_state: Any) -> None:
        """The user comes to look: stored cases may have been edited meanwhile."""
        if tab == "improve" and self._is_built:
            self._adding.look_for_edits()

    def _show(self) -> None:
        adding, stored = self._adding.state, self._list.state
        pictures = {row.id: self._picture(row) for row in stored.rows}
        self.put(
            add=plain(adding),
            stored=plain(stored),
            pictures=pictures,
            role=adding.role,
            only_box=adding.only_region,
        )

    def _picture(self, row: CaseRow) -> str:
        key = (str(row.picture), row.revision)
        if key not in self._pictures:
            data = row.picture.read_bytes() if row.picture.is_file() else b""
            self._pictures[key] = f"data:image/png;base64,{base64.b64encode(data).decode()}" if data else ""
        return self._pictures[key]

    def build(self) -> None:
        self._is_built = True
        add = self.name("add")
        self.build_question(f"{add}.asks", self._adding.act, "edited-case")
        v3.VSelect(
            v_model=(self.name("role"),),
            items=([{"title": option.text, "value": option.key} for option in role_options()],),
            id="case-role",
            density="compact",
            hide_details=True,
            classes="mb-2",
            raw_attrs=['aria-label="What the case is for"'],
        )
        with html.Div(classes="d-flex align-center ga-2"):
            v3.VBtn(
                f"{{{{ {add}.button_text }}}}",
                id="add-case",
                click=self.guarded(self._adding.add),
                disabled=(f"!{add}.can_add",),
                title=(f"{add}.tip",),
                color="primary",
                classes="flex-grow-1",
            )
            v3.VBtn(
                "Labels...",
                id="case-names",
                click=self.guarded(lambda: self._adding.add(check_names=True)),
                disabled=(f"!{add}.can_add",),
                title="Check first which label each segment is stored as",
                variant="tonal",
            )
        v3.VCheckbox(
            v_if=(f"{add}.has_region",),
            v_model=(self.name("only_box"),),
            label="Only the box was annotated",
            id="only-box",
            density="compact",
            hide_details=True,
        )
        html.Div(f"{{{{ {add}.blocked }}}}", v_if=(f"{add}.blocked",), classes="text-caption mt-1")
        self._build_question(f"{add}.question")
        html.Div(f"{{{{ {add}.added }}}}", v_if=(f"{add}.added",), id="case-said", classes="text-body-2 info-text mt-2")
        self._build_list(self.name("stored"))

    def _build_question(self, question: str) -> None:
        with v3.VCard(v_if=(question,), variant="tonal", classes="pa-3 mt-2", id="case-questions"):
            html.Div(f"{{{{ {question}.text }}}}", classes="text-body-2 info-text mb-2")
            with html.Div(v_for=f"(one, number) in {question}.rows", key="number", classes="mb-2"):
                v3.VSelect(
                    model_value=("one.answer",),
                    update_modelValue=(self._adding.answer, "[number, $event]"),
                    items=("one.options",),
                    item_title="text",
                    item_value="key",
                    label=("one.title",),
                    title=("one.tip",),
                    density="compact",
                    hide_details=True,
                )
            for text in ("issues", "missing"):
                html.Div(f"{{{{ {question}.{text} }}}}", v_if=(f"{question}.{text}",), classes="text-body-2 info-text")
            with html.Div(classes="d-flex ga-2 mt-2"):
                v3.VBtn(
                    f"{{{{ {question}.confirm_text }}}}",
                    id="confirm-case",
                    click=self.guarded(self._adding.confirm),
                    disabled=(f"!!{question}.missing",),
                    size="small",
                    color="primary",
                )
                v3.VBtn("Cancel", id="cancel-case", click=self._adding.cancel, size="small", variant="text")

    def _build_list(self, stored: str) -> None:
        html.Div(f"{{{{ {stored}.text }}}}", id="cases-text", classes="text-body-2 info-text mt-3")
        acts: tuple[tuple[str, str, Callable[..., None], str], ...] = (
            ("mdi-folder-open-outline", "'Open'", self._list.open, "[row.id]"),
            ("mdi-swap-horizontal", "row.swap_text", self._list.set_role, "[row.id, row.other_role]"),
            ("mdi-delete-outline", "'Remove'", self._list.ask_to_remove, "[row.id]"),
        )
        with html.Div(v_for=f"row in {stored}.rows", key="row.id", classes="d-flex align-center my-1 case-row"):
            picture = f"{self.name('pictures')}[row.id]"
            html.Img(src=(picture,), v_if=(picture,), alt="", classes="case-picture")
            with html.Div(title=("row.tip",), classes="text-caption flex-grow-1 mx-2"):
                html.Div("{{ row.text }}", classes="info-text")
                html.Div("{{ row.use_text }}", classes="font-weight-medium")
            for icon, title, act, arguments in acts:
                v3.VBtn(
                    icon=icon,
                    click=(self.guarded(act), arguments),
                    disabled=(f"!!{stored}.blocked",),
                    title=(title,),
                    raw_attrs=[f":aria-label=\"{title} + ': ' + row.id\""],
                    **_BUTTON,
                )
        self.build_question(f"{stored}.asks", self._list.act, "case-removing")
