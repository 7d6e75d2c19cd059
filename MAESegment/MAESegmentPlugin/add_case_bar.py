"""The view of `AddCasePresenter`: the button, the questions under it, and the quiet line that says what was stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MAESegmentLib.app.presenters.add_case import AddCasePresenter, CaseQuestion, role_options
from MAESegmentLib.app.presenters.elements import Option, Question
from MAESegmentLib.app.presenters.label_questions import LabelQuestion
from MAESegmentLib.app.texts.messages import breakable, error_text, tooltip
from MAESegmentLib.errors import MAESegmentError

from .ask_bar import AskBar
from .widgets import RowTable, connect, fit_height, text_item


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
        connect(ui.restCaseButton, "clicked()", self.presenter.leave_out_rest)
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
        ui.restCaseButton.text = question.rest_text
        ui.restCaseButton.visible = bool(question.rest_text)
        ui.confirmCaseButton.text = question.confirm_text
        ui.confirmCaseButton.enabled = not question.missing
        ui.confirmCaseButton.toolTip = tooltip(question.missing or self.presenter.state.tip)


class MappingTable:
    """A row for each segment, then for each empty label; `answer(row, key)` is called with what the user chooses."""

    def __init__(self, table: Any, answer: Callable[[int, str], None]) -> None:
        self._table = table
        self._answer = answer
        self._rows: tuple[Any, ...] = ()
        self._combos: list[Any] = []
        RowTable(table, "ss", (_("Segment"), _("Stored as")))

    def show(self, questions: Sequence[LabelQuestion]) -> None:
        """The boxes are made for new questions only: they change under the hand of the user."""
        rows = tuple((question.title, question.options) for question in questions)
        if rows == self._rows:
            for combo, question in zip(self._combos, questions, strict=True):
                combo.blockSignals(True)  # it is known already
                combo.setCurrentIndex(max(combo.findData(question.answer), 0))
                combo.blockSignals(False)
            return
        self._rows, self._combos = rows, []
        self._table.setRowCount(0)
        self._table.setRowCount(len(questions))
        for number, question in enumerate(questions):
            self._table.setItem(number, 0, text_item(question.title))
            self._combos.append(self._combo(number, question))
            self._table.setCellWidget(number, 1, self._combos[-1])
        fit_height(self._table, 8)

    def _combo(self, number: int, question: LabelQuestion) -> Any:
        combo = qt.QComboBox()
        combo.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(10)
        combo.toolTip = tooltip(question.tip)
        for option in question.options:
            combo.addItem(option.text, option.key)
            if option.tip:
                combo.setItemData(combo.count - 1, tooltip(option.tip), qt.Qt.ToolTipRole)
        combo.setCurrentIndex(max(combo.findData(question.answer), 0))
        connect(combo, "currentIndexChanged(int)", lambda _index: self._answer(number, str(combo.currentData)))
        return combo
