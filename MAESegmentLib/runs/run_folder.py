"""A fine-tuning run as a folder: requested by one process, done by another, polled by any."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MAESegmentError, OutputError, WorkerError, from_code
from ..storage.atomic_file import write_file
from ..storage.atomic_folder import publish, remove, writing
from ..storage.lock import FileLock
from ..storage.user_folders import make_private_folder
from ..text import csv_text
from .records import Curves, RunRequest, RunResult, RunState, RunStatus

if TYPE_CHECKING:
    from ..training.run_context import Progress

REQUEST, STATUS, CONTROL, RESULT, DECISION = (
    f"{name}.json" for name in ("request", "status", "control", "result", "answer")
)
STARTED = "started.json"
LOCK = "trainer.lock"
LOG = "trainer.log"
#: What training needs and leaves: checkpoints, logs, the model before it is published.
WORK = "work"
#: The cases as they were when the run began.
CASES = "cases"
#: Scans without labels that are files of the run's own.
SCANS = "scans"
BEFORE = "before.json"

STOP, END, DISCARD = "stop", "end", "discard"
#: A second press so soon after the first is the same wish.
_SAME_PRESS_S = 1.0
#: A process may take so long from its start until it has the lock (an antivirus may scan torch first).
_START_S = 120.0
_NAME = re.compile(r"run-\d{8}-\d{6}-[0-9a-f]{6}")
#: A panel shows no more.
_WRITE_EVERY_S = 1.0
#: How a line of the log begins that the user is to see, and how many are shown.
_WARNING, _MOST_WARNINGS = "Warning: ", 12
#: What a status holds before the first report.
_BEGINNING = {"stage": "prepare", "fraction": 0.0, "text": "Starting ..."}
_STAGES = {
    "prepare": "Preparing the cases",
    "before": "Measuring the base model",
    "train": "Training",
    "validate": "Checking",
    "save": "Saving",
}


class FineTuneRun:
    """Polling it is cheap and never waits; a command is a file that its process reads."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._request: RunRequest | None = None

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def work(self) -> Path:
        return self.path / WORK

    @property
    def request(self) -> RunRequest:
        if self._request is None:
            self._request = RunRequest.from_dict(read_json(self.path / REQUEST))
        return self._request

    @property
    def lock(self) -> FileLock:
        """Held by the run's process as long as that lives."""
        return FileLock(self.path / LOCK, timeout_s=0.0)

    @property
    def is_alive(self) -> bool:
        return self.lock.is_held_by_another()

    @property
    def decision(self) -> str:
        """What the user decided about the finished version: "accepted", "declined", or "" so far."""
        return str(_read_or_empty(self.path / DECISION).get("answer", ""))

    @property
    def command(self) -> str:
        """`STOP`, `END`, `DISCARD`, or ""."""
        return str(_read_or_empty(self.path / CONTROL).get("command", ""))

    def status(self) -> RunStatus:
        """Where it stands."""
        written = _read_or_empty(self.path / STATUS)
        known = {**_BEGINNING, **written, "state": "running", "error": None}
        status = RunStatus.from_dict({**known, "stop_requested": self.command in (STOP, END)})
        if (self.path / RESULT).is_file():
            result = RunResult.from_dict(read_json(self.path / RESULT))
            return replace(status, state=RunState.DONE, fraction=1.0, eta_s=None, result=result, text=result.banner)
        if self.is_alive:
            return replace(status, eta_s=_since(status.eta_s, self.path / STATUS))
        return self._not_running(status, written)

    def curves(self) -> Curves:
        """What can be drawn so far."""
        folders = [self.work, *sorted((self.work / "folds").glob("[0-9]*"))]
        dice = _mean_by_step([_dice_rows(folder / "validation.csv") for folder in folders])
        measured = [_read_or_empty(folder / BEFORE).get("by_label") or {} for folder in folders]
        before = _mean_by_name([row for row in measured if row]) or None
        loss = tuple((int(row["step"]), row["loss"]) for row in _rows(self.work / "log.csv") if "loss" in row)
        return Curves(loss, dice, before)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its process's log."""
        try:
            text = (self.path / LOG).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # Commands ---------------------------------------------------------------------------------------------------------

    def stop_and_keep(self) -> None:
        """End training soon and make a version of the best weights so far. A run by time anneals first: for a tenth of
        the time that it took, a minute at most, or until this is called again."""
        is_again = self.command == STOP and _age(self.path / CONTROL) > _SAME_PRESS_S
        write_json(self.path / CONTROL, {"command": END if is_again or self.command == END else STOP})

    def discard(self) -> None:
        """End it and forget it; a version that was published stays."""
        write_json(self.path / CONTROL, {"command": DISCARD})
        if not self.is_alive:
            self.remove()

    def resume(self, start: Callable[[FineTuneRun], None]) -> None:
        """Resume from the last checkpoint, after an interruption or a failure."""
        (self.path / CONTROL).unlink(missing_ok=True)
        (self.path / STATUS).unlink(missing_ok=True)
        start(self)

    def set_decision(self, decision: str) -> None:
        write_json(self.path / DECISION, {"answer": decision})

    def remove(self) -> None:
        """Delete the folder of a run that is not running. Renamed first, so that a half-deleted one is never listed."""
        if self.is_alive:
            raise WorkerError("This fine-tuning is still running.", "Cancel it first.")
        try:
            remove(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.path} cannot be removed: {error.strerror or error}.") from error

    # ------------------------------------------------------------------------------------------------------------------

    def _has_just_started(self) -> bool:
        """By this computer's clock alone: the one of the disk's may differ."""
        try:
            begun = float(_read_or_empty(self.path / STARTED)["time"])
        except (KeyError, TypeError, ValueError):
            return False
        return abs(time.time() - begun) < _START_S

    def _not_running(self, status: RunStatus, written: Mapping[str, Any]) -> RunStatus:
        if self.command == DISCARD:
            return replace(status, state=RunState.DISCARDED, text="Discarded.", eta_s=None)
        error = written.get("error")
        if error:
            problem = from_code(str(error["code"]), str(error["message"]), str(error["hint"]))
            return replace(status, state=RunState.FAILED, error=problem, text=problem.message, eta_s=None)
        if not written and self._has_just_started():
            return replace(status, state=RunState.WAITING, text="Starting ...")
        text = f"It was interrupted at {100 * status.fraction:.0f} %."
        if not written:
            text = "Its process ended before it could begin."
            problem = _start_error(self.log_tail(1))
            return replace(status, state=RunState.INTERRUPTED, text=text, error=problem, eta_s=None)
        return replace(status, state=RunState.INTERRUPTED, text=text, eta_s=None)


class StatusWriter:
    """A `Report` of training that ends in `status.json`, at most once a second, and in the log."""

    def __init__(self, run: FineTuneRun, steps: int = 0) -> None:
        self._run = run
        self._begun = time.monotonic()
        self._written = -math.inf
        self._content: dict[str, Any] = _BEGINNING
        self.steps = steps
        #: Whether training plans them by the time that it has.
        self.by_time = False
        self.device = ("", "")
        self._warnings: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "log":
            print(progress.message, file=sys.stderr, flush=True)
            warning = progress.message.removeprefix(_WARNING)
            if warning not in (progress.message, *self._warnings):  # each round of leave-one-out says it again
                self._warnings.append(warning)
            return
        stage = self._stage(progress)
        is_new = stage != self._content["stage"]
        # Of the whole; preparing, which counts its cases, is little of it.
        share = 0.0 if progress.stage == "prepare" else progress.fraction
        self._content = {
            "stage": stage,
            "text": self._text(progress),
            "fraction": round(min(max(share, 0.0), 1.0), 4),
            "eta_s": None if progress.eta_s is None else round(progress.eta_s, 1),
            "step": progress.step,
            "fold": list(progress.fold) if progress.fold and progress.fold[0] else None,
        }
        if progress.steps and not self._content["fold"]:
            self.steps = progress.steps
        if is_new or time.monotonic() - self._written >= _WRITE_EVERY_S:
            self.write()

    def write(self, error: MAESegmentError | None = None) -> None:
        """`OutputError` if the disk is full."""
        self._written = time.monotonic()
        content = {
            **self._content,
            "steps": self.steps,
            "device": self.device[0],
            "device_title": self.device[1],
            "warnings": self._warnings[:_MOST_WARNINGS],
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        if error is not None:
            content["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
        write_json(self._run.path / STATUS, content)

    def _stage(self, progress: Progress) -> str:
        if progress.fold and progress.fold[0] and progress.stage in ("train", "validate", "before"):
            return "fold"
        return "check" if progress.stage == "validate" else progress.stage

    def _text(self, progress: Progress) -> str:
        text = _STAGES.get(progress.stage, progress.stage)
        steps = progress.steps or self.steps
        if progress.stage in ("train", "validate") and steps:
            text += f", step {progress.step} of {'about ' if self.by_time else ''}{steps}"
        which, count = progress.fold or (0, 0)
        if which:
            text = f"Leave-one-out {which} of {count}: {text[0].lower()}{text[1:]}"
        elif count:
            text += f"; {count} rounds of leave-one-out follow"
        return text


def create_run(root: Path, request: RunRequest, scans: Sequence[Path] = ()) -> FineTuneRun:
    """A new run below `root`; it appears complete or not at all. `OutputError` if it cannot be written.

    The files `scans` are moved into it, as scans without labels beside those of `request`.
    """
    now = datetime.now()
    path = root / f"run-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    request = replace(request, created=request.created or now.isoformat(timespec="seconds"))
    try:
        make_private_folder(root)
        with writing(path, mode=0o700) as hidden:
            for scan in scans:
                (hidden / SCANS).mkdir(mode=0o700, exist_ok=True)
                shutil.move(scan, hidden / SCANS / scan.name)
            own = (f"{SCANS}/{scan.name}" for scan in scans)
            write_json(hidden / REQUEST, replace(request, unlabelled=(*request.unlabelled, *own)).to_dict())
            publish(hidden, path)
    except OSError as error:
        raise OutputError(
            f"The folder for fine-tuning {root} cannot be written to: {error.strerror or error}.",
            "Free some space or allow writing there; MAESEGMENT_RUNS names another folder.",
        ) from error
    return FineTuneRun(path)


def list_runs(root: Path) -> list[FineTuneRun]:
    """The newest first, without what is not a run or may not be read."""
    try:
        found = [path for path in root.iterdir() if _NAME.fullmatch(path.name) and os.access(path / REQUEST, os.R_OK)]
    except OSError:
        return []
    return [FineTuneRun(path) for path in sorted(found, reverse=True)]


def read_json(path: Path) -> dict[str, Any]:
    """`MAESegmentError` if it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise MAESegmentError(
            f"{path} cannot be read: {error}", "Discard this fine-tuning and start it again."
        ) from None
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    write_file(path, json.dumps(data, allow_nan=False) + "\n")


def _read_or_empty(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _rows(path: Path) -> list[dict[str, float]]:
    """Complete rows of a log that another process is writing."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    rows = []
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        try:
            rows.append({csv_text(key): float(value) for key, value in row.items()})
        except (TypeError, ValueError):
            continue
    return rows


def _mean_by_step(curves: Sequence[Sequence[tuple[int, dict[str, float]]]]) -> tuple[tuple[int, dict[str, float]], ...]:
    """Of the folds (or the one run), at every step that any of them has reached."""
    by_step: dict[int, list[dict[str, float]]] = {}
    for curve in curves:
        for step, row in curve:
            by_step.setdefault(step, []).append(row)
    return tuple((step, _mean_by_name(rows)) for step, rows in sorted(by_step.items()))


def _mean_by_name(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}


def _dice_rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, Dice by label and "mean") of each validation."""
    rows = []
    for row in _rows(path):
        values = {name.removeprefix("dice "): value for name, value in row.items() if name.startswith("dice ")}
        values["mean"] = row.get("dice", math.nan)
        rows.append((int(row["step"]), {name: value for name, value in values.items() if math.isfinite(value)}))
    return rows


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def _since(eta_s: Any, path: Path) -> float | None:
    """Seconds left now, of what was left when the file was written."""
    return None if eta_s is None else max(0.0, float(eta_s) - max(0.0, min(_age(path), 60.0)))


def _start_error(last_words: str) -> MAESegmentError:
    why = f": {last_words}" if last_words else "."
    return WorkerError(
        f"The process for fine-tuning ended before it could begin{why}",
        "Check the Python (Advanced) and what it lacks, then start again.",
    )
