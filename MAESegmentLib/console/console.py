"""The console outside Slicer: the calls of `calls`, on files and volumes, with one worker for all of them."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle, ModelStore
from ..bundle.library import ModelChoice, ModelLibrary
from ..bundle.spec import check_channels
from ..bundle.suitability import ScanFacts, box_placing, check_scan
from ..errors import ConfigurationError
from ..images.labels import Label
from ..images.roi import Roi
from ..images.segment_statistics import SegmentStatistics, measure_labels, write_statistics
from ..images.volume import LabelMap, Volume
from ..images.volumetry import value_counts
from ..inference.settings import InferenceSettings, Mirroring, SegmentationSummary
from ..jobs import Job, QueueLoop
from ..processes.interpreter import Interpreter, choose_interpreter, worker_launch
from ..processes.launch import Launch
from ..storage.user_folders import default_working_folder
from ..worker.client.client import WorkerClient
from ..worker.client.requests import submit_segmentation
from ..worker.client.transport import SubprocessTransport
from ..worker.job_folder import JobFolder, full_label_array, remove_stale
from .calls import part
from .handles import ConsoleJob, JobHandles
from .learning import Box, Learning, Scan
from .updating import Drawing, placed_on


@dataclass(frozen=True, eq=False)
class SegmentedVolume(SegmentationSummary):
    """`label_map` lies on exactly the scan's grid; `volumes_ml` is by label value."""

    label_map: LabelMap = field(kw_only=True, repr=False)
    source: Volume | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `.seg.nrrd`, `.nii.gz`, or (of a DICOM scan) `.dcm` or `.rtstruct.dcm`; returns the file's path."""
        from ..images.writing import write_label_map

        return write_label_map(Path(path), self.label_map, self.labels, source=self.source)


class Console:
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
        """`log(level, text)` gets what the worker reports. `working_folder` needs room for the scan."""
        self.store = store or ModelStore()
        self.working_folder = Path(working_folder or default_working_folder())
        self.environment = environment = dict(os.environ if environ is None else environ)
        self._python = python
        working = self.working_folder

        def launch() -> Launch:
            remove_stale(working)
            return worker_launch(choose_interpreter(python, environ=environment), environment)

        loop = QueueLoop()
        self.client = WorkerClient(loop, lambda: SubprocessTransport(loop), launch, log=log)
        self.library = ModelLibrary(self.store)
        self.handles = JobHandles(loop)
        self._learning = Learning(self)
        self._drawing = Drawing(self)
        # Also for a console that nobody closed, and at the end of the program.
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _shut_down, self.client, self._owner)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, _kind: object, _error: object, _trace: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and wait until it is gone; jobs that are not finished are cancelled."""
        if _shut_down(self.client, self._owner):
            self.client.wait_until_ended(10.0)

    def process(
        self,
        scan: Scan,
        model: ModelChoice = None,
        device: str = "auto",
        wait: bool = True,
        callback: Callable[[ConsoleJob[SegmentedVolume]], None] | None = None,
        *,
        roi: Box | None = None,
        speed: str = "best",
        precision: str = "auto",
        runtime: str = "auto",
        overlap: float | None = None,
        mirroring: Mirroring | None = None,
        allow_cpu: bool = True,
        check_familiarity: bool = True,
        allow_mismatch: bool = False,
        clean: bool = True,
        out: str | os.PathLike[str] | None = None,
    ) -> SegmentedVolume | ConsoleJob[SegmentedVolume]:
        """Segment `scan`: a `Volume`, a file or DICOM folder, or a list of files (one per channel).

        `model` is a name or the beginning of one, NAME@VERSION, a folder or a bundle; None is the only one there is.
        `roi` is R0, R1, A0, A1, S0, S1 in RAS mm: numbers, or text or a file as `--roi` takes it. `speed` is "best", as
        the model was measured, "fast", or "averaged" over mirrored and shifted copies: overlap and mirroring that are
        given win. `runtime` is "torch", or "openvino" on the processor; "auto" takes that for a model that was prepared
        for it. `out` is written when the result is there. `MismatchError` if the model cannot fit the scan, unless
        `allow_mismatch`.
        """
        bundle = self.library.find(model)
        settings = InferenceSettings.chosen(
            device=device,
            speed=speed,
            precision=precision,
            runtime=runtime,
            overlap=overlap,
            mirroring=mirroring,
            allow_cpu=allow_cpu,
            check_familiarity=check_familiarity,
            clean=clean,
        )
        volume = self.read(scan)
        volume.grid.check()
        check_channels(len(volume.array), bundle.channels)
        box = None if roi is None else Roi.of(roi)
        facts = ScanFacts.of(volume)
        hint = "If you know that it fits: allow_mismatch=True."
        notes = (*volume.notes, *check_scan(bundle, facts, allowed=allow_mismatch, hint=hint))
        placing = box_placing(bundle, facts.grid, box, self.library.meant)
        if placing.lacking:
            warnings.warn(f"{placing.lacking} Give roi=(R0, R1, A0, A1, S0, S1) in mm.", stacklevel=2)
        if out is not None:
            from ..images.writing import check_label_map_destination

            check_label_map_destination(Path(out), source=volume, labels=bundle.labels)
        job: Job[SegmentedVolume] = submit_segmentation(
            self.client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            model=bundle,
            settings=settings,
            roi=None if box is None else box.bounds,
            locator=placing.locator,
            working_folder=self.working_folder,
            finish=lambda data, folder: _result(data, folder, volume, bundle, out, notes, is_shared=volume is scan),
        )
        return self.handles.outcome(job, wait, callback)

    def statistics(
        self,
        scan: Scan,
        label_map: LabelMap,
        labels: Sequence[Label] | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
    ) -> list[tuple[str, SegmentStatistics]]:
        """(name, statistics) of each structure of a label map on the scan's grid; `labels` say what its values mean,
        else each is called by its number. `out` is a .csv file."""
        volume = self.read(scan)
        placed = placed_on(label_map, volume)
        values = [int(value) for value in np.flatnonzero(value_counts(placed.array)) if value]
        known = [Label(value, str(value)) for value in values] if labels is None else labels
        rows = measure_labels(placed, known, volume.array)
        if out is not None:
            write_statistics(Path(out), rows, [str(number) for number in range(1, len(volume.array) + 1)])
        return rows

    update_scan = part("_drawing", Drawing.update_scan)
    grow_scribbles = part("_drawing", Drawing.grow_scribbles)

    compare = part("_learning", Learning.compare)
    add_case = part("_learning", Learning.add_case)
    cases = part("_learning", Learning.cases)
    case_store = part("_learning", Learning.case_store)
    set_case_role = part("_learning", Learning.set_case_role)
    remove_case = part("_learning", Learning.remove_case)
    next_cases = part("_learning", Learning.next_cases)
    estimate_fine_tune = part("_learning", Learning.estimate_fine_tune)
    fine_tune = part("_learning", Learning.fine_tune)

    models = part("library", ModelLibrary.models)
    selected_model = part("library", ModelLibrary.meant)
    use_version = part("library", ModelLibrary.use)
    remove_version = part("library", ModelLibrary.remove)
    import_model = part("library", ModelLibrary.add)
    export_model = part("library", ModelLibrary.export)

    def read(self, scan: Scan) -> Volume:
        """A file or DICOM folder, or a list of files, one per channel; a `Volume` stays as it is."""
        from ..images.reading import read_volume, read_volumes

        if isinstance(scan, Volume):
            return scan
        if isinstance(scan, str | os.PathLike):
            return read_volume(Path(scan))
        if not isinstance(scan, Sequence) or not all(isinstance(one, str | os.PathLike) for one in scan):
            raise ConfigurationError(
                f"A scan is not given as {type(scan).__name__}.",
                "Give a file, a DICOM folder, a list of files or a Volume.",
            )
        paths = [Path(one) for one in scan]
        return read_volume(paths[0]) if len(paths) == 1 else read_volumes(paths)

    def interpreter(self) -> Interpreter:
        """The Python that runs the network."""
        return choose_interpreter(self._python, environ=self.environment)


def _shut_down(client: WorkerClient, owner: int) -> bool:
    """Not in a fork of the program, which ends before it: the worker and the jobs are the program's."""
    if os.getpid() != owner:
        return False
    client.shutdown()
    return True


def _result(
    data: Mapping[str, Any],
    folder: JobFolder,
    volume: Volume,
    bundle: Bundle,
    out: str | os.PathLike[str] | None,
    notes: Sequence[str],
    *,
    is_shared: bool,
) -> Generator[float, None, SegmentedVolume]:
    """`notes` are warnings of the result; `is_shared`: whether the caller has the volume's voxels, too, and may have
    changed them."""
    changes = (yield from folder.change_notes([channel.T for channel in volume.array])) if is_shared else ()
    block, origin = folder.read_labels(data["labels"])
    labels = full_label_array(block, origin, volume.grid.shape)
    result = SegmentedVolume.of_reply(
        data,
        bundle,
        warnings=(*notes, *map(str, data.get("warnings", ())), *changes),
        label_map=LabelMap(labels.T, volume.ijk_to_ras),
        source=volume,
    )
    yield 0.5
    if out is not None:
        result.save(out)
    return result
