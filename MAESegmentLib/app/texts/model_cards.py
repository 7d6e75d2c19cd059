"""What panels say about a model: its name, what it is for, how good it is."""

from __future__ import annotations

from typing import Any

from ...bundle import Bundle
from ...text import in_words
from ...translation import tr as _
from .messages import tooltip

_LONGEST_LINE_IN_TOOLTIP = 300


def name_of(bundle: Bundle) -> str:
    """How panels and scenes name a model."""
    return f"{bundle.name}@{bundle.version}"


def summary_of(bundle: Bundle) -> str:
    """What it is for, and its accuracy with the number of cases."""
    lines = [str(bundle.metadata.get("description", "")).strip(), accuracy_of(bundle)]
    return "\n".join(line for line in lines if line)


def accuracy_of(bundle: Bundle) -> str:
    """ "Mean Dice 0.87 (n = 40 held-out cases)", or that nothing was measured."""
    metrics: Any = bundle.metadata["maesegment"].get("metrics") or {}
    measured = metrics.get("validation") or next(iter(metrics.values()), None)
    if not isinstance(measured, dict) or measured.get("mean_dice_after") is None:
        return _("Its accuracy was not measured.")
    text = _("Mean Dice {dice} (n = {n} held-out cases)")
    if measured.get("indicative_only"):
        text = _("Mean Dice {dice} (n = {n}, leave-one-out: indicative only)")
    return text.format(dice=f"{float(measured['mean_dice_after']):.2f}", n=measured.get("cases", "?"))


def card_tooltip(bundle: Bundle) -> str:
    """The essentials of the card."""
    metadata = bundle.metadata
    lines = [
        f"{bundle.name} {bundle.version}",
        *summary_of(bundle).splitlines(),
        _("Segments: {names}").format(names=", ".join(in_words(label.name) for label in bundle.labels)),
        _("Use: {text}").format(text=metadata.get("intended_use", "")),
        _("Data: {text}").format(text=metadata.get("data_source", "")),
        _("Licence: {text}").format(text=metadata["maesegment"].get("licence", "")),
    ]
    cut = [line if len(line) <= _LONGEST_LINE_IN_TOOLTIP else line[:_LONGEST_LINE_IN_TOOLTIP] + "..." for line in lines]
    return tooltip("\n".join(cut))
