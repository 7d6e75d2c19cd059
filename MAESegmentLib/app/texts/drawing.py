"""The panels' sentences about what a user drew, and what followed from it; values in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...propagation.reasons import why
from ...text import in_words
from ...translation import tr as _
from .messages import duration_text

_MOST_NAMES = 4


def understood_text(found: Any) -> str:
    """What an update would do with an `app.drawn.Understood`."""
    planes = (found, *found.also)
    what = "; ".join(part for one in planes for part in _drawn(one))
    whole = _("All of a corrected slice counts as right. ") if any(one.corrected for one in planes) else ""
    text = _("{what}. {whole}The rest will follow; what you drew stays.").format(what=what, whole=whole)
    return " ".join([text, *found.notes])


def _drawn(found: Any) -> list[str]:
    """In one plane."""
    parts = []
    if found.corrected:
        one, more = _("1 corrected {plane} slice"), _("{n} corrected {plane} slices")
        parts.append((one if found.corrected == 1 else more).format(n=found.corrected, plane=_plane(found.plane)))
        if found.names:
            parts[-1] = _("{slices} of {names}").format(slices=parts[-1], names=_listed(found.names))
    for name, slices in found.structures:
        text = _("{name} drawn on {n} {plane} slices")
        parts.append(text.format(name=in_words(name), n=slices, plane=_plane(found.plane)))
    return parts


def updated_text(summary: Any, seconds: float) -> str:
    """What became of each structure, by which method and why, and that the model knows nothing of it."""
    lines = [_("Updated in {time}.").format(time=duration_text(seconds))]
    for one in summary.followed:
        text = _("{name}: {why} ({n} {plane} slices).")
        if len(one["slices"]) == 1:
            text = _("{name}: {why} (1 {plane} slice).")
        reason, name = why(one["method"], one.get("dice")), in_words(one["name"])
        lines.append(
            text.format(name=name, why=reason, n=len(one["slices"]), plane=_plane(one.get("plane") or summary.plane))
        )
    if not summary.followed:
        lines.append(_("No other slice changed: the others are too far away, or were right already."))
    return "\n".join([*lines, _unchanged()])


def grown_text(summary: Any, seconds: float) -> str:
    """What each structure gained and lost beside the strokes: where only background was drawn, nothing else tells."""
    lines = [_("Grown in {time}.").format(time=duration_text(seconds))]
    for one in summary.changed:
        parts = [(one["more_ml"], _("{ml:.3g} ml more")), (one["less_ml"], _("{ml:.3g} ml less"))]
        changes = ", ".join(text.format(ml=ml) for ml, text in parts if ml)
        lines.append(_("{name}: {changes}.").format(name=in_words(one["name"]), changes=changes))
    if not summary.changed:
        lines.append(_("Nothing changed beside what you drew."))
    return "\n".join([*lines, _unchanged()])


def _plane(plane: str) -> str:
    return {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}.get(plane, plane)


def _unchanged() -> str:
    return _("What you drew is as you drew it. The model is unchanged: add the case to teach it.")


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(map(in_words, names[:_MOST_NAMES]))
    more = len(names) - _MOST_NAMES
    return _("{names} and {n} more").format(names=listed, n=more) if more > 0 else listed
