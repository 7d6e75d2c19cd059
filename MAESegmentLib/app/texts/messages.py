"""The panels' sentences: stages, times, sizes, devices."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ...errors import MAESegmentError
from ...images.segment_statistics import SegmentStatistics
from ...inference.islands import cleaned_text
from ...text import in_words
from ...translation import tr as _


def stage_text(stage: str) -> str:
    """A stage of `protocol.STAGES` in words."""
    return {
        "": _("Starting..."),
        "send": _("Sending the scan"),
        "load": _("Loading the model"),
        "locate": _("Placing the box"),
        "prepare": _("Preparing the scan"),
        "segment": _("Segmenting"),
        "restore": _("Resampling labels to the scan"),
        "write": _("Writing the result"),
    }.get(stage, stage)


def progress_text(state: str, stage: str, eta_s: float | None, position: int, *, is_starting: bool) -> str:
    """One line about a job under way."""
    if position > 0:
        return _("Waiting: {count} ahead").format(count=position)
    if state in ("PREPARING", "QUEUED") and is_starting:
        return _("Starting the segmentation process (a few seconds, only the first time)")
    text = stage_text(stage)
    if eta_s is not None and eta_s >= 1:
        text = _("{stage}, about {time} left").format(stage=text, time=duration_text(eta_s))
    return text


def overall_fraction(stage: str, fraction: float) -> float:
    """How far the whole is, 0..1: the network is nearly all of it."""
    begins = {"": 0.0, "send": 0.0, "load": 0.04, "prepare": 0.06, "segment": 0.10, "restore": 0.96, "write": 0.97}
    ends = {"send": 0.04, "load": 0.06, "prepare": 0.10, "segment": 0.96, "restore": 0.97, "write": 1.0}
    if stage == "locate":  # segmenting goes on from half of it
        return 0.06 + 0.47 * min(max(fraction, 0.0), 1.0)
    begin = begins.get(stage, 0.0)
    return begin + (ends.get(stage, begin) - begin) * min(max(fraction, 0.0), 1.0)


def duration_text(seconds: float) -> str:
    """ "8 s", "4 min", "1.5 h"."""
    if seconds < 90:
        return _("{n} s").format(n=max(1, math.ceil(seconds)))
    if seconds < 5400:
        return _("{n} min").format(n=round(seconds / 60))
    return _("{n} h").format(n=f"{seconds / 3600:.1f}")


def device_text(device: Mapping[str, Any]) -> str:
    """An entry of the device list."""
    title = str(device.get("title") or device.get("name"))
    free, total = device.get("free_bytes"), device.get("total_bytes")
    if not free or not total:
        return title
    return _("{title} ({free}/{total} GB)").format(title=title, free=gigabytes(free), total=gigabytes(total))


def device_tooltip(device: Mapping[str, Any]) -> str:
    """The same at length."""
    name, free, total = device.get("name"), device.get("free_bytes"), device.get("total_bytes")
    title = f"{device.get('title') or name} [{name}]"
    if not free or not total:
        return title
    return _("{title}: {free} of {total} GB of memory are free").format(
        title=title, free=gigabytes(free), total=gigabytes(total)
    )


def volume_text(millilitres: float, *, fine: bool = False) -> str:
    """As many figures as mean something; `fine` gives one more."""
    if millilitres >= 100:
        return f"{millilitres:.0f}"
    return f"{millilitres:.1f}" if millilitres >= (10 if fine else 1) else f"{millilitres:.2f}"


def statistics_text(measured: SegmentStatistics) -> str:
    """What the table of results has no column for."""
    figures = zip(measured.means, measured.deviations, strict=True)
    lines = [_("Grey values {mean:.4g} \u00b1 {sd:.3g}").format(mean=mean, sd=sd) for mean, sd in figures]
    size = " \u00d7 ".join(f"{length:.1f}" for length in measured.extent_mm)
    lines.append(_("{size} mm (right to left, front to back, bottom to top)").format(size=size))
    if measured.border_voxels:
        text = _("{n} voxels in the outermost slices of the scan: it may be cut off there.")
        lines.append(text.format(n=measured.border_voxels))
    return "\n".join(lines)


def result_text(summary: Any) -> str:
    """The line under the button, e.g. "hippocampus-mr 1.2.0: 2 segments, 6.1 ml, 1.8 s on NVIDIA T4"."""
    found, count = len(summary.found), len(summary.labels)
    segments = (
        _("{n} segments").format(n=count)
        if found == count
        else _("{found} of {n} segments found").format(found=found, n=count)
    )
    line = _("{model}: {segments}, {volume} ml, {seconds} s on {device}").format(
        model=summary.model.replace("@", " "),
        segments=segments,
        volume=volume_text(summary.total_ml),
        seconds=f"{summary.seconds:.1f}",
        device=summary.device_title or summary.device,
    )
    if summary.located_by:
        line = _("{line}. Boxes placed by {model}").format(line=line, model=summary.located_by)
    cleaned = cleaned_text({in_words(name): found for name, found in summary.cleaned.items()})
    return _("{line}. Cleaned: {what}").format(line=line, what=cleaned) if cleaned else line


def breakable(text: str) -> str:
    """With places where a label may break long paths and names: a word that cannot be broken widens the panel."""
    return re.sub(r"\S{25,}", lambda word: re.sub(r"([/\\_.,:;@=-]|\S{25})", "\\1\u200b", word.group()), text)


def tooltip(text: str) -> str:
    """Broken into lines: Qt shows a plain tooltip as one line, however long. A name in it is never taken for HTML."""
    lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, 72) or [""]]
    if "<" not in text:
        return "\n".join(lines)
    return f"<qt>{'<br>'.join(map(html.escape, lines))}</qt>"


def error_text(error: MAESegmentError) -> str:
    """Sentence and advice."""
    return f"{error.message} {error.hint}".strip()


def log_text(error: MAESegmentError) -> str:
    """For the log, with the kind of the error."""
    return f"{type(error).__name__}: {error}"


def gigabytes(size: float) -> str:
    """Of 2**30 bytes, as memory is sold."""
    figure = float(size) / 2**30
    return f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}"
