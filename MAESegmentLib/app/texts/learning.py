"""The panels' sentences about cases, which to correct next, fine-tuning and versions; values in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ...bundle import Bundle
from ...cases.records import CHECK, CaseRecord
from ...text import in_words
from ...translation import tr as _
from .messages import duration_text, gigabytes, volume_text

_MOST_LABELS = 6
#: From this many cases on, some are held out automatically.
ENOUGH_CASES = 5


def labels_text(record: CaseRecord, *, separator: str = ", ") -> str:
    """ "anterior 1.2 ml, posterior 1.1 ml"; what was looked for and is not there says so."""
    lines = []
    for name in record.labels[:_MOST_LABELS]:
        volume = record.volumes_ml.get(name, 0.0)
        text = _("{label} {volume} ml") if volume > 0 else _("{label} not there")
        lines.append(text.format(label=in_words(name), volume=volume_text(volume)))
    if len(record.labels) > _MOST_LABELS:
        lines.append(_("{n} more").format(n=len(record.labels) - _MOST_LABELS))
    return separator.join(lines)


def case_text(record: CaseRecord, scan: str = "") -> str:
    """A case in the table: a line each for its name, what is drawn in it, and what is not known of it.

    `scan` is what its scan is called where it is open.
    """
    name = f"{record.id} ({scan})" if scan not in ("", record.id) else record.id
    part = _("Only a part was annotated") if record.partial else ""
    return "\n".join(line for line in (name, labels_text(record), _unknown_text(record), part) if line)


def _unknown_text(record: CaseRecord) -> str:
    if not record.unknown:
        return ""
    names = ", ".join(map(in_words, record.unknown[:_MOST_LABELS]))
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


def validation_text(records: Sequence[CaseRecord], *, is_validated: bool = True) -> str:
    """How it will be measured whether the model improves."""
    held_out = validation_count(records)
    training = len(records) - held_out
    if not is_validated:
        return _("The accuracy is not estimated: compare the new version with this one on a scan before you use it.")
    if held_out:
        return _("The validation cases show whether the model improves.")
    if training >= ENOUGH_CASES:
        return _("Some cases are held out to show whether the model improves.")
    if training > 1:
        return _("With fewer than five cases, validation is leave-one-out: indicative only.")
    return _("A single case cannot be validated: add a second one to see whether the model improves.")


def plan_text(
    records: Sequence[CaseRecord], base: Bundle | None, estimate: Any = None, *, is_validated: bool = True
) -> str:
    """What fine-tuning would do."""
    if not records or base is None:
        return _("Add corrected cases first; the model can then learn from them.")
    lines = [f"{cases_text(records)}. " + _("Base: {name} {version}.").format(name=base.name, version=base.version)]
    if estimate is not None:
        lines.append(estimate_text(estimate))
    lines.append(validation_text(records, is_validated=is_validated))
    lines += [f"\u26a0 {warning}" for warning in estimate.warnings] if estimate is not None else []
    return "\n".join(lines)


def estimate_text(estimate: Any) -> str:
    """ "About 12 min for 800 steps on Intel ... (measured); needs 1.1 of 12 GB memory"."""
    text = _("About {time} for {steps} steps on {device} (measured)").format(
        time=duration_text(estimate.seconds), steps=estimate.steps, device=estimate.device_title
    )
    if estimate.memory_bytes and estimate.free_bytes:
        text += _("; needs {needed} of {free} GB of free memory").format(
            needed=gigabytes(estimate.memory_bytes), free=gigabytes(estimate.free_bytes)
        )
    return f"{text}."


def run_text(status: Any, now: datetime, *, at_latest: bool = False, notes: Sequence[str] = ()) -> str:
    """What a run is doing, when it will end by the clock, and how much longer that is. `at_latest`: or earlier.

    Below stand what it warns of, and `notes` about what it was given.
    """
    text = status.text or _("Starting ...")
    if status.eta_s is not None and status.eta_s >= 1:
        ends = (
            _("{text} Ends at {clock} at the latest ({time} left)")
            if at_latest
            else _("{text} Ends at about {clock} ({time} left)")
        )
        # By the clock on the wall, also in a night in which that changes.
        clock = clock_text(datetime.fromtimestamp(now.timestamp() + status.eta_s, now.tzinfo), now)
        text = ends.format(text=text.rstrip(". ") + ".", clock=clock, time=duration_text(status.eta_s))
    if status.device_title:
        text = _("{text}, on {device}").format(text=text.rstrip(". "), device=status.device_title)
    return "\n".join([text.rstrip(". ") + ".", *(f"\u26a0 {warning}" for warning in (*notes, *status.warnings))])


def clock_text(moment: datetime, now: datetime) -> str:
    """ "14:32", "06:10 tomorrow", or with its date."""
    days = (moment.date() - now.date()).days
    if days > 1:
        return f"{moment:%Y-%m-%d %H:%M}"
    return _("{clock} tomorrow").format(clock=f"{moment:%H:%M}") if days else f"{moment:%H:%M}"


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
