"""What an ordinary user of a computer does, run by `unprivileged.run_as_ordinary_user` in a process without rights."""

from __future__ import annotations

import io
import os
import stat
from contextlib import redirect_stderr
from pathlib import Path
from unittest.mock import patch

import psutil

from MAESegmentLib.bundle import ModelStore
from MAESegmentLib.cli.main import main
from MAESegmentLib.console.console import Console
from MAESegmentLib.images.writing import write_volume
from MAESegmentLib.inference.predictor import Predictor
from MAESegmentLib.runs import FineTuneRun, RunState
from MAESegmentLib.storage.user_folders import default_working_folder

from .bundles import save_tiny
from .finetuning import Clinic, make_clinic, wait_for_end, wait_until
from .phantoms import PhantomFactory


def fine_tune(folder: str) -> None:
    """Cases stored, a model fine-tuned on them for a time, and the new version added to the models."""
    clinic = make_clinic(Path(folder))
    by_time = {"minutes": 0.1, "device": "cpu", "threads": 1}
    run = clinic.start(clinic.request(check=["case-0003"], settings=by_time))
    policy = _policy_of_trainer(run)
    wait_for_end(run)
    status = run.status()
    assert status.state is RunState.DONE, f"{status}\n{run.log_tail()}"
    assert policy in (None, os.SCHED_BATCH), policy
    _check_versions_and_modes(clinic, run)


def segment(folder: str) -> None:
    """A scan labelled by a worker, which has the nice value of who started it, in the usual working folder."""
    models = ModelStore(Path(folder) / "models", shipped_folder=Path(folder) / "none")
    staged = save_tiny(Path(folder) / "staged")
    models.add(staged.path)
    volume = PhantomFactory()(shape=(24, 22, 20), noise=20.0).volume
    with Console(store=models) as console:
        assert console.working_folder == default_working_folder()
        result = console.process(volume, model="tiny-mr", device="cpu", check_familiarity=False)
        workers = psutil.Process().children()
        assert [worker.nice() for worker in workers] == [os.getpriority(os.PRIO_PROCESS, 0)]
        assert os.sched_getscheduler(workers[0].pid) == os.SCHED_OTHER
    assert result.label_map.grid.matches(volume.grid)
    assert result.model == "tiny-mr@1.0.0"
    assert stat.S_IMODE(console.working_folder.stat().st_mode) == 0o700


def segment_where_nothing_can_be_written(folder: str) -> None:
    """The home, the scan's folder and those of outputs may only be read: what needs none of them works, the rest says
    which place it is before the network runs."""
    place = Path(folder)
    model = save_tiny(place / "tiny-mr")
    (place / "closed").mkdir()
    scan = write_volume(place / "closed" / "scan.nii.gz", PhantomFactory()(shape=(24, 22, 20), noise=20.0).volume)
    (place / "open").mkdir()
    for closed in (place / "closed", place):
        closed.chmod(0o500)
    os.chdir(place / "open")
    command = ["segment", str(scan), "-m", str(model.path), "--device", "cpu"]
    assert main([*command, "-q"]) == 0
    assert [file.name for file in Path().iterdir()] == ["scan.seg.nrrd"]
    for option, name in (("-o", "s.nii.gz"), ("--preview", "p.png"), ("--probabilities", "p.nii.gz")):
        said = io.StringIO()
        with redirect_stderr(said), patch.object(Predictor, "predict", side_effect=AssertionError):
            assert main([*command, *(() if option == "-o" else ("-o", "s.nii.gz")), option, f"../closed/{name}"]) == 2
        assert f"closed/{name} cannot be written: Permission denied" in said.getvalue()
    assert [file.name for file in Path().iterdir()] == ["scan.seg.nrrd"]


def _policy_of_trainer(run: FineTuneRun) -> int | None:
    """How the run's process is scheduled once it trains; None if it was too quick."""
    wait_until(run, lambda: run.status().step > 0 or run.status().is_finished)
    for process in psutil.process_iter(["pid", "cmdline"]):
        if str(run.path) in (process.info["cmdline"] or ()):
            assert process.nice() == os.getpriority(os.PRIO_PROCESS, 0)
            return os.sched_getscheduler(process.pid)
    return None


def _check_versions_and_modes(clinic: Clinic, run: FineTuneRun) -> None:
    assert [bundle.version for bundle in clinic.models.list()] == ["1.0.0", "1.1.0"]
    for path in (clinic.store.folder, run.path, run.path.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
