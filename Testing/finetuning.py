"""A small clinic: a model, a store of corrected phantom cases, and a place for fine-tuning runs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from MAESegmentLib.bundle import Bundle, ModelStore
from MAESegmentLib.cases.store import CaseStore
from MAESegmentLib.cases.submission import CaseSubmission
from MAESegmentLib.images.labels import Label
from MAESegmentLib.processes.interpreter import Interpreter
from MAESegmentLib.runs import FineTuneRun, RunRequest, create_run, start
from MAESegmentLib.runs.launching import reap
from MAESegmentLib.runs.trainer import work_through

from .bundles import save_tiny, tiny_spec
from .phantoms import PhantomFactory

LABELS = (Label(1, "front", (200, 30, 30)), Label(2, "back", (30, 30, 200)))
#: Some seconds of real training.
SETTINGS: Mapping[str, Any] = {"steps": 6, "validate_every": 2, "checkpoint_every": 1, "device": "cpu", "threads": 1}


@dataclass
class Clinic:
    """Everything lies in `folder`."""

    folder: Path
    base: Bundle
    models: ModelStore
    store: CaseStore

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def request(
        self, training: Sequence[str] | None = None, check: Sequence[str] = (), settings: Mapping[str, Any] = SETTINGS
    ) -> RunRequest:
        ids = [record.id for record in self.store.list() if record.id not in check]
        return RunRequest(
            base=self.base.reference,
            base_path=str(self.base.path),
            store=str(self.store.folder),
            training=tuple(ids if training is None else training),
            check=tuple(check),
            models=str(self.models.user_folder),
            settings=dict(settings),
        )

    def start(self, request: RunRequest) -> FineTuneRun:
        run = create_run(self.runs, request)
        launch(run)
        return run

    def train(self, request: RunRequest) -> FineTuneRun:
        """Done to its end in this process, which has imported everything already."""
        run = create_run(self.runs, request)
        work_through(run)
        return run


def make_clinic(folder: Path, cases: int = 3) -> Clinic:
    """`cases` corrected cases of a model that was never trained."""
    models = ModelStore(folder / "models", shipped_folder=folder / "shipped")
    base = save_tiny(models.folder_for("tiny-mr", "1.0.0"), tiny_spec(labels=LABELS, training={}))
    store = CaseStore(folder / "cases" / "tiny-mr")
    for n in range(cases):
        phantom = PhantomFactory()(shape=(20 + n, 22, 18), noise=20.0, seed=n)
        store.add(phantom.volume, phantom.label_map, CaseSubmission(LABELS, model=base.reference))
    return Clinic(folder, base, models, store)


def open_clinic(folder: Path) -> Clinic:
    """One that `make_clinic` made."""
    models = ModelStore(folder / "models", shipped_folder=folder / "shipped")
    return Clinic(folder, models.find("tiny-mr@1.0.0"), models, CaseStore(folder / "cases" / "tiny-mr"))


def launch(run: FineTuneRun) -> int:
    """The real process."""
    return start(run, Interpreter(Path(sys.executable), "the tests' own"), dict(os.environ))


def wait_until(run: FineTuneRun, condition: Callable[[], bool], timeout_s: float = 600.0) -> None:
    """Until `condition` holds; fails with what the run said. Generous: a trainer gives way to all other programs."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{run.status()} after {timeout_s:g} s\n{run.log_tail()}")
        time.sleep(0.05)
    reap()


def wait_for_end(run: FineTuneRun, timeout_s: float = 600.0) -> None:
    wait_until(run, lambda: run.status().is_finished and not run.is_alive, timeout_s)


def trainer_pid(run: FineTuneRun) -> int:
    """Of the process that has the run."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        if str(run.path) in (process.info["cmdline"] or ()):
            return int(process.info["pid"])
    raise AssertionError("no process has this run")


def kill_trainer(run: FineTuneRun) -> None:
    os.kill(trainer_pid(run), signal.SIGKILL)
    wait_until(run, lambda: not run.is_alive)
