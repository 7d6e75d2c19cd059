"""The panels' sentences about cases, fine-tuning and versions; values in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...bundle import Bundle
from ...cases.records import CaseRecord
from ...translation import tr as _
from .cases import cases_text, validation_count
from .messages import duration_text

#: From this many cases on, some are held out automatically.
ENOUGH_CASES = 5


def validation_text(records: Sequence[CaseRecord]) -> str:
    """How it will be measured whether the model improves."""
    held_out = validation_count(records)
    training = len(records) - held_out
    if held_out:
        return _("The validation cases show whether the model improves.")
    if training >= ENOUGH_CASES:
        return _("Some cases are held out to show whether the model improves.")
    if training > 1:
        return _("With fewer than five cases, validation is leave-one-out: indicative only.")
    return _("A single case cannot be validated: add a second one to see whether the model improves.")


def plan_text(records: Sequence[CaseRecord], base: Bundle | None, estimate: Any = None) -> str:
    """What fine-tuning would do."""
    if not records or base is None:
        return _("Add corrected cases first; the model can then learn from them.")
    lines = [f"{cases_text(records)}. " + _("Base: {name} {version}.").format(name=base.name, version=base.version)]
    if estimate is None:
        lines.append(validation_text(records))
        return "\n".join(lines)
    lines.append(estimate_text(estimate))
    lines.append(validation_text(records))
    lines += [f"\u26a0 {warning}" for warning in estimate.warnings]
    return "\n".join(lines)


def estimate_text(estimate: Any) -> str:
    """ "About 12 min on Intel ... (measured); needs 1.1 of 12 GB memory"."""
    text = _("About {time} on {device} (measured)").format(
        time=duration_text(estimate.seconds), device=estimate.device_title
    )
    if estimate.memory_bytes and estimate.free_bytes:
        text += _("; needs {needed} of {free} GB of free memory").format(
            needed=gigabytes(estimate.memory_bytes), free=gigabytes(estimate.free_bytes)
        )
    return f"{text}."


def gigabytes(size: float) -> str:
    figure = size / 2**30
    return f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}"


def run_text(status: Any) -> str:
    """What a run is doing, and how much longer it takes."""
    text = status.text or _("Starting ...")
    if status.eta_s is not None and status.eta_s >= 1:
        text = _("{text} About {time} left").format(text=text.rstrip(". ") + ".", time=duration_text(status.eta_s))
    if status.device_title:
        text = _("{text}, on {device}").format(text=text.rstrip(". "), device=status.device_title)
    return text.rstrip(". ") + "."


def interrupted_text(status: Any) -> str:
    """For a run whose process is gone."""
    if status.error is not None:
        return f"{status.error.message} {status.error.hint}".strip()
    return _("Fine-tuning was interrupted at {percent} %; its progress is saved.").format(
        percent=round(100 * status.fraction)
    )


def banner_text(result: Any) -> str:
    """The result in a sentence, and what to do if it is no gain."""
    lines = [result.banner]
    if result.is_better is False:
        lines.append(_("It is not better than {name} {version}: keep the old one.").format(**_reference(result.parent)))
    elif result.is_better is None:
        lines.append(_("Compare both on a scan before you decide."))
    return "\n".join([*lines, *result.notes])


def _reference(reference: Mapping[str, str]) -> dict[str, str]:
    return {"name": reference.get("name", "?"), "version": reference.get("version", "?")}


def dice_text(value: float | None) -> str:
    return f"{value:.2f}" if value is not None else "\u2013"


def change_text(before: float | None, after: float | None) -> str:
    """ "0.71 -> 0.83", with an arrow down if it fell: a sign, not a colour."""
    text = f"{dice_text(before)} \u2192 {dice_text(after)}" if before is not None else dice_text(after)
    is_worse = before is not None and after is not None and round(after, 2) < round(before, 2)
    return f"{text} \u25be" if is_worse else text
