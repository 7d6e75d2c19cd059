"""The view of `AddCasePresenter`: the button, the questions under it, and the quiet line that says what was stored."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.add_case import AddCasePresenter, CaseQuestion, role_options
from MAESegmentLib.app.presenters.elements import Option, Question
from MAESegmentLib.app.texts.messages import breakable, error_text, tooltip
from MAESegmentLib.errors import MAESegmentError

from .ask_bar import AskBar
from .mapping_table import MappingTable
from .qt_connection import connect


class AddCaseBar:
    """`host` is the section Improve."""

    def __init__(self, ui: Any, logic: Any, host: Any) -> None:
        self._ui = ui
        self.presenter = AddCasePresenter(logic, host, self._show)
        self._note = AskBar(ui, "improveNote", self._act)
        self._error = ""
        self._mapping = MappingTable(ui.mappingTable, self.presenter.answer)
        for option in role_options():
            ui.addRoleComboBox.addItem(option.text, option.key)
        connect(ui.addRoleComboBox, "currentIndexChanged(int)", lambda _index: self._on_role())
        connect(ui.regionCheckBox, "toggled(bool)", self.presenter.set_only_region)
        connect(ui.addCaseButton, "clicked()", self._on_add)
        connect(ui.namesButton, "clicked()", lambda: self._on_add(check_names=True))
        connect(ui.confirmCaseButton, "clicked()", self.presenter.confirm)
        connect(ui.cancelCaseButton, "clicked()", self.presenter.cancel)
        self._show()

    def show_error(self, error: MAESegmentError) -> None:
        """What went wrong, where the user looks."""
        self._say(error_text(error))

    def clear(self) -> None:
        """The scene goes."""
        self.presenter.clear()
        self._say("")

    def _on_role(self) -> None:
        self.presenter.set_role(str(self._ui.addRoleComboBox.currentData))

    def _on_add(self, *, check_names: bool = False) -> None:
        self._say("")
        self.presenter.add(check_names=check_names)

    def _show(self) -> None:
        ui, state = self._ui, self.presenter.state
        ui.addCaseButton.enabled = ui.namesButton.enabled = state.can_add
        ui.addCaseButton.text = state.button_text
        ui.addCaseButton.toolTip = tooltip(state.tip)
        ui.addRoleComboBox.enabled = not (state.is_busy or state.blocked)
        ui.regionCheckBox.visible = state.has_region
        ui.regionCheckBox.checked = state.only_region
        ui.addedLabel.text = breakable(state.added)
        ui.addedLabel.visible = bool(state.added)
        ui.questionFrame.visible = state.question is not None
        if state.question is not None:
            self._show_question(state.question)
        else:
            self._mapping.show(())
        self._show_note()

    def _say(self, error: str) -> None:
        self._error = error
        self._show_note()

    def _show_note(self) -> None:
        """What went wrong, until it is closed; then what is asked still."""
        error = Question(self._error, (Option("close", _("Close")),)) if self._error else None
        self._note.show(error or self.presenter.state.asks)

    def _act(self, key: str) -> None:
        if key == "close":
            self._say("")
        else:
            self.presenter.act(key)

    def _show_question(self, question: CaseQuestion) -> None:
        ui = self._ui
        ui.questionLabel.text = breakable(question.text)
        self._mapping.show(question.rows)
        ui.mappingTable.visible = bool(question.rows)
        ui.findingsLabel.text = breakable(question.issues)
        ui.findingsLabel.visible = bool(question.issues)
        ui.confirmCaseButton.text = question.confirm_text
        ui.confirmCaseButton.enabled = not question.missing
        ui.confirmCaseButton.toolTip = tooltip(question.missing or self.presenter.state.tip)
