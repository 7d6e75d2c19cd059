"""The cases that a model learns from: adding what was corrected, and the list of those that are stored."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.case_proposal import CaseProposal
from ..app.texts.cases import added_text, case_text, cases_text, findings_text, labels_text
from ..cases.records import CHECK, TRAIN, CaseRecord
from ..errors import NodeError
from ..images.labels import Label
from .panel import Page, Panel

_NEW, _OUT = "new", "left out"
_TO_BE_ASKED = ("similar", "new")
_EMPTY, _DUPLICATE, _MISSING = "empty", "duplicate", "missing"


class CasesPanel(Panel):
    prefix = "cases"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._job: Any = None
        self._proposal: CaseProposal | None = None
        self._update_of = ""
        #: What the last line was said of: (scan, segmentation).
        self._shown: tuple[Any, Any] = (None, None)
        self.records: list[CaseRecord] = []
        self.labels: tuple[Label, ...] = ()
        defaults = {
            "text": "", "rows": [], "role": TRAIN, "only_box": True, "has_box": False, "busy": False, "reason": "",
            "said": "", "ask": "", "asking": False, "questions": [], "empty": [], "absent": [], "removing": "",
            "updating": False,
        }  # fmt: skip
        app.state.update({self.name(key): value for key, value in defaults.items()})
        self.workspace.add_listener(self.update)
        app.state.change("segment_model", "segment_region")(lambda **_state: self.update())

    def build(self) -> None:
        name = self.name
        with html.Div(classes="d-flex align-center ga-2"):
            v3.VSelect(
                v_model=(name("role"),),
                items=("[{title: 'Learn from it', value: 'train'}, {title: 'Validation case', value: 'check'}]",),
                id="case-role",
                density="compact",
                hide_details=True,
                raw_attrs=['aria-label="What the case is for"'],
            )
            v3.VBtn(
                f"{{{{ {name('busy')} ? 'Adding...' : 'Add case' }}}}",
                id="add-case",
                click=self.guarded(self.add),
                disabled=(f"{name('busy')} || {name('asking')} || !!{name('reason')}",),
                color="primary",
            )
        v3.VCheckbox(
            v_if=(name("has_box"),),
            v_model=(name("only_box"),),
            label="Only the box was annotated",
            id="only-box",
            density="compact",
            hide_details=True,
        )
        html.Div(f"{{{{ {name('reason')} }}}}", v_if=(name("reason"),), classes="text-caption mt-1")
        self._build_questions()
        html.Div(
            f"{{{{ {name('said')} }}}}", v_if=(name("said"),), id="case-said", classes="text-body-2 info-text mt-2"
        )
        html.Div(f"{{{{ {name('text')} }}}}", id="cases-text", classes="text-body-2 info-text mt-3")
        with html.Div(v_for=f"row in {name('rows')}", key="row.id", classes="d-flex align-center my-1 case-row"):
            html.Img(src=("row.picture",), v_if=("row.picture",), alt="", classes="case-picture")
            html.Div("{{ row.text }}", classes="text-caption info-text flex-grow-1 mx-2")
            for icon, title, act in (
                ("mdi-folder-open-outline", "Open", self._open),
                ("mdi-swap-horizontal", "Change its use", self._swap_role),
                ("mdi-delete-outline", "Remove", self._remove),
            ):
                v3.VBtn(
                    icon=icon,
                    click=(self.guarded(act), "[row.id]"),
                    title=title,
                    raw_attrs=[f":aria-label=\"'{title} ' + row.id\""],
                    variant="text",
                    density="compact",
                    size="small",
                )

    def _build_questions(self) -> None:
        name = self.name
        with v3.VCard(v_if=(name("asking"),), variant="tonal", classes="pa-3 mt-2", id="case-questions"):
            html.Div(f"{{{{ {name('ask')} }}}}", classes="text-body-2 info-text mb-2")
            with html.Div(v_for=f"one in {name('questions')}", key="one.segment", classes="mb-2"):
                v3.VSelect(
                    model_value=("one.answer",),
                    update_modelValue=(self._on_answer, "[one.segment, $event]"),
                    items=("one.choices",),
                    label=("one.segment",),
                    density="compact",
                    hide_details=True,
                )
            v3.VCheckbox(
                v_for=f"label in {name('empty')}",
                key="label",
                v_model=(name("absent"),),
                value=("label",),
                label=("label + ' is really not in this scan'",),
                density="compact",
                hide_details=True,
            )
            with html.Div(classes="d-flex ga-2 mt-2"):
                v3.VBtn(
                    f"{{{{ {name('updating')} ? 'Update' : 'Add' }}}}",
                    id="confirm-case",
                    click=self.guarded(self._confirm),
                    disabled=(f"{name('questions')}.some((one) => !one.answer)",),
                    size="small",
                    color="primary",
                )
                v3.VBtn("Not now", id="not-now", click=self.close, size="small", variant="text")

    # Adding -----------------------------------------------------------------------------------------------------------

    async def add(self) -> None:
        """Store what is shown; asks first if something is unclear."""
        scan, node = self.workspace.scan, self.workspace.segmentation
        if scan is None or node is None:
            raise NodeError("There is nothing to store.", "Segment a scan and correct the result first.")
        self.put(said="", busy=True)
        try:
            await asyncio.to_thread(self.logic.identifyScan(scan.node, node, self.app.segment.bundle))
        finally:
            self.put(busy=False)
        if (scan, node) != (self.workspace.scan, self.workspace.segmentation):
            return
        proposal = self.logic.proposeCase(scan.node, node, self.app.segment.bundle)
        stored = proposal.stored
        if stored is not None and not proposal.isChanged:
            self.put(said=f"It is stored already as {stored.id}, and nothing changed since.")
            return
        known = stored or proposal.duplicate
        said = [one for one in proposal.findings if one.kind != _DUPLICATE]
        errors = [one for one in said if one.severity == "error"]
        if errors:
            raise NodeError(errors[0].message, errors[0].hint)
        asked = [choice for choice in proposal.choices if choice.kind in _TO_BE_ASKED]
        if known is None and not asked and all(one.kind == _MISSING for one in said):
            self._store({})
            return
        self._ask(proposal, known, asked, said)

    def _ask(self, proposal: CaseProposal, known: CaseRecord | None, asked: Any, said: Any) -> None:
        self._proposal, self._update_of = proposal, known.id if known is not None else ""
        lines = []
        if known is not None:
            lines.append(f"This scan is stored already as {known.id} ({labels_text(known)}). Update the stored case?")
        if asked:
            lines.append("Which label is each segment? The answers are remembered.")
        lines.append(findings_text([one for one in said if one.kind not in (_EMPTY, _MISSING)]))
        labels = [{"title": label, "value": label} for label in proposal.modelLabels]
        extra = [
            {"title": "A new label for the model to learn", "value": _NEW},
            {"title": "Leave it out", "value": _OUT},
        ]
        questions = [
            {"segment": choice.segment, "answer": choice.label, "choices": [*labels, *extra]} for choice in asked
        ]
        empty = dict.fromkeys(str(one.details["label"]) for one in said if one.kind == _EMPTY)
        self.put(
            asking=True,
            ask="\n".join(line for line in lines if line),
            questions=questions,
            empty=[*empty],
            absent=[],
            updating=bool(self._update_of),
        )

    def close(self) -> None:
        """Ask nothing any more."""
        self._proposal, self._update_of = None, ""
        self.put(asking=False, questions=[], empty=[])

    def _on_answer(self, segment: str, answer: str) -> None:
        questions = [{**one, "answer": answer} if one["segment"] == segment else one for one in self.get("questions")]
        self.put(questions=questions)

    def _confirm(self) -> None:
        assert self._proposal is not None
        answers = {one["segment"]: one["answer"] for one in self.get("questions")}
        new = [segment for segment, answer in answers.items() if answer == _NEW]
        mapping = {choice.segment: choice.label for choice in self._proposal.choices if choice.segment not in answers}
        mapping |= {
            segment: None if answer == _OUT else answer for segment, answer in answers.items() if answer != _NEW
        }
        how = {"mapping": mapping, "newLabels": new, "absent": list(self.get("absent"))}
        update_of = self._update_of
        self.close()
        self._store(how, update_of)

    def _store(self, how: Mapping[str, Any], update_of: str = "") -> None:
        scan, node = self.workspace.scan, self.workspace.segmentation
        assert scan is not None
        region = self.app.segment.region
        self._job = self.logic.addCase(
            scan.node,
            node,
            self.app.segment.bundle,
            update=update_of or None,
            role="" if update_of else str(self.get("role")),
            region=region if region is not None and self.get("only_box") else None,
            wait=False,
            callback=self._on_job,
            **how,
        )
        self.put(busy=True)
        self._on_job(self._job)

    def _on_job(self, job: Any) -> None:
        if job is not self._job or not job.is_finished:
            return
        self._job = None
        self.put(busy=False)
        if job.error is not None:
            self.failed(job.error)
        else:
            self.put(said="\n".join([added_text(job.result()), *job.notes]))
        self.refresh()

    # The stored ones --------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """List the stored cases anew."""
        bundle = self.app.segment.bundle
        self.records, self.labels = [], ()
        rows = []
        if bundle is not None:
            store = self.logic.caseStore(bundle)
            self.records, self.labels = store.list(), store.labels()
            for record in self.records:
                path = store.thumbnail(record.id)
                use = "for validation" if record.role == CHECK else "learned from"
                rows.append(
                    {
                        "id": record.id,
                        "text": f"{case_text(record)}\n{use}",
                        "picture": _picture(path.read_bytes()) if path is not None and path.is_file() else "",
                    }
                )
        self.put(text=cases_text(self.records), rows=rows)
        self.app.learning.update()

    def update(self) -> None:
        """Say what is missing, and show the cases of the model that is chosen."""
        if not hasattr(self.app, "learning"):
            return
        reason = ""
        if self.workspace.scan is None:
            reason = "Open a scan first."
        elif self.workspace.segmentation is None:
            reason = "Segment the scan and correct the result first."
        self.put(reason=reason, has_box=self.app.segment.region is not None)
        shown = (self.workspace.scan, self.workspace.segmentation)
        if shown != self._shown:
            # What was said of another scan would read as if it were of this one.
            self._shown = shown
            self.put(said="", removing="")
        if self.get("asking"):
            self.close()
        self.refresh()

    def _open(self, case: str) -> None:
        """Scan and segmentation of a stored case, to be corrected further."""
        volume, segmentation = self.logic.openCase(str(case), self.app.segment.bundle)
        if isinstance(volume, list):
            raise NodeError("Cases of several channels cannot be opened here.", "Open it in 3D Slicer.")
        self.workspace.adopt(volume)
        self.workspace.choose(segmentation)
        self.app.go_to("correct")

    def _swap_role(self, case: str) -> None:
        record = next(one for one in self.records if one.id == case)
        self.logic.setCaseRole(case, TRAIN if record.role == CHECK else CHECK, self.app.segment.bundle)
        self.refresh()

    def _remove(self, case: str) -> None:
        """At the second press only: it cannot be undone."""
        if self.get("removing") != case:
            self.put(removing=case, said=f"Press again to remove {case}; that cannot be undone.")
            return
        self.logic.removeCase(case, self.app.segment.bundle)
        self.put(removing="", said=f"{case} was removed.")
        self.refresh()


def _picture(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
