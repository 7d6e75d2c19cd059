"""The folder that a training run writes to: one run at a time, and always of the same data."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...bundle import Bundle, open_bundle
from ...cases.case import Case
from ...errors import ConfigurationError, DatasetError, OutputError, refused
from ...storage.atomic_file import write_file
from ...storage.lock import FileLock
from ...storage.user_folders import make_private_folder
from ..run_context import Progress, RunContext
from ..settings import LoopSettings
from .checkpoint import CHECKPOINT
from .distributed import SOLO, Team

MODEL_FOLDER = "model"
_DATA = "data.json"
_LOCK = ".lock"
ANOTHER_FOLDER = "Give another output folder, or delete this one to start over."
#: So many changed cases are named in one message.
_MOST_NAMED = 5


@contextmanager
def claimed(out: Path, team: Team = SOLO) -> Iterator[None]:
    """`out`, made if need be, belongs to this run alone for as long as this lasts.

    `OutputError` at once if another process trains there, or it cannot be written to. All of a `team` call this alike.
    """
    lock = FileLock(out / _LOCK)

    def claim() -> None:
        try:
            make_private_folder(out)
        except OSError as error:
            raise refused(f"The folder {out} cannot be made", error, "Choose another folder.") from error
        if not lock.try_acquire():
            raise OutputError(
                f"Another process is training in {out}; two would spoil each other's checkpoints.",
                "Wait until it has ended, or give another output folder.",
            )

    team.first(claim)
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class DataRecord:
    """What a run learns from. Of each case, by its id, the SHA-256 of its files and of its entry in the dataset."""

    training: Mapping[str, str]
    held_out: Mapping[str, str]
    labels: Sequence[str] = ()
    #: Scans that have none; what cannot be read of these is left out of the run. There may be thousands: of each file
    #: its size and beginning; a checkpoint knows the voxels.
    unlabelled: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        training: Iterable[Case],
        held_out: Iterable[Case] = (),
        labels: Sequence[str] = (),
        unlabelled: Iterable[Case] = (),
    ) -> DataRecord:
        """Reads every file; `DatasetError` if one of a case cannot be read."""
        return cls(_digests(training), _digests(held_out), tuple(labels), _digests(unlabelled, are_scans=True))

    def check_same(self, out: Path, context: RunContext) -> None:
        """For a finished run in `out`: refuse other data than that it was made of; a warning if that is not known."""
        before = _read(out)
        if before is None:
            context.log(f"What {out} was trained on was not noted; its model is taken as it is.")
        else:
            self._refuse(before, out)

    def keep(self, out: Path) -> None:
        """For a run that begins in `out`, or resumes there: refuse other data than that of its checkpoint."""
        before = _read(out)
        if before is not None and (out / CHECKPOINT).exists():
            self._refuse(before, out)
        write_file(out / _DATA, json.dumps(asdict(self), indent=1) + "\n")

    def _refuse(self, before: DataRecord, out: Path) -> None:
        changes = [
            *_changes(before.training, self.training, "to learn from"),
            *_changes(before.held_out, self.held_out, "held out"),
            *_changes(before.unlabelled, self.unlabelled, "among those without labels", "scan"),
        ]
        if list(before.labels) != list(self.labels):
            changes.insert(0, f"the labels were {', '.join(before.labels)} and are {', '.join(self.labels)}")
        if changes:
            rest = f" (and {len(changes) - _MOST_NAMED} more)" if len(changes) > _MOST_NAMED else ""
            raise ConfigurationError(
                f"{out} holds a run on other data: {'; '.join(changes[:_MOST_NAMED])}{rest}.", ANOTHER_FOLDER
            )


def finished_model(
    out: Path,
    settings: LoopSettings,
    parent: Mapping[str, str] | None,
    context: RunContext,
    check_same: Callable[[Bundle], None],
) -> Bundle | None:
    """The model in a run folder that is finished; refuses one of another base or other settings.

    `check_same` raises where the model is of other data.
    """
    path = out / MODEL_FOLDER
    if not path.is_dir():
        return None
    bundle = open_bundle(path)
    stored = type(settings).from_dict(dict(bundle.spec.training["settings"]))
    if bundle.parent != parent:
        raise ConfigurationError(
            f"{path} holds a finished model that was made from {_called(bundle.parent)}, not from {_called(parent)}.",
            ANOTHER_FOLDER,
        )
    if stored.fingerprint() != settings.fingerprint():
        raise ConfigurationError(f"{path} holds a finished model of other settings.", ANOTHER_FOLDER)
    check_same(bundle)
    context.report(Progress("log", 1.0, message=f"{path} exists already; nothing is left to do."))
    return bundle


def _called(base: Mapping[str, str] | None) -> str:
    """With the hash, since models of one name and version can differ."""
    return f"{base['name']}@{base['version']} ({base['hash'][:8]})" if base else "random weights"


def _changes(before: Mapping[str, str], now: Mapping[str, str], role: str, what: str = "case") -> list[str]:
    changed = [f"{what} {name} was changed" for name in before if name in now and now[name] != before[name]]
    gone = [f"{what} {name} is no longer {role}" for name in before if name not in now]
    new = [f"{what} {name} is {role} now" for name in now if name not in before]
    return [*changed, *gone, *new]


def _digests(cases: Iterable[Case], *, are_scans: bool = False) -> dict[str, str]:
    found = {}
    for case in cases:
        try:
            found[case.id] = _digest(case, beginning=are_scans)
        except DatasetError:
            if not are_scans:
                raise
            found[case.id] = "unreadable"
    return found


def _digest(case: Case, *, beginning: bool = False) -> str:
    found = hashlib.sha256(json.dumps([case.group, sorted(case.unknown)]).encode())
    try:
        for path in case.files:
            for file in _files(path):
                with file.open("rb") as stream:
                    if beginning:
                        found.update(str(os.fstat(stream.fileno()).st_size).encode())
                    while block := stream.read(2**20):
                        found.update(block)
                        if beginning:
                            break
    except OSError as error:
        raise DatasetError(
            f"Case {case.id} cannot be read: {error.strerror or error} ({error.filename}).",
            "Check that the file is there and that you may read it.",
        ) from error
    return found.hexdigest()[:32]


def _files(path: Path) -> list[Path]:
    """Of a DICOM folder all; with a header those of its name, where its voxels are."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix.lower() in (".mhd", ".nhdr"):
        return sorted(file for file in path.parent.iterdir() if file.stem == path.stem and file.is_file())
    if not path.is_file():  # a pipe or a device has no end
        raise FileNotFoundError(errno.ENOENT, "it is not a file", str(path))
    return [path]


def _read(out: Path) -> DataRecord | None:
    try:
        content: dict[str, Any] = json.loads((out / _DATA).read_text(encoding="utf-8"))
        scans = dict(content.get("unlabelled", {}))
        return DataRecord(dict(content["training"]), dict(content["held_out"]), list(content["labels"]), scans)
    except (OSError, ValueError, KeyError, TypeError):
        return None
