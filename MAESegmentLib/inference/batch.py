"""Many scans segmented into one folder: resumes where it was stopped, alone or as several processes at once."""

from __future__ import annotations

import logging
import os
import shutil
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..errors import Cancelled, MAESegmentError, OutputError
from ..images.archive import ArchivedScan
from ..images.labels import Label
from ..images.roi import Roi
from ..images.segment_statistics import measure_labels, statistics_csv
from ..images.volume import LabelMap, Volume
from ..images.volumetry import volumes_ml
from ..images.writing import check_label_map_destination, write_label_map
from ..storage.atomic_file import check_writable, write_file
from ..storage.lock import FileLock
from ..text import visible
from .batch_table import DONE, FAILED, VolumeRow, VolumeTable, utc_now
from .islands import cleaned_text
from .settings import Prediction, ReportStage, ShouldCancel

_log = logging.getLogger(__name__)

#: File systems take 255 bytes, of which the ending needs some.
_LONGEST_NAME = 220
#: How often a process without work looks whether another one has left some.
_NAP_S = 0.5


class Predicts(Protocol):
    """The part of a `Predictor` used here."""

    def predict(
        self, volume: Volume, *, roi: Roi | None, progress: ReportStage | None, should_cancel: ShouldCancel | None
    ) -> Prediction: ...


@dataclass(frozen=True)
class BatchPlan:
    """Which scans are to be segmented, and where to.

    `ending` is that of the results; with one of DICOM (`.dcm`), scans that are not DICOM become `.seg.nrrd`. Rows that
    failed before `retry_before` (as `utc_now` gives it) are tried again; those that failed later, or never since, are
    not. With `statistics`, a table of each result is written beside, in the folder `statistics`.
    """

    folder: Path
    scans: Sequence[ArchivedScan]
    ending: str = ".seg.nrrd"
    roi: Roi | None = None
    retry_before: str = ""
    rank: int = 0
    statistics: bool = False

    def outputs(self) -> dict[str, str]:
        """Key of each scan -> its result, below `folder`; the same in every run, and no two alike."""
        # Names that differ in nothing but case, or in how a letter is composed, are one file on some systems.
        count = Counter(_as_one_file(scan.name) for scan in self.scans)
        return {
            scan.key: f"segmentations/{self._file_name(scan, is_alone=count[_as_one_file(scan.name)] == 1)}"
            for scan in self.scans
        }

    def _file_name(self, scan: ArchivedScan, *, is_alone: bool) -> str:
        folder, slash, name = scan.name.rpartition("/")
        fits = os.fsencode(name)[:_LONGEST_NAME] == os.fsencode(name)
        if not is_alone or not fits:
            kept = name if fits else os.fsencode(name)[:_LONGEST_NAME].decode(errors="ignore")
            name = f"{kept}-{scan.key[:8]}"
        return f"{folder}{slash}{name}{'.seg.nrrd' if self.ending.endswith('.dcm') and not scan.files else self.ending}"


class Batch:
    """Segments what `plan` lists and nobody has done yet. Several processes with the same plan share the work."""

    def __init__(self, plan: BatchPlan, labels: Sequence[Label]) -> None:
        self._plan = plan
        self._labels = tuple(labels)
        self._table = VolumeTable(plan.folder, labels)
        self._outputs = plan.outputs()

    def rows(self) -> Mapping[str, VolumeRow]:
        """What became of the scans of the plan so far, by key."""
        rows = self._table.rows()
        return {scan.key: rows[scan.key] for scan in self._plan.scans if scan.key in rows}

    def left(self) -> list[ArchivedScan]:
        """The scans that are still to be segmented: without a row, or with one that no longer holds."""
        return self._left_of(self._plan.scans)

    def write_statistics(self) -> Path:
        """All tables of the scans that are done in one, `statistics.csv`."""
        rows = self.rows()
        done = [scan for scan in self._plan.scans if scan.key in rows and rows[scan.key].status == DONE]
        tables = [self._statistics_file(scan).read_text(encoding="utf-8").splitlines(keepends=True) for scan in done]
        header = tables[0][:1] if tables else [statistics_csv([], output="")]
        path = self._plan.folder / "statistics.csv"
        write_file(path, "".join([*header, *(line for table in tables for line in table[1:])]))
        return path

    def run(
        self,
        predictor: Predicts,
        *,
        on_row: Callable[[VolumeRow, int], None] = lambda _row, _done: None,
        progress: ReportStage | None = None,
        should_cancel: ShouldCancel | None = None,
        check: Callable[[Volume], Sequence[str]] = lambda _volume: (),
    ) -> None:
        """Return when every scan of the plan has a row, also those that other processes are working on.

        A scan whose process was killed is taken over. A failure is a row, never an exception, but for `Cancelled` and
        the `OutputError` of a folder in which nothing can be written any more. `on_row` gets what this process did, and
        how many scans are done by then; `check` raises for a scan that is not to be segmented, or returns what
        to warn of with its result.
        """
        left = self.left()
        done, before, replaced = len(self._plan.scans) - len(left), len(self._table.rows()), 0
        while left:
            worked = False
            for scan in left:
                with self._claimed(scan) as is_mine:
                    known = self._table.rows().get(scan.key)
                    # Another process may have finished it since the list was made.
                    if is_mine and not self._holds(scan, known):
                        row = self._row(scan, check, predictor, progress, should_cancel)
                        self._table.put(row)
                        replaced += known is not None
                        on_row(row, done + replaced + len(self._table.rows()) - before)
                        worked = True
            left = self._left_of(left)  # not of all: an archive's files may be slow to check
            if left and not worked:
                time.sleep(_NAP_S)

    def _left_of(self, scans: Sequence[ArchivedScan]) -> list[ArchivedScan]:
        rows = self._table.rows()
        return [scan for scan in scans if not self._holds(scan, rows.get(scan.key))]

    def _holds(self, scan: ArchivedScan, row: VolumeRow | None) -> bool:
        if row is None or row.stamp != scan.stamp():
            return False
        if row.status == FAILED:
            return row.finished >= self._plan.retry_before
        if self._plan.statistics and not self._statistics_file(scan).is_file():
            return False
        # A table does not hold every character of a name; where it does, the file is where it was put.
        name = self._outputs[scan.key]
        try:
            return (self._plan.folder / (name if visible(name) == row.output else row.output)).stat().st_size == (
                row.output_bytes
            )
        except (OSError, ValueError):
            return False

    def _statistics_file(self, scan: ArchivedScan) -> Path:
        name = self._outputs[scan.key].partition("/")[2]
        return self._plan.folder / "statistics" / f"{name}.csv"

    @contextmanager
    def _claimed(self, scan: ArchivedScan) -> Iterator[bool]:
        """Whether this process alone has `scan` now. The system gives the claim of a killed process back."""
        claims = self._plan.folder / ".claims"
        claims.mkdir(exist_ok=True)
        lock = FileLock(claims / f"{scan.key}.lock")
        if not lock.try_acquire():
            yield False
            return
        try:
            yield True
        finally:
            lock.remove()  # whoever makes the file again after this finds the scan's row

    def _row(
        self,
        scan: ArchivedScan,
        check: Callable[[Volume], Sequence[str]],
        predictor: Predicts,
        progress: ReportStage | None,
        should_cancel: ShouldCancel | None,
    ) -> VolumeRow:
        begun = time.monotonic()
        row = VolumeRow(
            scan.key, scan.name, FAILED, str(scan.path), scan.stamp(), "", scan.series_uid, rank=self._plan.rank
        )
        try:
            row = self._segment(scan, row, check, predictor, progress, should_cancel)
        except Cancelled:
            raise
        except Exception as error:  # one scan must not cost the others, whatever is wrong with it
            if isinstance(error, OutputError):
                check_writable(self._plan.folder / "volumes.csv")
            if not isinstance(error, MAESegmentError):
                _log.exception("%s", scan.path)
            row = replace(row, reason=_reason(error))
        return replace(row, seconds=time.monotonic() - begun, finished=utc_now())

    def _segment(
        self,
        scan: ArchivedScan,
        row: VolumeRow,
        check: Callable[[Volume], Sequence[str]],
        predictor: Predicts,
        progress: ReportStage | None,
        should_cancel: ShouldCancel | None,
    ) -> VolumeRow:
        output = self._outputs[scan.key]
        volume = scan.read()
        warnings = check(volume)
        with self._workplace(scan) as place:
            temporary = place / Path(output).name
            check_label_map_destination(temporary, source=volume, labels=self._labels)
            prediction = predictor.predict(volume, roi=self._plan.roi, progress=progress, should_cancel=should_cancel)
            labels = prediction.labels or self._labels
            write_label_map(temporary, prediction.label_map, labels, source=volume, volume_name=scan.name)
            size = temporary.stat().st_size
            self._note_statistics(scan, volume, prediction.label_map, labels)
            _place(temporary, self._plan.folder / output)
        return replace(
            row,
            status=DONE,
            output=output,
            output_bytes=size,
            device=prediction.device,
            warnings="; ".join([*warnings, *prediction.warnings]),
            ml=volumes_ml(prediction.label_map, labels),
            cleaned=cleaned_text(prediction.cleaned),
        )

    def _note_statistics(
        self, scan: ArchivedScan, volume: Volume, label_map: LabelMap, labels: Sequence[Label]
    ) -> None:
        file = self._statistics_file(scan)
        file.unlink(missing_ok=True)  # of the result before
        if self._plan.statistics:
            file.parent.mkdir(parents=True, exist_ok=True)
            found = measure_labels(label_map, labels, volume.array)
            write_file(file, statistics_csv(found, output=self._outputs[scan.key]))

    @contextmanager
    def _workplace(self, scan: ArchivedScan) -> Iterator[Path]:
        """An empty folder for what is being written: whoever takes over the scan finds what a killed process left."""
        place = self._plan.folder / ".claims" / scan.key
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        except OSError as error:
            raise OutputError(f"{place} cannot be made: {error.strerror or error}.", _MAKE_ROOM) from error
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _as_one_file(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


_MAKE_ROOM = "Free some space, or choose another folder for the results; then run it again."


def _reason(error: BaseException) -> str:
    """One sentence for the table."""
    if isinstance(error, MAESegmentError):
        return " ".join(error.message.split())
    text = next(iter(str(error).splitlines()), "")
    return f"Unexpected: {type(error).__name__}: {text}"[:300]


def _place(temporary: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.", _MAKE_ROOM) from error
