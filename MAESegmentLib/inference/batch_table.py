"""`volumes.csv`: one row per volume, appended by any number of processes, whole after any of them was killed."""

from __future__ import annotations

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..images.labels import Label
from ..storage.atomic_file import replacing
from ..storage.lock import FileLock
from ..text import csv_cell, csv_text

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class VolumeRow:
    """What became of one scan. `stamp` is that of its files, `output_bytes` the size of what was written."""

    key: str
    volume: str
    status: str
    source: str
    stamp: str
    finished: str  # UTC, as `utc_now` gives it
    series_uid: str = ""
    reason: str = ""
    seconds: float = 0.0
    output: str = ""  # relative to the table's folder
    output_bytes: int = 0
    device: str = ""
    rank: int = 0
    warnings: str = ""
    ml: Mapping[int, float] = field(default_factory=dict)  # label value -> volume
    cleaned: str = ""


class VolumeTable:
    """The rows in `folder`/volumes.csv; several processes may have it open, on one machine or on several.

    A row is one line, written in one piece; half a row that a killed process left is removed by the next one to write.
    Text stands there as `csv_cell` has it, and is given back so.
    """

    def __init__(self, folder: Path, labels: Sequence[Label]) -> None:
        self.path = folder / "volumes.csv"
        self._lock = FileLock(folder / ".volumes.lock")
        self._labels = _columns_of(labels)
        self._rows: dict[str, VolumeRow] = {}
        self._read_to = 0
        self._identity: tuple[int, int] | None = None
        self._is_current = False

    def rows(self) -> dict[str, VolumeRow]:
        """By key, what all processes have written so far; only what is new is read."""
        with self._lock:
            self._read()
        return self._rows

    def put(self, row: VolumeRow) -> None:
        """Append `row`; it takes the place of an earlier one of the same scan."""
        with self._lock:
            self._read()
            if row.key in self._rows or not self._is_current:
                self._rows[row.key] = row
                self._write_all()
            else:
                self._append(row)
            self._read()

    def _read(self) -> None:
        try:
            with self.path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                identity = (status.st_dev, status.st_ino)
                if identity != self._identity:  # replaced by another process
                    self._rows, self._read_to, self._identity = {}, 0, identity
                stream.seek(self._read_to)
                added = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        whole = added[: added.rfind(b"\n") + 1]
        if not self._read_to:
            self._is_current = whole.startswith(_joined(self._columns))
        self._read_to += len(whole)
        for cells in csv.DictReader(io.StringIO(whole.decode(errors="replace")), fieldnames=self._columns):
            row = self._from_cells(cells)
            if row is not None:
                self._rows[row.key] = row

    def _append(self, row: VolumeRow) -> None:
        try:
            with self.path.open("rb+") as stream:
                stream.truncate(self._read_to)  # half a row
                stream.seek(self._read_to)
                stream.write(self._line(row))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written: {error.strerror or error}.", "Free some space, then run it again."
            ) from error

    def _write_all(self) -> None:
        header = _joined(self._columns)
        with replacing(self.path) as temporary:
            temporary.write_bytes(header + b"".join(map(self._line, self._rows.values())))

    @property
    def _columns(self) -> list[str]:
        return [*_COLUMNS, *self._labels, "cleaned"]  # the last: tables of versions before have none

    def _line(self, row: VolumeRow) -> bytes:
        cells = [_text(getattr(row, name)) for name in _COLUMNS]
        cells += [f"{row.ml[value]:.6g}" if value in row.ml else "" for value in self._labels.values()]
        return _joined([*cells, _text(row.cleaned)])

    def _from_cells(self, cells: Mapping[str, str | None]) -> VolumeRow | None:
        """None for the header, and for what a user may have typed into the file."""
        try:
            values = {name: _KIND.get(name, csv_text)(cells[name] or "") for name in _COLUMNS}
            ml = {value: float(cells[column] or "") for column, value in self._labels.items() if cells[column]}
            return VolumeRow(**values, ml=ml, cleaned=csv_text(cells["cleaned"] or ""))
        except (KeyError, TypeError, ValueError):
            return None


#: What a user looks for stands first.
_COLUMNS = (
    *("volume", "status", "reason", "seconds", "output", "source", "series_uid", "device", "rank", "warnings"),
    *("finished", "stamp", "output_bytes", "key"),
)
_KIND: Mapping[str, Callable[[str], Any]] = {"seconds": float, "rank": int, "output_bytes": int}


def utc_now() -> str:
    """Such that later is greater as text."""
    return utc_text(time.time())


def utc_text(seconds: float) -> str:
    """`seconds` since 1970 in ISO 8601."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _columns_of(labels: Sequence[Label]) -> dict[str, int]:
    """`<name>_ml` -> value of the label; with the value in the name where that would not be one of its own."""
    count = Counter(csv_cell(label.name) for label in labels)
    columns: dict[str, int] = {}
    for label in labels:
        name = csv_cell(label.name)
        column = f"{name}_ml" if count[name] == 1 else f"{name}_{label.value}_ml"
        while column in columns:
            column = f"{column.removesuffix('_ml')}_{label.value}_ml"
        columns[column] = label.value
    return columns


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else csv_cell(value) if isinstance(value, str) else str(value)


def _joined(cells: Sequence[str]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode()
