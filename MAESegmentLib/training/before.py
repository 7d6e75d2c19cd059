"""What the base reaches on the held-out cases of a folder, measured before training begins and kept there."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ..storage.atomic_file import write_file
from .saving import finite
from .tasks.segmentation import DiceTable, mean_by_label, mean_dice

BEFORE = "before.json"


def keep_before(folder: Path, identity: str, table: DiceTable) -> None:
    """`identity` is of the cases and the base."""
    means = {**mean_by_label(table), "mean": mean_dice(table)}
    by_label = {name: value for name, value in means.items() if math.isfinite(value)}
    folder.mkdir(parents=True, exist_ok=True)
    content = {"identity": identity, "table": finite(table), "by_label": by_label}
    write_file(folder / BEFORE, json.dumps(content))


def read_before(folder: Path, identity: str) -> DiceTable | None:
    """None if it was not measured, or of others."""
    try:
        content = json.loads((folder / BEFORE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if content.get("identity") != identity:
        return None
    return {
        case: {label: math.nan if value is None else float(value) for label, value in row.items()}
        for case, row in content["table"].items()
    }
