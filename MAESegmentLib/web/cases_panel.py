"""The view of `AddCasePresenter` and `CasesPresenter`: adding what was corrected, and the list of stored cases."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.presenters.add_case import AddCasePresenter, LabelQuestion, role_options
from ..app.presenters.cases import CaseRow, CasesPresenter
from ..cases.records import CHECK, CaseRecord
from ..errors import NodeError
from ..images.labels import Label
from .improve_part import ImprovePart
from .panel import Page


class CasesPanel(ImprovePart):
    prefix = "cases"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._pictures: dict[tuple[str, int], str] = {}
        self._is_built = False
        self._adding = AddCasePresenter(self.logic, self, self._show)
        self._list = CasesPresenter(self.logic, self, self._show)
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

    # What the presenters ask for --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the stored cases again."""
        self._list.outdate()
        self.update()

    def show_case(self, scan: Any, segmentation: Any) -> None:
        """Scan and segmentation of a stored case, to be corrected further."""
        if isinstance(scan, list):
            raise NodeError("Cases of several channels cannot be opened here.", "Open it in 3D Slicer.")
        self.workspace.adopt(scan)
        self.workspace.choose(segmentation)
        self.app.go_to("correct")

    # ------------------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show what is missing, and the cases of the chosen model."""
        if self._is_built:
            self._adding.update()
            self._list.update("A case is being stored." if self._adding.state.is_busy else "")
            self.app.learning.update()

    def _on_tab(self, tab: str, **_state: Any) -> None:
        """The user comes to look: stored cases may have been edited meanwhile."""
        if tab == "improve" and self._is_built:
            self._adding.look_for_edits()

    def _show(self) -> None:
        adding, stored = self._adding.state, self._list.state
        question = adding.question
        self.put(
            blocked=adding.blocked,
            can_add=adding.can_add,
            button=adding.button_text,
            tip=adding.tip,
            role=adding.role,
            has_box=adding.has_region,
            only_box=adding.only_region,
            said=adding.added,
            edited=adding.edited,
            asking=question is not None,
            ask=question.text if question else "",
            issues=question.issues if question else "",
            questions=[_question(*one) for one in enumerate(question.rows)] if question else [],
            confirm=question.confirm_text if question else "",
            missing=question.missing if question else "",
            text=stored.text,
            rows=[self._row(row) for row in stored.rows],
            fixed=stored.blocked,
            removing=stored.removal_text,
        )

    def _row(self, row: CaseRow) -> dict[str, Any]:
        is_held_out = row.role == CHECK
        return {
            "id": row.id,
            "text": f"{row.text}\n{'for validation' if is_held_out else 'for training'}",
            "tip": row.tip,
            "picture": self._picture(row),
            "other_role": row.other_role,
            "swap": "Use for training" if is_held_out else "Use for validation",
        }

    def _picture(self, row: CaseRow) -> str:
        key = (str(row.picture), row.revision)
        if key not in self._pictures:
            data = row.picture.read_bytes() if row.picture.is_file() else b""
            self._pictures[key] = f"data:image/png;base64,{base64.b64encode(data).decode()}" if data else ""
        return self._pictures[key]

    def build(self) -> None:
        name = self.name
        self._is_built = True
        with html.Div(v_if=(name("edited"),), classes="mb-2", id="edited-case"):
            html.Div(f"{{{{ {name('edited')} }}}}", classes="text-body-2 info-text")
            self._buttons(("update-edited", "Update", self._adding.update_edited),
                          ("postpone-edited", "Not now", self._adding.postpone_edited))  # fmt: skip
        with html.Div(classes="d-flex align-center ga-2"):
            v3.VSelect(
                v_model=(name("role"),),
                items=([{"title": option.text, "value": option.key} for option in role_options()],),
                id="case-role",
                density="compact",
                hide_details=True,
                raw_attrs=['aria-label="What the case is for"'],
            )
            v3.VBtn(
                f"{{{{ {name('button')} }}}}",
                id="add-case",
                click=self.guarded(self._adding.add),
                disabled=(f"!{name('can_add')}",),
                title=(name("tip"),),
                color="primary",
            )
            v3.VBtn(
                icon="mdi-tag-multiple-outline",
                id="case-names",
                click=self.guarded(lambda: self._adding.add(check_names=True)),
                disabled=(f"!{name('can_add')}",),
                title="Look first which label each segment is stored as",
                variant="text",
                density="compact",
            )
        v3.VCheckbox(
            v_if=(name("has_box"),),
            v_model=(name("only_box"),),
            label="Only the box was annotated",
            id="only-box",
            density="compact",
            hide_details=True,
        )
        html.Div(f"{{{{ {name('blocked')} }}}}", v_if=(name("blocked"),), classes="text-caption mt-1")
        self._build_question()
        html.Div(
            f"{{{{ {name('said')} }}}}", v_if=(name("said"),), id="case-said", classes="text-body-2 info-text mt-2"
        )
        html.Div(f"{{{{ {name('text')} }}}}", id="cases-text", classes="text-body-2 info-text mt-3")
        self._build_rows()
        with v3.VCard(v_if=(name("removing"),), variant="tonal", classes="pa-3 mt-2", id="case-removing"):
            html.Div(f"{{{{ {name('removing')} }}}}", classes="text-body-2 info-text")
            self._buttons(("remove-case", "Remove", self._list.remove), ("keep-case", "Keep it", self._list.keep))

    def _build_question(self) -> None:
        name = self.name
        with v3.VCard(v_if=(name("asking"),), variant="tonal", classes="pa-3 mt-2", id="case-questions"):
            html.Div(f"{{{{ {name('ask')} }}}}", classes="text-body-2 info-text mb-2")
            with html.Div(v_for=f"one in {name('questions')}", key="one.number", classes="mb-2"):
                v3.VSelect(
                    model_value=("one.answer",),
                    update_modelValue=(self._adding.answer, "[one.number, $event]"),
                    items=("one.options",),
                    label=("one.title",),
                    title=("one.tip",),
                    density="compact",
                    hide_details=True,
                )
            html.Div(f"{{{{ {name('issues')} }}}}", v_if=(name("issues"),), classes="text-body-2 info-text")
            html.Div(f"{{{{ {name('missing')} }}}}", v_if=(name("missing"),), classes="text-caption mt-1")
            with html.Div(classes="d-flex ga-2 mt-2"):
                v3.VBtn(
                    f"{{{{ {name('confirm')} }}}}",
                    id="confirm-case",
                    click=self.guarded(self._adding.confirm),
                    disabled=(f"!!{name('missing')}",),
                    size="small",
                    color="primary",
                )
                v3.VBtn("Not now", id="not-now", click=self._adding.cancel, size="small", variant="text")

    def _build_rows(self) -> None:
        name = self.name
        acts: tuple[tuple[str, str, str, Callable[..., None], str], ...] = (
            ("mdi-folder-open-outline", "'Open'", "Open", self._list.open, "[row.id]"),
            ("mdi-swap-horizontal", "row.swap", "Change the use of", self._list.set_role, "[row.id, row.other_role]"),
            ("mdi-delete-outline", "'Remove'", "Remove", self._list.ask_to_remove, "[row.id]"),
        )
        with html.Div(v_for=f"row in {name('rows')}", key="row.id", classes="d-flex align-center my-1 case-row"):
            html.Img(src=("row.picture",), v_if=("row.picture",), alt="", classes="case-picture")
            html.Div("{{ row.text }}", title=("row.tip",), classes="text-caption info-text flex-grow-1 mx-2")
            for icon, title, spoken, act, arguments in acts:
                v3.VBtn(
                    icon=icon,
                    click=(self.guarded(act), arguments),
                    disabled=(f"!!{name('fixed')}",),
                    title=(title,),
                    raw_attrs=[f":aria-label=\"'{spoken} ' + row.id\""],
                    variant="text",
                    density="compact",
                    size="small",
                )

    def _buttons(self, *buttons: tuple[str, str, Callable[[], None]]) -> None:
        with html.Div(classes="d-flex ga-2 mt-2"):
            for key, title, act in buttons:
                v3.VBtn(title, id=key, click=self.guarded(act), size="small", variant="tonal")


def _question(number: int, row: LabelQuestion) -> dict[str, Any]:
    return {
        "number": number,
        "title": row.title,
        "tip": row.tip,
        "options": [{"title": option.text, "value": option.key} for option in row.options],
        "answer": row.answer,
    }
