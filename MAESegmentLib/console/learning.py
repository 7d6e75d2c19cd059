"""What the console outside Slicer has for learning: the same calls as the module's, on files and volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle, ModelStore
from ..cases.records import CHECK, CaseRecord
from ..cases.store import CaseStore
from ..cases.submission import CaseSubmission
from ..errors import Cancelled, DatasetError, WorkerError
from ..evaluation.comparison import Comparison, compare_label_maps
from ..images.formats.dicom.belonging import place_on
from ..images.labels import ByName, Label, other_names
from ..images.volume import LabelMap, Volume
from ..runs import FineTuneRun, RunRequest, RunResult, RunState, create_run, start
from ..storage.user_folders import default_cases_folder, default_runs_folder
from ..worker.client.requests import submit_case

if TYPE_CHECKING:
    from ..processes.interpreter import Interpreter
    from ..worker.client.client import WorkerClient

_LOOK_EVERY_S = 0.2


class LearningCalls:
    """Part of `Console`: needs what is named here."""

    store: ModelStore
    client: WorkerClient
    working_folder: Path
    environment: dict[str, str]
    interpreter: Callable[[], Interpreter]
    process: Callable[..., Any]
    find: Callable[[Any], Bundle]
    read: Callable[[Any], Volume]

    def case_store(self, model: Any) -> CaseStore:
        """The corrected cases for `model` and all its versions, in the folder that `maesegment cases` uses."""
        return CaseStore(default_cases_folder() / self.store.root_of(self.find(model)))

    def add_case(
        self,
        scan: Any,
        label_map: LabelMap,
        model: Any,
        *,
        labels: Sequence[Label] | None = None,
        absent: Sequence[str] = (),
        role: str = "",
        group: str = "",
        region: Sequence[float] | None = None,
        update: str = "",
    ) -> CaseRecord:
        """Store a scan (see `process`) with its corrected label map, which lies on its grid, and answer the record.

        `VolumeReadError` for a DICOM SEG (see `read_label_map`) that was drawn on another scan.

        `labels` say what its values mean (default: the model's). A label without voxels was not looked for, unless it
        is named in `absent`. `update` is the id of a case to replace.
        """
        bundle = self.find(model)
        volume = scan if isinstance(scan, Volume) else self.read(scan)
        label_map, _assumed = place_on(label_map, volume)
        known = tuple(bundle.labels if labels is None else labels)
        drawn = [label for label in known if (label_map.array == label.value).any()]
        looked_for = ByName((name, True) for name in (*absent, *(label.name for label in drawn)))
        submission = CaseSubmission(
            labels=tuple(label for label in known if label.name in looked_for),
            unknown=other_names((label.name for label in bundle.labels), looked_for),
            role=role,
            group=group,
            model=bundle.reference,
            region=None if region is None else tuple(float(bound) for bound in region),
            replace=update,
            absent=tuple(absent),
        )
        job = submit_case(
            self.client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            label_map.array.T,
            store=self.case_store(bundle).folder,
            submission=submission,
            working_folder=self.working_folder,
        )
        return job.result()

    def fine_tune(
        self,
        model: Any,
        cases: Sequence[str] | None = None,
        *,
        device: str = "auto",
        name: str = "",
        wait: bool = True,
        **settings: Any,
    ) -> RunResult | FineTuneRun:
        """Make a new version of `model` from its stored cases (ids; None: all), in a process that outlives this one.

        `settings` are fields of `FineTuneSettings`. Returns the result, or the run if `wait` is False. The version is
        used by its name alone once it is selected: `store.select(store.find(NAME@VERSION))`.
        """
        base = self.find(model)
        store = self.case_store(base)
        records = store.list() if cases is None else [store.get(case) for case in cases]
        training = tuple(record.id for record in records if record.role != CHECK)
        if not training:
            raise DatasetError("There is no case to learn from.", "Add a corrected case first: add_case.")
        request = RunRequest(
            base=base.reference,
            base_path=str(base.path),
            store=str(store.folder.absolute()),
            training=training,
            check=tuple(record.id for record in records if record.role == CHECK),
            models=str(self.store.user_folder.absolute()),
            name=name,
            settings={**settings, **({} if device == "auto" else {"device": device})},
        )
        run = create_run(default_runs_folder(), request)
        start(run, self.interpreter(), self.environment)
        return _waited_for(run) if wait else run

    def compare(self, scan: Any, first: Any, second: Any, **how: Any) -> Comparison:
        """Segment a scan with two versions (`how` as in `process`) and say where they differ, label by label."""
        versions = [self.find(model) for model in (first, second)]
        volume = scan if isinstance(scan, Volume) else self.read(scan)
        maps = [self.process(volume, bundle, **how).label_map for bundle in versions]
        return compare_label_maps(maps[0], maps[1], versions[0].labels, versions[1].labels)


def _waited_for(run: FineTuneRun) -> RunResult:
    status = run.status()
    try:
        while not status.is_finished and status.state is not RunState.INTERRUPTED:
            time.sleep(_LOOK_EVERY_S)
            status = run.status()
    except KeyboardInterrupt:
        run.discard()
        raise
    if status.result is not None:
        return status.result
    if status.state is RunState.DISCARDED:
        raise Cancelled("The fine-tuning was discarded.")
    raise status.error or WorkerError("The fine-tuning was interrupted.", "Start it again; see its log.")
