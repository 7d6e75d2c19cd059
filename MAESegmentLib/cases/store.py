"""The cases that a user corrected: a plain folder, one sub-folder a case, that several programs may share."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DatasetError, DuplicateCase, MAESegmentError, OutputError, refused
from ..images.hashing import VoxelHashes
from ..images.labels import Label, other_names
from ..images.volume import LabelMap, Volume
from ..storage.atomic_file import write_file
from ..storage.atomic_folder import publish, remove, writing
from ..storage.lock import FileLock
from ..storage.user_folders import make_private_folder
from . import layout
from .case import Case
from .checks import read_image
from .layout import DATASET, LABEL, MAPPING, RECORD, LabelTable, image_names
from .records import TRAIN, CaseRecord, same_size, stored_role
from .snapshot import packed, record_text, stored_image, stored_labels, write_case
from .submission import CaseIssue, CaseSubmission, channel_issues, check_submission, warnings_among

#: `list` names a method below.
Records = list[CaseRecord]
Problems = list[tuple[Path, MAESegmentError]]

_LOCK = ".lock"
#: How long to wait for another writer, whose disk may be slow; but the user waits for everything but adding.
_PATIENCE_S = 10.0
_PATIENCE_TO_READ_S = 3.0
_PATIENCE_TO_ADD_S = 180.0
_ADD_AGAIN = "Remove the case, then add it again."


class CaseStore:
    """`folder` need not exist until a case is added. Reading needs neither the lock nor permission to write."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    # Reading ----------------------------------------------------------------------------------------------------------

    def scan(self) -> tuple[Records, Problems]:
        """The records of all sound cases (images not opened), by number, and what is wrong with the rest."""
        records, problems = self._read()
        if problems:
            # A writer may be at it; or it was killed, and is tidied up after. What remains is damage.
            with suppress(OutputError), self._writing(patience_s=_PATIENCE_TO_READ_S):
                records, problems = self._read()
        return self._completed(records), problems

    def list(self) -> Records:
        """The records of all sound cases, by number."""
        return self.scan()[0]

    def get(self, case_id: str) -> CaseRecord:
        """`DatasetError` if there is no such case, or if it is damaged."""
        records, problems = self.scan()
        for record in records:
            if record.id == case_id:
                return record
        for path, error in problems:
            if path.name == case_id:
                raise error
        raise self._no_case(case_id, records)

    def find(self, volume: Volume) -> CaseRecord | None:
        """The case of this image. Its voxels are looked at only if a case has an image of the same size."""
        alike = same_size(volume.array.shape, self.list())
        found = VoxelHashes(stored_image(volume).array).among(record.image_hash for record in alike) if alike else set()
        return next((record for record in alike if record.image_hash in found), None)

    def labels(self) -> tuple[Label, ...]:
        """Every label that a case ever had; `value` is that of the stored label maps."""
        return self.label_table().labels

    def label_table(self) -> LabelTable:
        """From `labels.json`; if that is damaged, from what the cases say of their own values."""
        numbers = [layout.case_number(path.name) for path in layout.case_folders(self.folder)]
        table = layout.read_table(self.folder)
        if table is None:
            used = []
            for path in layout.case_folders(self.folder):
                with suppress(MAESegmentError):
                    used.append(_read_record(path)[1])
            table = LabelTable(layout.merge(used))
        return replace(table, last_case=max([table.last_case, *numbers]))

    def case_path(self, case_id: str) -> Path:
        """The folder of a case."""
        if not layout.case_number(case_id) or not (self.folder / case_id).is_dir():
            raise self._no_case(case_id, self.list())
        return self.folder / case_id

    def read_image(self, case_id: str) -> Volume:
        """All channels, (C, I, J, K)."""
        record = self.get(case_id)
        paths = tuple(self.folder / case_id / name for name in image_names(record.channels))
        return read_image(Case(case_id, paths), record.channels)

    def read_label_map(self, case_id: str) -> LabelMap:
        """In the values of `labels()`; 255 where nothing was annotated."""
        from ..images.reading import read_label_map

        try:
            return read_label_map(self.case_path(case_id) / LABEL)
        except MAESegmentError as error:
            raise DatasetError(f"Case {case_id}: {error.message}", _ADD_AGAIN) from error

    def verify(self, case_id: str) -> None:
        """`DatasetError` unless image and label map are readable, on one grid, and what was stored."""
        record = self.get(case_id)
        volume, label_map = self.read_image(case_id), self.read_label_map(case_id)
        if difference := label_map.grid.difference(volume.grid):
            raise DatasetError(
                f"Case {case_id}: the label map does not lie on its image's grid: {difference}.", _ADD_AGAIN
            )
        for what, array, expected in (
            ("image", volume.array, record.image_hash),
            ("label map", label_map.array, record.label_hash),
        ):
            if not VoxelHashes(array).among([expected]):
                raise DatasetError(
                    f"Case {case_id}: the {what} is not the one that was stored.",
                    "It was changed by another program, or the disk is at fault: remove the case, then add it again.",
                )

    def description(self) -> dict[str, Any]:
        """What belongs in `dataset.json` now."""
        records = self.list()
        return layout.describe(self.folder.name, records, self.label_table().labels)

    @property
    def dataset_path(self) -> Path:
        """`dataset.json`, written again if a case was added or removed by other means."""
        content = self.description()
        if layout.write_if_changed(self.folder, content, check_only=True):
            with self._writing():
                layout.write_if_changed(self.folder, self.description())
        return self.folder / DATASET

    def remembered(self) -> dict[str, str | None]:
        """Segment name -> label name, None: left out; as the user said so far."""
        return layout.read_remembered(self.folder)

    # Writing ----------------------------------------------------------------------------------------------------------

    def add(
        self,
        volume: Volume,
        label_map: LabelMap,
        submission: CaseSubmission,
        report: Callable[[CaseIssue], object] = lambda _warning: None,
    ) -> CaseRecord:
        """Store a case, or replace the one of the same image that `submission.replace` names, all or nothing.

        `report` is called with what is worth a second look, before anything is written. `DuplicateCase` if the image is
        there as another case; `GeometryError` if the two do not lie on one grid; `DatasetError` for what could not be
        trained on, and for an update with another image; `OutputError` if it cannot be written.
        """
        volume.grid.check()
        image = stored_image(volume)
        # Before the work: it may be in vain.
        hashes = VoxelHashes(image.array)
        records = self.list()
        complete = self._complete(submission, image, hashes, records)[0]
        for warning in warnings_among(check_submission(complete, volume, label_map, records)):
            report(warning)
        content = packed(image)
        with self._writing(create=True, patience_s=_PATIENCE_TO_ADD_S):
            complete, old = self._complete(submission, image, hashes, self._read()[0])
            labels = LabelMap(label_map.array, image.ijk_to_ras)
            return self._add(image, old.image_hash if old else hashes.current, content, labels, complete, old)

    def remove(self, case_id: str) -> None:
        """The number of the case is not given again."""
        self.case_path(case_id)
        with self._writing():
            if (self.folder / case_id).is_dir():
                remove(self.folder / case_id)
            self._write_dataset()

    def set_role(self, case_id: str, role: str) -> CaseRecord:
        """Whether the case is trained on ("train") or held out ("validation")."""
        role = stored_role(role)
        self.get(case_id)
        with self._writing():
            record = replace(self._one(case_id), role=role)
            used = [label for label in self.label_table().labels if label.name in record.labels]
            write_file(self.folder / case_id / RECORD, record_text(record, used))
            self._write_dataset()
        return self.get(case_id)

    def remember(self, mapping: Mapping[str, str | None]) -> None:
        """Keep what segments were said to be for the next case; what was kept before stays unless `mapping` differs."""
        with self._writing(create=True):
            write_file(self.folder / MAPPING, layout.remembered_text({**self.remembered(), **mapping}))

    # ------------------------------------------------------------------------------------------------------------------

    def _add(
        self,
        image: Volume,
        image_hash: str,
        content: Sequence[bytes],
        label_map: LabelMap,
        submission: CaseSubmission,
        old: CaseRecord | None,
    ) -> CaseRecord:
        """With the lock."""
        table = self.label_table().with_labels(submission.labels)
        labels = stored_labels(label_map, submission, table)
        number = table.last_case + 1 if old is None else layout.case_number(old.id)
        name = layout.case_name(number)
        annotated = tuple(labels.volumes_ml)
        record = CaseRecord(
            id=name,
            role=submission.role or TRAIN,
            group=submission.group or name,
            labels=annotated,
            unknown=other_names((*submission.unknown, *labels.empty), annotated),
            partial=labels.partial,
            volumes_ml={label: round(ml, 4) for label, ml in labels.volumes_ml.items()},
            channels=len(image.array),
            shape=image.grid.shape,
            spacing=tuple(float(mm) for mm in image.grid.spacing),  # type: ignore[arg-type]
            image_hash=image_hash,
            label_hash=labels.hash,
            model=submission.model,
            added=old.added if old else datetime.date.today().isoformat(),
            revision=old.revision + 1 if old else 1,
            region=submission.region or None,
        )
        with writing(self.folder / name) as written:
            write_case(written, image, content, labels, record, table)
            replace(table, last_case=max(table.last_case, number)).save(self.folder)
            publish(written, self.folder / name, replace=True)
        self._write_dataset()
        return self._completed([record])[0]

    def _complete(
        self, submission: CaseSubmission, image: Volume, hashes: VoxelHashes, records: Records
    ) -> tuple[CaseSubmission, CaseRecord | None]:
        """The submission with what an update does not say again, and the case that it updates.

        An update keeps the recorded hash of its image, whatever its version: saved scenes know the case by that.
        """
        others = [record for record in records if record.id != submission.replace]
        for other in same_size(image.array.shape, others):
            if hashes.among([other.image_hash]):
                error = DuplicateCase(
                    f"This scan is stored already, as {other.id}.", "Update the stored case, or leave it as it is."
                )
                error.details = {"case": other.id}
                raise error
        warnings_among(channel_issues(len(image.array), others))
        if not submission.replace:
            return submission, None
        old = self._one(submission.replace)
        if not hashes.among([old.image_hash]):
            raise DatasetError(
                f"This scan is not the one that is stored as {old.id}, which was not updated.",
                "Choose the scan of the case; or remove the case, then add this scan as a new one.",
            )
        role, group = submission.role or old.role, submission.group or old.group
        region = old.region if submission.region is None else submission.region
        return replace(submission, role=role, group=group, region=region), old

    def _read(self) -> tuple[Records, Problems]:
        records: Records = []
        problems: Problems = []
        places, torn = layout.case_folders_and_replaced(self.folder)
        for path in places:
            try:
                records.append(_read_record(path)[0])
            except MAESegmentError as error:
                problems.append((path, error))
        for path, name in torn:
            hint = "Open the store once where it can be written to."
            problems.append((path, DatasetError(f"Case {name} was being replaced.", hint)))
        return records, problems

    def _one(self, case_id: str) -> CaseRecord:
        if not layout.case_number(case_id) or not (self.folder / case_id).is_dir():
            raise self._no_case(case_id, self._read()[0])
        return _read_record(self.folder / case_id)[0]

    def _completed(self, records: Records) -> Records:
        """A label that came into the store later is unknown in the cases before."""
        names = [label.name for label in self.label_table().labels]
        return [replace(record, unknown=other_names((*record.unknown, *names), record.labels)) for record in records]

    def _write_dataset(self) -> None:
        """With the lock. Its content follows from the cases, so that a full disk spoils nothing."""
        records = self._completed(self._read()[0])
        with suppress(OutputError):
            layout.write_if_changed(self.folder, layout.describe(self.folder.name, records, self.label_table().labels))

    @contextmanager
    def _writing(self, *, create: bool = False, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """Hold the lock; what the disk refuses becomes an `OutputError`."""
        try:
            if create:
                make_private_folder(self.folder)
            busy = f"Another program is writing to the case store {self.folder}."
            with FileLock(self.folder / _LOCK, timeout_s=patience_s, busy=busy):
                layout.recover_cases(self.folder)
                yield
        except OSError as error:
            raise refused(f"The case store {self.folder} cannot be written to", error) from error

    def _no_case(self, case_id: str, records: Records) -> DatasetError:
        known = ", ".join(record.id for record in records) or "none"
        return DatasetError(f"There is no case {case_id!r} in {self.folder}.", f"Stored are: {known}.")


def _read_record(folder: Path) -> tuple[CaseRecord, tuple[Label, ...]]:
    """The record in a case's folder and the labels it has; the folder's name is what counts as the id."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        values = layout.parse_labels(content["values"])
    except (OSError, ValueError, KeyError, TypeError, ConfigurationError) as error:
        raise DatasetError(f"Case {folder.name}: {RECORD} cannot be read ({error}).", _ADD_AGAIN) from None
    try:
        record = replace(CaseRecord.from_dict(content), id=folder.name)
    except DatasetError as error:
        raise DatasetError(f"Case {folder.name}: {error.message}", error.hint) from None
    missing = [name for name in (*image_names(record.channels), LABEL) if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"Case {folder.name}: {', '.join(missing)} is missing.", _ADD_AGAIN)
    return record, values
