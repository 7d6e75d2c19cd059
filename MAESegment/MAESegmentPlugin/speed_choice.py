"""The view of `SpeedPresenter`: the box beside Segment."""

from __future__ import annotations

from typing import Any

from MAESegmentLib.app.presenters.speed import SpeedPresenter
from MAESegmentLib.app.texts.messages import tooltip

from .widgets import connect


class SpeedChoice:
    def __init__(self, combo: Any, presenter: SpeedPresenter) -> None:
        self._combo = combo
        self._presenter = presenter
        self._is_filling = False
        self._options: tuple[Any, ...] = ()
        connect(combo, "currentIndexChanged(int)", lambda _index: self._on_choice())

    def update(self, *, enabled: bool) -> None:
        combo, state = self._combo, self._presenter.state()
        self._is_filling = True
        if state.options != self._options:
            self._options = state.options
            combo.clear()
            for option in state.options:
                combo.addItem(option.text, option.key)
        combo.setCurrentIndex(combo.findData(state.chosen))
        self._is_filling = False
        combo.enabled = enabled
        combo.toolTip = tooltip(state.tip)

    def _on_choice(self) -> None:
        if not self._is_filling:
            self._presenter.choose(str(self._combo.currentData))
