"""What panels say about corrected cases and which to correct next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...cases.records import CHECK, CaseRecord
from ...translation import tr as _
from .messages import volume_text

_MOST_LABELS = 6


def labels_text(record: CaseRecord, *, separator: str = ", ") -> str:
    """ "anterior 1.2 ml, posterior 1.1 ml"; what was looked for and is not there says so."""
    lines = []
    for name in record.labels[:_MOST_LABELS]:
        volume = record.volumes_ml.get(name, 0.0)
        text = _("{label} {volume} ml") if volume > 0 else _("{label} not there")
        lines.append(text.format(label=name, volume=volume_text(volume)))
    if len(record.labels) > _MOST_LABELS:
        lines.append(_("{n} more").format(n=len(record.labels) - _MOST_LABELS))
    return separator.join(lines)


def case_text(record: CaseRecord) -> str:
    """A case in the table: a line each for its name, what is drawn in it, and what is not known of it."""
    part = _("Only a part was annotated") if record.partial else ""
    return "\n".join(line for line in (record.id, labels_text(record), _unknown_text(record), part) if line)


def _unknown_text(record: CaseRecord) -> str:
    if not record.unknown:
        return ""
    names = ", ".join(record.unknown[:_MOST_LABELS])
    more = len(record.unknown) - _MOST_LABELS
    if more > 0:
        names += ", " + _("{n} more").format(n=more)
    return _("Not annotated: {labels}").format(labels=names)


def added_text(record: CaseRecord) -> str:
    """The quiet line after a case was stored."""
    text = _("{case} updated: {labels}.") if record.revision > 1 else _("{case} added: {labels}.")
    lines = [text.format(case=record.id, labels=labels_text(record)), _unknown_text(record)]
    return "\n".join(line for line in lines if line)


def cases_text(records: Sequence[CaseRecord]) -> str:
    """ "4 cases, 1 of them for validation"."""
    if not records:
        return _("No corrected cases yet. Correct a segmentation, then add it: three or four make a difference.")
    held_out = validation_count(records)
    text = _("1 case") if len(records) == 1 else _("{n} cases").format(n=len(records))
    return f"{text}, " + _("{n} for validation").format(n=held_out) if held_out else text


def validation_count(records: Sequence[CaseRecord]) -> int:
    """How many of the cases are held out."""
    return sum(record.role == CHECK for record in records)


def issues_text(issues: Sequence[Any]) -> str:
    """Each issue with what to do about it."""
    signs = {"error": "\u2716", "warning": "\u26a0"}
    return "\n".join(f"{signs.get(one.severity, '')} {one.message} {one.hint}".strip() for one in issues)


def ranked_text(row: Any) -> str:
    """Why a scan is worth correcting."""
    if row.error is not None:
        return str(getattr(row.error, "message", row.error))
    if row.score is None:
        return _("waiting")
    return _("uncertainty {value}").format(value=f"{row.score:.2f}")


def ranked_tip(row: Any) -> str:
    """What the figure is, and what the model warns of."""
    if row.score is None:
        return ranked_text(row)
    meaning = _("How uncertain the model is about what it finds in mirrored copies of the scan: 0 (certain) to 1.")
    return "\n".join([meaning, *row.uncertainty.warnings]) if row.uncertainty is not None else meaning


def record_text(record: CaseRecord) -> str:
    """Size, model and date of a case."""
    size = " x ".join(str(n) for n in record.shape)
    spacing = " x ".join(f"{mm:g}" for mm in record.spacing)
    lines = [_("{size} voxels of {spacing} mm").format(size=size, spacing=spacing)]
    if record.model:
        lines.append(
            _("Corrected from {name} {version}").format(
                name=record.model.get("name", "?"), version=record.model.get("version", "?")
            )
        )
    if record.added:
        lines.append(_("Stored on {date}").format(date=record.added))
    return "\n".join(lines)
