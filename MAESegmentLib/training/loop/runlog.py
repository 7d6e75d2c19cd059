"""The log of a run: CSV files anyone can open, and TensorBoard. Both are cut back to the checkpoint on resume."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ...storage.atomic_file import replacing
from ...text import csv_cell, csv_text, visible

TRAINING_LOG = "log.csv"
VALIDATION_LOG = "validation.csv"


class RunLog:
    """Rows of `log.csv` (loss, ...) and `validation.csv`, each by step, and the same as TensorBoard scalars."""

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        self.folder = folder
        for name in (TRAINING_LOG, VALIDATION_LOG):
            _truncate(folder / name, resume_step)
        self._writer = _tensorboard(folder / "tensorboard", resume_step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        self._append(TRAINING_LOG, step, values)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        self._append(VALIDATION_LOG, step, values)

    def _append(self, name: str, step: int, values: Mapping[str, float]) -> None:
        path = self.folder / name
        is_new = not path.exists() or path.stat().st_size == 0
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", *map(csv_cell, values)])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(f"{Path(name).stem}/{visible(key)}", value, step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a log as numbers; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{csv_text(key): float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _truncate(path: Path, last_step: int) -> None:
    """Keep the header and complete rows up to `last_step`."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[0]) <= last_step]
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([rows[0], *kept] if rows else [])


def _tensorboard(folder: Path, resume_step: int):  # type: ignore[no-untyped-def]
    """A SummaryWriter, or None where TensorBoard is not installed: the CSV files say the same."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resume_step + 1)
