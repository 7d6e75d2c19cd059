"""What panels say about a model: its name, what it is for, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
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
    measured = _measured(bundle)
    if measured is None:
        return _("Its accuracy was not measured.")
    text = _("Mean Dice {dice} (n = {n} held-out cases)")
    if measured.get("indicative_only"):
        text = _("Mean Dice {dice} (n = {n}, leave-one-out: indicative only)")
    return text.format(dice=f"{float(measured['mean_dice_after']):.2f}", n=measured.get("cases", "?"))


def accuracy_beside(version: Bundle, in_use: Bundle) -> str:
    """As `accuracy_of`, for a list of versions: a mean stands beside that of the one in use only if both are over the
    same cases."""
    if version.content_hash == in_use.content_hash:
        return accuracy_of(version)
    here, there = _measured(version), _measured(in_use)
    if here is not None and there is not None and _cases_of(here) == _cases_of(there):
        return accuracy_of(version)
    if here is not None and _is_parent(in_use, version) and here.get("mean_dice_before") is not None:
        text = _("{accuracy}; the version in use {dice} on the same cases")
        return text.format(accuracy=accuracy_of(version), dice=f"{float(here['mean_dice_before']):.2f}")
    if there is not None and _is_parent(version, in_use) and there.get("mean_dice_before") is not None:
        text = _("Mean Dice {dice} on the cases of the version in use")
        return text.format(dice=f"{float(there['mean_dice_before']):.2f}")
    return _("Not measured on the same cases as the version in use.")


def _measured(bundle: Bundle) -> dict[str, Any] | None:
    metrics: Any = bundle.metadata["maesegment"].get("metrics") or {}
    measured = metrics.get("validation") or next(iter(metrics.values()), None)
    is_known = isinstance(measured, dict) and measured.get("mean_dice_after") is not None
    return measured if is_known else None


def _cases_of(measured: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a mean is over: the images by hash where they are listed, else what the words say; and the structures."""
    images = {str(case.get("image")) for case in measured.get("per_case") or ()}
    cases = images or (measured.get("held_out"), measured.get("cases"))
    return cases, measured.get("grid"), set(measured.get("dice_after") or ())


def _is_parent(bundle: Bundle, child: Bundle) -> bool:
    return child.parent is not None and child.parent["hash"] == bundle.content_hash


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
