"""The calls of a console that store cases, learn from them, compare versions and rank scans."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..bundle import Bundle, ModelStore
from ..bundle.library import ModelChoice, ModelLibrary
from ..bundle.spec import check_channels
from ..bundle.suitability import ScanFacts, mismatch
from ..cases.records import CaseRecord
from ..cases.store import CaseStore
from ..cases.submission import CaseSubmission
from ..errors import Cancelled, ConfigurationError, DatasetError, MAESegmentError
from ..evaluation.comparison import Comparison, compare_label_maps
from ..images.formats.dicom.belonging import place_on
from ..images.labels import ByName, Label, other_names
from ..images.roi import Roi
from ..images.scans import find_scans
from ..images.volume import LabelMap, Volume
from ..inference.ranking import RankedScan, in_order
from ..jobs import Job, JobProgress, Promise
from ..jobs.runner import Operation
from ..runs import FineTuneEstimate, FineTuneRun, RunResult, RunState, create_run, start
from ..storage.user_folders import default_cases_folder, default_runs_folder
from ..worker.client.requests import submit_case, submit_estimate, submit_scan_ranking
from .calls import several
from .handles import ConsoleJob, JobHandles
from .training_request import chosen_cases, existing_places, refuse_second_run, training_request

if TYPE_CHECKING:
    from ..processes.interpreter import Interpreter
    from ..worker.client.client import WorkerClient

Scan = str | os.PathLike[str] | Volume | Sequence[str | os.PathLike[str]]
#: A folder, a file, or several of them.
Places = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Box = Sequence[float] | str | os.PathLike[str] | Roi

_POLL_EVERY_S = 0.2


class Host(Protocol):
    """What these calls need of the console."""

    store: ModelStore
    library: ModelLibrary
    client: WorkerClient
    handles: JobHandles
    working_folder: Path
    environment: dict[str, str]

    def interpreter(self) -> Interpreter: ...
    def read(self, scan: Scan) -> Volume: ...
    @property
    def process(self) -> Callable[..., Any]: ...


class Learning:
    """Part of `Console`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def case_store(self, model: ModelChoice = None) -> CaseStore:
        """The corrected cases for `model` and all its versions, in the folder that `maesegment cases` uses."""
        bundle = self._host.library.find(model)
        return CaseStore(default_cases_folder() / self._host.store.root_of(bundle))

    def cases(self, model: ModelChoice = None) -> list[CaseRecord]:
        """The stored cases, by number."""
        return self.case_store(model).list()

    def remove_case(self, case: CaseRecord | str, model: ModelChoice = None) -> None:
        """Delete a stored case, by record or id; its number is not given again."""
        self.case_store(model).remove(case if isinstance(case, str) else case.id)

    def set_case_role(self, case: CaseRecord | str, role: str, model: ModelChoice = None) -> CaseRecord:
        """ "train": the model learns from it; "validation": it is held out to measure how good the model is."""
        return self.case_store(model).set_role(case if isinstance(case, str) else case.id, role)

    def add_case(
        self,
        scan: Scan,
        label_map: LabelMap,
        model: ModelChoice = None,
        *,
        labels: Sequence[Label] | None = None,
        absent: Sequence[str] = (),
        role: str = "",
        group: str = "",
        region: Box | tuple[()] | None = None,
        update: str = "",
        wait: bool = True,
        callback: Callable[[ConsoleJob[CaseRecord]], None] | None = None,
    ) -> CaseRecord | ConsoleJob[CaseRecord]:
        """Store a scan (see `process`) with its corrected label map, which lies on its grid.

        `VolumeReadError` for a DICOM SEG that was drawn on another scan. `read_label_map` reads it, and an RTSTRUCT if
        it is given the scan, too.

        `labels` say what its values mean (default: the model's); what a side has where boxes were placed is stored as
        the model's own label. A label without voxels was not searched for, unless it
        is named in `absent`. `region` is all that was annotated; () takes a region back. `update` is the id of a case
        to replace.
        """
        if not isinstance(label_map, LabelMap):
            raise ConfigurationError(
                f"A label map is not given as {type(label_map).__name__}.",
                "Give `read_label_map(file)`, or the `label_map` of what `process` returned.",
            )
        bundle = self._host.library.find(model)
        volume = self._host.read(scan)
        check_channels(len(volume.array), bundle.channels)
        if reason := mismatch(bundle, ScanFacts.of(volume)):
            warnings.warn(reason, stacklevel=2)
        label_map, notes = place_on(label_map, volume)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        given = bundle.all_labels if labels is None else several(labels, (Label,), "Give `Label`s.")
        own_name = {label.name: own.name for label, own in bundle.sided}
        known = tuple(replace(label, name=own_name.get(label.name, label.name)) for label in given)
        absent = several(absent, (str,), "Give names of labels.")
        drawn = [label for label in known if (label_map.array == label.value).any()]
        looked_for = ByName((name, True) for name in (*absent, *(label.name for label in drawn)))
        submission = CaseSubmission(
            labels=tuple(label for label in known if label.name in looked_for),
            unknown=other_names((label.name for label in bundle.labels), looked_for),
            role=role,
            group=group,
            model=bundle.reference,
            region=region if region is None or region == () else Roi.of(region).bounds,
            replace=update,
            absent=tuple(absent),
        )
        job = submit_case(
            self._host.client,
            [channel.T for channel in volume.array],
            volume.ijk_to_ras,
            label_map.array.T,
            store=self.case_store(bundle).folder,
            submission=submission,
            working_folder=self._host.working_folder,
        )
        return self._host.handles.outcome(job, wait, callback)

    def estimate_fine_tune(
        self,
        cases: Iterable[CaseRecord | str] | str | None = None,
        base_model: ModelChoice = None,
        *,
        device: str = "auto",
        validation: str = "auto",
        unlabelled: Places | None = None,
        wait: bool = True,
        callback: Callable[[ConsoleJob[FineTuneEstimate]], None] | None = None,
        **settings: Any,
    ) -> FineTuneEstimate | ConsoleJob[FineTuneEstimate]:
        """Measure, by a few steps here, how long `fine_tune` of the same arguments takes, and its memory."""
        request = self._request(cases, base_model, device, "", validation, settings)
        request = replace(request, unlabelled=tuple(map(str, existing_places(unlabelled))))
        return self._host.handles.outcome(submit_estimate(self._host.client, request), wait, callback)

    def fine_tune(
        self,
        cases: Iterable[CaseRecord | str] | str | None = None,
        base_model: ModelChoice = None,
        *,
        device: str = "auto",
        name: str = "",
        validation: str = "auto",
        unlabelled: Places | None = None,
        wait: bool = True,
        callback: Callable[[ConsoleJob[RunResult]], None] | None = None,
        **settings: Any,
    ) -> RunResult | ConsoleJob[RunResult]:
        """Make a new version of `base_model` from stored cases (ids or records; None: all), in a process that outlives
        this one; cancelling the job ends and discards it.

        `settings` are fields of `FineTuneSettings`; none is needed. `name` gives the result a name of its own instead
        of a new version. Without validation cases a few are checked by leave-one-out, at the cost of time; `validation`
        "none" leaves that out. `unlabelled` are more scans, best from the same scanner, which need no labels: a folder,
        or several places; what cannot be used is named in the result's notes. Nothing uses the new version until it is
        chosen: `use_version`.
        """
        places = tuple(map(str, existing_places(unlabelled)))
        refuse_second_run()
        request = self._request(cases, base_model, device, name, validation, settings)
        run = create_run(default_runs_folder(), replace(request, unlabelled=places))
        start(run, self._host.interpreter(), self._host.environment)
        job: Job[RunResult] = Job(self._host.client.loop, run.id)
        return self._host.handles.outcome(job.run(self._follow(run)), wait, callback)

    def compare(
        self,
        scan: Scan,
        first: ModelChoice,
        second: ModelChoice,
        *,
        roi: Box | None = None,
        device: str = "auto",
        wait: bool = True,
        callback: Callable[[ConsoleJob[Comparison]], None] | None = None,
    ) -> Comparison | ConsoleJob[Comparison]:
        """Segment a scan with two versions and find where they differ, label by label."""
        versions = [self._host.library.find(model) for model in (first, second)]
        volume = self._host.read(scan)
        job: Job[Comparison] = Job(self._host.client.loop)

        def segment(bundle: Bundle) -> Job[Any]:
            return self._host.process(volume, bundle, device, wait=False, roi=roi)._job

        first_job = segment(versions[0])  # begun here, so that a wrong scan or box is raised at once

        def operation() -> Operation[Comparison]:
            found = []
            for number, bundle in enumerate(versions):
                current = segment(bundle) if number else first_job
                segmented = yield from job.following(current, _share(("first", "second")[number], number, 2))
                found.append(segmented)
            one, other = found
            return compare_label_maps(one.label_map, other.label_map, one.labels, other.labels)

        return self._host.handles.outcome(job.run(operation()), wait, callback)

    def next_cases(
        self,
        scans: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        model: ModelChoice = None,
        *,
        roi: Box | None = None,
        device: str = "auto",
        wait: bool = True,
        callback: Callable[[ConsoleJob[list[RankedScan]]], None] | None = None,
    ) -> list[RankedScan] | ConsoleJob[list[RankedScan]]:
        """Rank scans (folders, files) by how uncertain the model is. The one most worth correcting comes first, those
        that could not be measured last."""
        places = [Path(scan) for scan in several(scans, (str, os.PathLike), "Give folders or files with scans.")]
        paths = find_scans(places)
        if not paths:
            raise DatasetError(f"There is no scan in {', '.join(map(str, places))}.", "Give a folder with scans.")
        bundle = self._host.library.find(model)
        box = None if roi is None else Roi.of(roi).bounds
        job: Job[list[RankedScan]] = Job(self._host.client.loop)

        def operation() -> Operation[list[RankedScan]]:
            ranked: list[RankedScan] = []
            for number, path in enumerate(paths):
                current = submit_scan_ranking(
                    self._host.client, path, model=bundle, settings={"device": device}, roi=box
                )
                try:
                    found = yield from job.following(current, _share("rank", number, len(paths)))
                except MAESegmentError as error:
                    if job.cancel_requested:
                        raise
                    ranked.append(RankedScan(path, error=error))
                else:
                    ranked.append(RankedScan(path, found))
            return in_order(ranked)

        return self._host.handles.outcome(job.run(operation()), wait, callback)

    def _request(
        self, cases: Any, base_model: ModelChoice, device: str, name: str, validation: str, settings: dict[str, Any]
    ) -> Any:
        base = self._host.library.find(base_model)
        store = self.case_store(base)
        records = chosen_cases(store, cases)
        how: dict[str, Any] = {"device": device, "name": name, "validation": validation, "settings": settings}
        return training_request(base, store, records, self._host.store, **how)

    def _follow(self, run: FineTuneRun) -> Operation[RunResult]:
        """Until the process has ended, however that is."""
        status = run.status()
        try:
            while not status.is_finished and status.state is not RunState.INTERRUPTED:
                yield JobProgress(status.stage, status.fraction, status.eta_s)
                pause: Promise[None] = Promise()
                forget = self._host.client.loop.call_later(_POLL_EVERY_S, pause.resolve)
                pause.cancel = pause.resolve
                yield pause
                forget()
                status = run.status()
        except Cancelled:
            run.discard()
            raise
        return status.outcome()


def _share(stage: str, number: int, count: int) -> Callable[[Job[Any]], JobProgress]:
    """How far all is while one of `count` jobs runs."""
    return lambda job: JobProgress(stage, (number + job.fraction) / count, job.eta_s)
