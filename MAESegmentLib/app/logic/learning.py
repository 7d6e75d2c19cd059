"""The part of `MAESegmentLogic` that makes new versions of a model, compares them and says what to correct next."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...bundle import Bundle, export_bundle
from ...cases.records import CHECK, CaseRecord
from ...cases.store import CaseStore
from ...errors import ConfigurationError, DatasetError, MAESegmentError, WorkerError
from ...inference.settings import InferenceSettings
from ...jobs import Job
from ...runs import FineTuneEstimate, RunRequest, RunState, create_run, list_runs
from ...storage.user_folders import default_runs_folder
from ...training.settings import FineTuneSettings
from ...translation import tr as _
from ...worker.client.requests import submit_estimate
from ..comparing import CompareJob, ComparisonNodes, start_comparison
from ..finetuning import FineTuneJob
from ..processing import roi_box
from ..ranking import RankedVolume, RankJob, sources_of, start_ranking
from .cases import CaseCalls
from .segment import AUTO, ModelChoice, Node, SegmentCalls


class LearningCalls(CaseCalls, SegmentCalls):
    """All that a logic can do; needs what these need."""

    # Fine-tuning ------------------------------------------------------------------------------------------------------

    def estimateFineTune(
        self, baseModel: ModelChoice = None, cases: Any = None, *, device: str = AUTO, **settings: Any
    ) -> Job[FineTuneEstimate]:
        """A job that measures, by a few steps here, how long `fineTune` of the same arguments takes and its memory."""
        base = self._library.find(baseModel)
        records = self._chosen_cases(self.caseStore(base), cases)
        return submit_estimate(self.session.client, self._request(base, records, device, "", settings))

    def fineTune(
        self,
        cases: Any = None,
        baseModel: ModelChoice = None,
        *,
        device: str = AUTO,
        name: str | None = None,
        wait: bool = False,
        callback: Callable[[FineTuneJob], None] | None = None,
        **settings: Any,
    ) -> FineTuneJob:
        """Make a new version of `baseModel` from corrected cases, in a process that outlives Slicer.

        `cases` are ids or records of stored cases (None: all of them), or pairs (volume node, segmentation node), which
        are stored first. `settings` are fields of `FineTuneSettings`; none is needed. `name` gives the result a name of
        its own instead of a new version. The job's `accept()` makes the new version the one that is used; until then
        nothing changes. With `wait` it is returned when it is finished, and raises what went wrong.
        """
        base = self._library.find(baseModel)
        store = self.caseStore(base)
        self._refuse_second_run()
        job = FineTuneJob(self.session, self._library.store, callback)
        pairs = _pairs(cases)
        if pairs:
            _checked_settings(settings)
            job.store_first(
                pairs,
                lambda volume, node: self._stored(volume, node, base),
                lambda records: create_run(
                    default_runs_folder(), self._request(base, records, device, name or "", settings)
                ),
            )
        else:
            request = self._request(base, self._chosen_cases(store, cases), device, name or "", settings)
            job.begin(create_run(default_runs_folder(), request))
        if wait:
            job.result()
        return job

    def fineTuneRuns(self) -> list[FineTuneJob]:
        """Those that run, were interrupted or failed, or are finished and nobody has accepted or declined the result;
        of earlier Slicers, too. The newest first."""
        jobs = []
        for run in list_runs(default_runs_folder()):
            try:
                state, decision = run.status().state, run.decision
                if state is RunState.DISCARDED:
                    run.remove()
                elif not decision:
                    jobs.append(FineTuneJob.of_run(self.session, self._library.store, run))
            except MAESegmentError as error:
                self.session.log.add("warning", f"{run.id}: {error}")
        return jobs

    # Versions ---------------------------------------------------------------------------------------------------------

    def selectedModel(self, name: str) -> Bundle | None:
        """The version that the name of a model means: the one that was chosen, else the highest."""
        return self._library.meant(name)

    def useVersion(self, model: ModelChoice) -> Bundle:
        """From now on the name of this model means this version, here and in every other program."""
        bundle = self._library.find(model)
        self._library.store.select(bundle)
        return bundle

    def removableReason(self, model: ModelChoice) -> str:
        """Why a version cannot be removed, in a sentence; "" if it can."""
        return self._library.store.removable(self._library.find(model))

    def removeVersion(self, model: ModelChoice) -> None:
        """Delete a version that nothing was made from; `BundleError` says why one cannot be removed."""
        self._library.store.remove(self._library.find(model))

    def exportModel(self, model: ModelChoice, path: str | os.PathLike[str]) -> Path:
        """Write a model as a zip that `importModel` reads; Slicer stays alive meanwhile."""
        bundle = self._library.find(model)
        return self.session.loop.call_aside(lambda: export_bundle(bundle, path))

    def compare(
        self,
        volumeNode: Node,
        first: ModelChoice,
        second: ModelChoice,
        *,
        roi: Any = None,
        device: str = AUTO,
        wait: bool = False,
        callback: Callable[[CompareJob], None] | None = None,
    ) -> CompareJob | ComparisonNodes:
        """Segment a scan with two versions and show where they disagree. Returns a job, with `wait` what it ends with:
        three segmentation nodes and a row for each structure."""
        versions = (self._library.find(first), self._library.find(second))
        start = lambda node, bundle: self.process(node, bundle, device, wait=False, roi=roi)  # noqa: E731
        job = start_comparison(volumeNode, versions, start, self.session.loop, callback)
        return job.result() if wait and callback is None else job

    # What to correct next ---------------------------------------------------------------------------------------------

    def nextCases(
        self,
        volumes: Any,
        model: ModelChoice = None,
        callback: Callable[[RankJob], None] | None = None,
        wait: bool = False,
        roi: Any = None,
        device: str = AUTO,
    ) -> RankJob | list[RankedVolume]:
        """Which scan is most worth correcting: of volume nodes, or of the scans without label map in a folder.

        Returns a job whose `rows` are sorted, the most useful first; with `wait` the rows.
        """
        chosen, _note = self._device(device)
        InferenceSettings(device=chosen)
        bundle = self._library.find(model)
        job = start_ranking(self.session, sources_of(volumes), bundle, {"device": chosen}, roi_box(roi), callback)
        return job.result() if wait and callback is None else job

    # ------------------------------------------------------------------------------------------------------------------

    def _request(
        self, base: Bundle, records: Sequence[CaseRecord], device: str, name: str, settings: Mapping[str, Any]
    ) -> RunRequest:
        store = self.caseStore(base)
        training = tuple(record.id for record in records if record.role != CHECK)
        if not training:
            raise DatasetError(
                _("There is no case to learn from."),
                _("Correct a segmentation and add it as a case; nothing is learnt from validation cases."),
            )
        return RunRequest(
            base=base.reference,
            base_path=str(base.path),
            store=str(store.folder.absolute()),
            training=training,
            check=tuple(record.id for record in records if record.role == CHECK),
            models=str(self._library.store.user_folder.absolute()),
            name=name,
            settings=_checked_settings({**settings, **({} if device == AUTO else {"device": device})}),
        )

    def _chosen_cases(self, store: CaseStore, cases: Any) -> list[CaseRecord]:
        if cases is None:
            return store.list()
        chosen = [cases] if isinstance(cases, str | CaseRecord) else list(cases)
        return [store.get(case if isinstance(case, str) else case.id) for case in chosen]

    def _stored(self, volume: Any, node: Any, base: Bundle) -> Any:
        """The record of a pair that is stored as it is, or the job that stores it."""
        proposal = self.proposeCase(volume, node, base)
        if proposal.stored is not None and not proposal.isChanged:
            return proposal.stored
        update = True if proposal.stored is not None or proposal.duplicate is not None else None
        return self.addCase(volume, node, base, update=update, wait=False)

    @staticmethod
    def _refuse_second_run() -> None:
        for run in list_runs(default_runs_folder()):
            status = run.status()
            if status.state in (RunState.WAITING, RunState.RUNNING):
                raise WorkerError(
                    _("A fine-tuning is running already: {text}").format(text=status.text),
                    _("Wait until it is finished, or cancel it."),
                )


def _pairs(cases: Any) -> list[tuple[Any, Any]]:
    """(volume node, segmentation node) if that is what was given."""
    if cases is None or isinstance(cases, str | CaseRecord):
        return []
    listed = list(cases)
    pairs = [tuple(one) for one in listed if isinstance(one, tuple | list) and len(one) == 2]
    if pairs and len(pairs) < len(listed):
        raise ConfigurationError(
            _("Some of the cases are pairs of nodes and some are not."),
            _("Give ids of stored cases, or pairs (volume node, segmentation node)."),
        )
    return [(volume, node) for volume, node in pairs]


def _checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuses what cannot work before anything is started."""
    unknown = sorted(set(settings) - set(FineTuneSettings.__dataclass_fields__))
    if unknown:
        raise ConfigurationError(_("There is no setting called {names}.").format(names=", ".join(unknown)))
    FineTuneSettings(**settings)
    return dict(settings)
