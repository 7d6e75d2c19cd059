"""What a result says of how it was made, noted on its node: that outlives the program, as the node itself does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import MAESegmentError
from ..images.labels import Label
from ..images.segment_statistics import SegmentStatistics
from ..inference.islands import Cleaned
from ..inference.settings import SegmentationSummary

_SUMMARY = "MAESegment.Summary"
#: Characters. What is longer was not written here.
_LONGEST = 1 << 16


def note_summary(node: Any, summary: SegmentationSummary) -> None:
    """For `summary_of`, in place of what was noted of an earlier result."""
    noted = {
        "model": summary.model,
        "labels": [[label.value, label.name] for label in summary.labels],
        "volumes_ml": {str(value): ml for value, ml in summary.volumes_ml.items()},
        "seconds": summary.seconds,
        "device": summary.device_title or summary.device,
        "warnings": list(summary.warnings),
        "statistics": {str(value): asdict(one) for value, one in summary.statistics.items()},
        "cleaned": {name: asdict(one) for name, one in summary.cleaned.items()},
        "located_by": summary.located_by,
    }
    text = json.dumps(noted)
    if len(text) > _LONGEST:
        text = json.dumps({**noted, "statistics": {}})
    node.SetAttribute(_SUMMARY, text if len(text) <= _LONGEST else None)


def summary_of(node: Any) -> SegmentationSummary | None:
    """None if it is not a result, or that is not known: files come from anywhere."""
    text = node.GetAttribute(_SUMMARY) or ""
    if not 0 < len(text) <= _LONGEST:
        return None
    try:
        return _summary(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MAESegmentError):
        return None


def _summary(noted: Mapping[str, Any]) -> SegmentationSummary:
    cleaned = {str(name): Cleaned(**one) for name, one in noted["cleaned"].items()}
    for one in cleaned.values():
        for figure in asdict(one).values():
            _figure(figure)
    return SegmentationSummary(
        labels=tuple(Label(int(_figure(value)), str(name)) for value, name in noted["labels"]),
        volumes_ml={int(value): _figure(ml) for value, ml in noted["volumes_ml"].items()},
        seconds=_figure(noted["seconds"]),
        network_seconds=0.0,
        device=str(noted["device"]),
        device_title=str(noted["device"]),
        model=str(noted["model"]),
        warnings=tuple(map(str, noted["warnings"])),
        cleaned=cleaned,
        statistics=SegmentStatistics.by_value(noted.get("statistics", {})),
        located_by=str(noted.get("located_by", "")),
    )


def _figure(value: Any) -> float:
    """A count or an amount."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("this is not an amount")
    return float(value)
