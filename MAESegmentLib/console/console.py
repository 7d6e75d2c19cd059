"""The console outside Slicer: the same call as the module's `process`, on a file or a volume, in the same worker."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle, ModelStore
from ..errors import ConfigurationError, MAESegmentError
from ..images.labels import Label
from ..images.volume import LabelMap, Volume
from ..inference.settings import InferenceSettings
from ..jobs import Job, JobProgress, JobState, QueueLoop
from ..processes.interpreter import Interpreter, choose_interpreter, worker_launch
from ..processes.launch import Launch
from ..storage.user_folders import default_working_folder
from ..worker.client.client import WorkerClient
from ..worker.client.requests import submit_segmentation
from ..worker.client.transport import SubprocessTransport
from ..worker.job_folder import JobFolder, full_label_array, remove_stale
from .learning import LearningCalls

if TYPE_CHECKING:
    from ..images.roi import Roi

Scan = str | os.PathLike[str] | Volume | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    """`label_map` lies on exactly the scan's grid; `volumes_ml` is by label value."""

    label_map: LabelMap
    labels: tuple[Label, ...]
    volumes_ml: Mapping[int, float]
    seconds: float
    network_seconds: float
    device: str
    device_title: str
    model: str
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict, repr=False)
    source: Volume | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `.seg.nrrd`, `.nii.gz`, or (if the scan was DICOM) `.dcm`; answers the file's path."""
        from ..images.writing import write_label_map

        return write_label_map(Path(path), self.label_map, self.labels, source=self.source)


class ConsoleJob:
    """A segmentation that is being made. What it says is up to date whenever it is asked; nothing comes by itself."""

    def __init__(self, console: Console, job: Job[SegmentedVolume]) -> None:
        self._console = console
        self._job = job

    @property
    def state(self) -> JobState:
        return self._now.state

    @property
    def progress(self) -> JobProgress:
        return self._now.progress

    @property
    def is_finished(self) -> bool:
        return self._now.is_finished

    @property
    def error(self) -> MAESegmentError | None:
        return self._now.error

    @property
    def details(self) -> Mapping[str, Any]:
        """Figures that came with an error, e.g. `cpu_seconds`."""
        return self._now.details

    def cancel(self) -> None:
        self._job.cancel()

    def result(self, timeout_s: float | None = None) -> SegmentedVolume:
        """Waits for it. Raises the job's error, or `TimeoutError`."""
        return self._job.result(timeout_s)

    @property
    def _now(self) -> Job[SegmentedVolume]:
        self._console.look(self._job)
        return self._job


class Console(LearningCalls):
    """Keeps one warm worker for all its calls; `close` it, use it in `with`, or leave that to the end of the program.

    `python` is the interpreter for the network (default: `MAESEGMENT_PYTHON`, else this one).
    """

    def __init__(
        self,
        python: str = "",
        *,
        store: ModelStore | None = None,
        working_folder: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        """`log(level, text)` gets what the worker says. `working_folder` needs room for the scan."""
        self.store = store or ModelStore()
        self.working_folder = Path(working_folder or default_working_folder())
        self.environment = environment = dict(os.environ if environ is None else environ)
        self._python = python
        self._is_telling = False
        working = self.working_folder

        def launch() -> Launch:
            remove_stale(working)
            return worker_launch(choose_interpreter(python, environ=environment), environment)

        loop = QueueLoop()
        self.client = WorkerClient(loop, lambda: SubprocessTransport(loop), launch, log=log)
        # Also for a console that nobody closed, and at the end of the program.
        self._finalizer = weakref.finalize(self, self.client.shutdown)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, _kind: object, _error: object, _trace: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and wait until it is gone; jobs that are not finished are cancelled."""
        self.client.shutdown()
        self.client.wait_until_ended(10.0)

    def process(
        self,
        scan: Scan,
        model: str | os.PathLike[str] | Bundle = "hippocampus-mr",
        device: str = "auto",
        wait: bool = True,
        callback: Callable[[ConsoleJob], None] | None = None,
        *,
        roi: Sequence[float] | Roi | None = None,
        precision: str = "auto",
        overlap: float | None = None,
        mirroring: bool | tuple[int, ...] | None = None,
        allow_cpu: bool = True,
        check_familiarity: bool = True,
        out: str | os.PathLike[str] | None = None,
    ) -> SegmentedVolume | ConsoleJob:
        """Segment `scan`: a `Volume`, a file or DICOM folder, or a list of files (one per channel).

        Waits for the result, or answers a job if `wait` is False or a `callback(job)` is given. `roi` is
        (R0, R1, A0, A1, S0, S1) in RAS mm. `out` is written when the result is there. Raises `MAESegmentError`s.
        """
        bundle = self.find(model)
        settings = _chosen(device, precision, overlap, mirroring, allow_cpu, check_familiarity)
        volume = scan if isinstance(scan, Volume) else self.read(scan)
        volume.grid.check()
        _check_channels(volume, bundle)
        if out is not None:
            from ..images.writing import check_label_map_destination

            check_label_map_destination(Path(out), source=volume, labels=bundle.labels)
        job = submit_segmentation(
            self.client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            model=bundle,
            settings=settings,
            roi=_bounds(roi),
            working_folder=self.working_folder,
            finish=lambda data, folder: _result(data, folder, volume, bundle, out),
        )
        handle = ConsoleJob(self, job)
        if callback is not None:
            job.add_listener(lambda _job: self._tell(callback, handle))
        if wait and callback is None:
            return _waited_for(handle)
        # From here on the worker needs nothing more of this process, even if nobody asks for a while.
        while job.state is JobState.PREPARING:
            self.client.loop.pump(0.1)
        return handle

    def look(self, job: Job[SegmentedVolume]) -> None:
        """Bring `job` up to date; not from within a callback: it would hear of the next change before this one."""
        if not job.is_finished and not self._is_telling:
            self.client.loop.pump(0.0)

    def _tell(self, callback: Callable[[ConsoleJob], None], handle: ConsoleJob) -> None:
        before, self._is_telling = self._is_telling, True
        try:
            callback(handle)
        finally:
            self._is_telling = before

    def find(self, model: str | os.PathLike[str] | Bundle) -> Bundle:
        """The model that is meant; verified by the worker, once."""
        return model if isinstance(model, Bundle) else self.store.find(model, kind="segmentation", verify=False)

    def read(self, scan: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Volume:
        """A file or DICOM folder, or a list of files, one per channel."""
        return _read(scan)

    def interpreter(self) -> Interpreter:
        """The Python that runs the network."""
        return choose_interpreter(self._python, environ=self.environment)


def _waited_for(job: ConsoleJob) -> SegmentedVolume:
    try:
        return job.result()
    except KeyboardInterrupt:
        job.cancel()
        raise


def _chosen(
    device: str,
    precision: str,
    overlap: float | None,
    mirroring: bool | tuple[int, ...] | None,
    allow_cpu: bool,
    check_familiarity: bool,
) -> dict[str, Any]:
    """What differs from the model's own settings; refuses what cannot work before anything is started."""
    values: dict[str, Any] = {
        "device": device,
        "precision": None if precision == "auto" else precision,
        "overlap": overlap,
        "mirroring": mirroring,
        "allow_cpu": allow_cpu,
        "check_familiarity": check_familiarity,
    }
    chosen = {name: value for name, value in values.items() if value is not None}
    InferenceSettings(**chosen)
    return chosen


def _read(scan: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Volume:
    from ..images.reading import read_volume, read_volumes

    if isinstance(scan, str | os.PathLike):
        return read_volume(Path(scan))
    paths = [Path(one) for one in scan]
    return read_volume(paths[0]) if len(paths) == 1 else read_volumes(paths)


def _check_channels(volume: Volume, bundle: Bundle) -> None:
    wanted = bundle.metadata["maesegment"]["channels"]
    if len(volume.array) != len(wanted):
        raise ConfigurationError(
            f"Model {bundle.name} needs the channels {', '.join(wanted)}; {len(volume.array)} were given.",
            "Give one file for each, in this order.",
        )


def _bounds(roi: Sequence[float] | Roi | None) -> tuple[float, ...] | None:
    if roi is None:
        return None
    if not isinstance(roi, Sequence):
        return tuple(bound for pair in zip(roi.minimum, roi.maximum, strict=True) for bound in pair)
    return tuple(float(bound) for bound in roi)


def _result(
    data: Mapping[str, Any], folder: JobFolder, volume: Volume, bundle: Bundle, out: str | os.PathLike[str] | None
) -> Generator[float, None, SegmentedVolume]:
    block, origin = folder.read_labels(data["labels"])
    labels = full_label_array(block, origin, volume.grid.shape)
    result = SegmentedVolume(
        label_map=LabelMap(labels.T, volume.ijk_to_ras),
        labels=bundle.labels,
        volumes_ml={int(value): float(ml) for value, ml in data.get("volumes_ml", {}).items()},
        seconds=float(data.get("seconds", 0.0)),
        network_seconds=float(data.get("network_seconds", 0.0)),
        device=str(data.get("device", "")),
        device_title=str(data.get("device_title", "")),
        model=f"{bundle.name}@{bundle.version}",
        warnings=(*volume.notes, *map(str, data.get("warnings", ()))),
        timings=dict(data.get("timings", {})),
        source=volume,
    )
    yield 0.5
    if out is not None:
        result.save(out)
    return result
