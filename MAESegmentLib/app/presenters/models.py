"""The models that can be chosen, and what is shown of them."""

from __future__ import annotations

from typing import Any

from ...bundle import Bundle
from ...translation import tr as _
from ..texts.model_cards import name_of, summary_of


class ModelList:
    """By name@version, the newest version of each name first; `logic` has `models` and `defaultModel`."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic
        self.bundles: dict[str, Bundle] = {}

    def refresh(self) -> None:
        """Read the list again."""
        models = list(reversed(self._logic.models()))
        models.sort(key=lambda bundle: bundle.name)  # stable: versions keep their order
        self.bundles = {name_of(bundle): bundle for bundle in models}

    def get(self, name: str) -> Bundle | None:
        """The model called name@version."""
        return self.bundles.get(name)

    def default(self) -> str:
        """name@version of what is chosen at first; "" if there is no model."""
        bundle = self._logic.defaultModel()
        return name_of(bundle) if bundle is not None else ""

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
