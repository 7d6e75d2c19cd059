"""Putting a corrected segmentation into the case store: at once if nothing is unclear, else after a few questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from slicer.i18n import tr as _

from MAESegmentLib.app.texts.cases import added_text, findings_text, labels_text
from MAESegmentLib.app.texts.messages import breakable, error_text, tooltip
from MAESegmentLib.cases.records import CHECK, TRAIN, CaseRecord
from MAESegmentLib.errors import MAESegmentError

from .ask_bar import Answer, AskBar
from .mapping_table import MappingTable
from .qt_connection import connect
from .result_section import volume_of

#: Kinds of `cases.mapping.Choice` that a person must look at.
_TO_BE_ASKED = ("similar", "new")
#: Kinds of `cases.submission.Finding`: asked in the table, not said below it; said elsewhere; no reason to stop.
_EMPTY, _DUPLICATE, _MISSING = "empty", "duplicate", "missing"


class Surroundings(Protocol):
    """What the section knows of the panel."""

    @property
    def bundle(self) -> Any: ...
    @property
    def volume(self) -> Any: ...
    @property
    def scan(self) -> Any: ...
    @property
    def segmentation(self) -> Any: ...
    @property
    def roi(self) -> Any: ...
    def failed(self, error: Exception) -> None: ...
    def refresh(self) -> None: ...


class AddCaseBar:
    """The button, the questions under it, and the quiet line that says what was stored."""

    def __init__(self, ui: Any, logic: Any, place: Surroundings) -> None:
        self._ui = ui
        self._logic = logic
        self._place = place
        self._note = AskBar(ui, "improveNote")
        self._mapping = MappingTable(ui.mappingTable, self._update_confirm)
        self._job: Any = None
        self._is_looking = False
        self._proposal: Any = None
        self._subject: tuple[Any, Any] = (None, None)
        self._update_of = ""
        self._reason = ""
        self._declined: set[tuple[str, int]] = set()
        ui.addRoleComboBox.addItem(_("Learn from it"), TRAIN)
        ui.addRoleComboBox.addItem(_("Validation case"), CHECK)
        ui.regionCheckBox.checked = True
        connect(ui.addCaseButton, "clicked()", self.add)
        connect(ui.namesButton, "clicked()", lambda: self.add(look_first=True))
        connect(ui.confirmCaseButton, "clicked()", self._on_confirm)
        connect(ui.cancelCaseButton, "clicked()", self.close)
        ui.addedLabel.visible = False
        self.close()

    @property
    def is_asking(self) -> bool:
        return self._proposal is not None

    @property
    def is_busy(self) -> bool:
        return self._job is not None

    def update(self, *, reason: str) -> None:
        """`reason` says why nothing can be stored now, beside what is missing here."""
        self._reason = reason or self._missing()
        if self.is_asking and self._subject != (self._place.volume, self._place.segmentation):
            self.close()
        ui = self._ui
        ui.regionCheckBox.visible = self._place.roi is not None
        may = not (self._reason or self.is_busy or self.is_asking or self._is_looking)
        ui.addCaseButton.enabled = ui.namesButton.enabled = may
        ui.addCaseButton.text = _("Adding...") if self.is_busy else _("Add corrected case")
        ui.addCaseButton.toolTip = tooltip(self._reason or self._purpose())
        ui.addRoleComboBox.enabled = not self.is_busy and not self._reason
        self._update_confirm()

    def add(self, *, look_first: bool = False) -> None:
        """Store what is chosen; asks first if something is unclear, or if `look_first`."""
        place = self._place
        self._note.clear()
        self._ui.addedLabel.visible = False
        self._subject = (place.volume, place.segmentation)
        try:
            with self._looking():
                proposal = self._logic.proposeCase(place.scan, place.segmentation, place.bundle)
        except MAESegmentError as error:
            place.failed(error)
            return
        if self._subject != (place.volume, place.segmentation):
            return
        stored = proposal.stored
        if stored is not None and not proposal.isChanged and not look_first:
            self._say(_("It is stored already as {case}, and nothing changed since.").format(case=stored.id))
        elif stored is not None or proposal.duplicate is not None:
            self._ask_to_update(proposal, stored or proposal.duplicate)
        else:
            self._go_on(proposal, "", look_first=look_first)

    def close(self) -> None:
        """Ask nothing any more."""
        self._proposal = None
        self._update_of = ""
        self._ui.questionFrame.visible = False
        if self._job is None and not self._reason:
            self._ui.addCaseButton.enabled = self._ui.namesButton.enabled = True

    def clear(self) -> None:
        """The scene goes."""
        self.close()
        self._note.clear()
        self._declined.clear()
        self._ui.addedLabel.visible = False

    def tell_of_changes(self, changed: list[tuple[Any, CaseRecord]]) -> None:
        """A stored case was edited in the scene: ask quietly, once for each state."""
        if self.is_busy or self.is_asking or self._is_looking or self._note.text:
            return
        for segmentation, record in changed:
            key = (segmentation.GetID(), record.revision)
            if key not in self._declined:
                text = _("{segmentation} was edited since it was stored as {case}. Update stored case?")
                self._note.show(
                    text.format(segmentation=segmentation.GetName(), case=record.id),
                    Answer(_("Update"), lambda s=segmentation, r=record: self._update(s, r)),
                    Answer(
                        _("Not now"),
                        lambda key=key: self._declined.add(key),
                        _("It can be updated later by Add corrected case."),
                    ),
                )
                return

    def say_error(self, error: MAESegmentError) -> None:
        """What went wrong, where the person looks."""
        self._note.show(error_text(error), Answer(_("Close"), lambda: None))

    def _purpose(self) -> str:
        return _(
            "Copy the scan and its segmentation, without names or dates of a patient, into the folder of corrected "
            "cases, from which the model can learn."
        )

    def _missing(self) -> str:
        place = self._place
        if place.bundle is None:
            return _("Choose a model.")
        if place.volume is None:
            return _("Select a volume.")
        if place.segmentation is None:
            return _("Segment the volume and correct the result, or choose a segmentation under Output.")
        return ""

    def _ask_to_update(self, proposal: Any, record: CaseRecord) -> None:
        text = _("This scan is stored already as {case} ({labels}). Update stored case?")
        self._note.show(
            text.format(case=record.id, labels=labels_text(record)),
            Answer(_("Update"), lambda: self._go_on(proposal, record.id)),
            Answer(_("Not now"), lambda: None, _("The stored case stays as it is.")),
        )

    def _update(self, segmentation: Any, record: CaseRecord) -> None:
        """Of a segmentation that need not be the chosen one."""
        self._begin(volume_of(segmentation), segmentation, record.id, {})

    def _go_on(self, proposal: Any, update_of: str, *, look_first: bool = False) -> None:
        asks = any(choice.kind in _TO_BE_ASKED for choice in proposal.choices)
        said = [one for one in proposal.findings if one.kind != _DUPLICATE]
        if not (asks or look_first or any(one.kind != _MISSING for one in said)):
            self._begin(self._place.scan, self._place.segmentation, update_of, self._settings(update_of))
            return
        self._proposal, self._update_of = proposal, update_of
        ui = self._ui
        ui.questionLabel.text = (
            _("Which label is each segment? The answers are remembered.") if asks else _("Before it is stored:")
        )
        shown = [c for c in proposal.choices if look_first or asks or c.kind != "same"]
        self._mapping.ask(shown, proposal.modelLabels, _empty_labels(proposal))
        ui.mappingTable.visible = ui.mappingTable.rowCount > 0
        text = findings_text([one for one in said if one.kind != _EMPTY])
        ui.findingsLabel.text = breakable(text)
        ui.findingsLabel.visible = bool(text)
        ui.confirmCaseButton.text = _("Update") if update_of else _("Add")
        ui.questionFrame.visible = True
        ui.addCaseButton.enabled = ui.namesButton.enabled = False
        self._update_confirm()

    def _update_confirm(self) -> None:
        if self._proposal is None:
            return
        errors = [one for one in self._proposal.findings if one.severity == "error"]
        nothing = self._reason or (f"{errors[0].message} {errors[0].hint}" if errors else self._mapping.missing)
        self._ui.confirmCaseButton.enabled = not nothing
        self._ui.confirmCaseButton.toolTip = tooltip(nothing.strip() or self._purpose())

    def _on_confirm(self) -> None:
        asked = self._mapping.mapping
        mapping = {c.segment: asked.get(c.segment, c.label) for c in self._proposal.choices}
        answers = {"mapping": mapping, "newLabels": self._mapping.new_labels, "absent": self._mapping.absent}
        update_of = self._update_of
        self.close()
        self._begin(self._place.scan, self._place.segmentation, update_of, {**answers, **self._settings(update_of)})

    def _settings(self, update_of: str) -> dict[str, Any]:
        """What is chosen beside the button. A case that is updated keeps its role."""
        roi = self._place.roi
        return {
            "role": "" if update_of else str(self._ui.addRoleComboBox.currentData),
            "region": roi if roi is not None and self._ui.regionCheckBox.checked else None,
        }

    def _begin(self, scan: Any, segmentation: Any, update_of: str, how: dict[str, Any]) -> None:
        self._subject = (self._place.volume, self._place.segmentation)
        try:
            with self._looking():
                job = self._logic.addCase(
                    scan,
                    segmentation,
                    self._place.bundle,
                    update=update_of or None,
                    wait=False,
                    callback=self._on_job,
                    **how,
                )
        except MAESegmentError as error:
            self._place.failed(error)
            return
        if not job.is_finished:
            self._job = job
        self._place.refresh()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """While events happen, in which nothing else can be stored."""
        buttons = (self._ui.addCaseButton, self._ui.namesButton)
        self._is_looking = True
        for button in buttons:
            button.enabled = False
        try:
            yield
        finally:
            self._is_looking = False
            for button in buttons:
                button.enabled = not self._reason

    def _on_job(self, job: Any) -> None:
        if not job.is_finished:
            return
        self._job = None
        if job.error is not None:
            self._place.failed(job.error)
        else:
            self._say("\n".join([added_text(job.result()), *job.notes]))
        self._place.refresh()

    def _say(self, text: str) -> None:
        self._ui.addedLabel.text = breakable(text)
        self._ui.addedLabel.visible = True


def _empty_labels(proposal: Any) -> list[str]:
    """Labels without a voxel, each once."""
    found: dict[str, None] = {}
    for finding in proposal.findings:
        if finding.kind == _EMPTY:
            found[str(finding.details["label"])] = None
    return list(found)
