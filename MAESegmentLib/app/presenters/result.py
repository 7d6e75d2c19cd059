"""What came out of a segmentation: one line, the segments with their volumes, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...text import in_words
from ...translation import tr as _
from ..texts.messages import result_text, statistics_text, volume_text


@dataclass(frozen=True)
class ResultRow:
    """`volume` is a figure in ml, or a word or a dash where there is none; `colour` is sRGB 0..255."""

    segment_id: str
    name: str
    colour: tuple[int, int, int]
    volume: str
    tip: str = ""
    #: Of the figure; "" where there is none.
    unit: str = ""

    @property
    def volume_with_unit(self) -> str:
        """For where no header names the unit."""
        return f"{self.volume} {self.unit}".strip()


@dataclass(frozen=True)
class ResultView:
    """`warnings` has one line each."""

    line: str
    rows: tuple[ResultRow, ...] = ()
    warnings: str = ""


def result_view(name: str, scan: str, summary: Any, segments: Sequence[Any], *, is_edited: bool) -> ResultView:
    """Of the segmentation called `name` of the scan called `scan` with these `mrml.Segment`s; `summary` is None if it
    is not a result.

    What was edited since has other volumes than the summary says, so none are shown, nor their sum. What is
    not a result has a dash for each, so that nobody waits for figures.
    """
    rows = []
    for segment in segments:
        figure, unit, tips = "\u2013", "", [segment.terminology.type.meaning]
        if summary is not None and is_edited:
            figure = _("empty") if segment.is_empty else _("edited")
        elif summary is not None:
            number = segment.id.partition("_")[2]
            volume = summary.volumes_ml.get(int(number), 0.0) if number.isdecimal() else 0.0
            figure, unit = (volume_text(volume, fine=True), "ml") if volume > 0 else (_("not found"), "")
            measured = summary.statistics.get(int(number)) if volume > 0 else None
            if measured is not None:
                tips.append(statistics_text(measured))
                # What reaches the border of the scan may be larger than what was scanned of it.
                figure = f"\u2265 {figure}" if measured.border_voxels else figure
        tip = "\n".join(filter(None, tips))
        rows.append(ResultRow(segment.id, in_words(segment.name), segment.colour, figure, tip, unit))
    # A sign, not a colour: styles differ, and not everyone sees them.
    warnings = "\n".join(f"\u26a0 {warning}" for warning in summary.warnings) if summary is not None else ""
    text = name
    if summary is not None:
        edited = _("{model}, edited since").format(model=summary.model.replace("@", " "))
        text = edited if is_edited else result_text(summary)
    # A name that begins with the scan's says it.
    says_scan = not scan or (summary is None and name.startswith(scan))
    line = text if says_scan else f"{scan} \u2013 {text}"
    return ResultView(line, tuple(rows), warnings)
