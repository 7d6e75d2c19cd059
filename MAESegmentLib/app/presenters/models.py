"""The models that can be chosen, and what is shown of them."""

from __future__ import annotations

from typing import Any

from ...bundle import Bundle
from ...errors import MAESegmentError
from ...translation import tr as _
from ..texts.model_cards import name_of, summary_of


class ModelList:
    """By name@version, the newest version of each name first, and which one is chosen for a scan (nodes of Slicer).

    `logic` has `models`, `defaultModel`, `preferModel` and `canFit`.
    """

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self.bundles: dict[str, Bundle] = {}
        self._proposed = ""

    def refresh(self) -> None:
        """Read the list again."""
        models = list(reversed(self._logic.models()))
        models.sort(key=lambda bundle: bundle.name)  # stable: versions keep their order
        self.bundles = {name_of(bundle): bundle for bundle in models}

    def get(self, name: str) -> Bundle | None:
        """The model called name@version."""
        return self.bundles.get(name)

    def default(self, volume: Any = None) -> str:
        """name@version of what is proposed at first, or for a volume; "" if there is no model."""
        bundle = self._logic.defaultModel(volume)
        return self.propose(name_of(bundle) if bundle is not None else "")

    def propose(self, name: str) -> str:
        """Choose `name` without the user's word: it gives way, and is not remembered."""
        self._proposed = name
        return name

    def for_scan(self, chosen: str, volume: Any) -> str:
        """What is chosen now that the scan is another: the user's own choice stays if it can fit."""
        if volume is None:
            return chosen
        bundle = self.get(chosen)
        is_own = chosen not in ("", self._proposed)
        if is_own and (bundle is None or self._logic.canFit(volume, bundle)):
            return chosen
        return self.default(volume) or chosen

    def picked(self, name: str, volume: Any) -> None:
        """The choice is `name`; what was not only proposed is remembered for scans of this kind."""
        bundle = self.get(name)
        if bundle is None or name == self._proposed:
            return
        self._proposed = ""
        try:
            self._logic.preferModel(volume, bundle)
        except MAESegmentError as error:  # nothing is lost but the convenience
            self._logic.session.log.add("warning", str(error))

    def info(self, name: str) -> str:
        """What the chosen model is for and how good it is; or why there is none."""
        bundle = self.get(name)
        if bundle is not None:
            return summary_of(bundle)
        if not self.bundles:
            return _("There is no model: import one.")
        if name:
            text = _("The scene asks for model {name}, which is not installed. Choose another, or import it.")
            return text.format(name=name)
        return _("Choose a model.")
