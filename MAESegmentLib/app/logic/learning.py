"""The part of `MAESegmentLogic` that makes new versions of a model, compares them and says what to correct next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ... import mrml
from ...bundle import Bundle
from ...bundle.library import ModelChoice
from ...cases.records import CaseRecord
from ...console.calls import several
from ...console.training_request import checked_settings, chosen_cases, refuse_second_run, training_request
from ...errors import ConfigurationError, MAESegmentError
from ...inference.settings import InferenceSettings
from ...jobs import Job
from ...jobs.runner import Operation
from ...runs import FineTuneEstimate, FineTuneRun, RunRequest, RunResult, RunState, create_run, list_runs
from ...storage.user_folders import default_runs_folder
from ...translation import tr as _
from ...worker.client.requests import submit_estimate
from ..comparing import CompareJob, ComparisonNodes, start_comparison
from ..finetuning import FineTuneJob, store_cases
from ..processing import roi_box
from ..ranking import RankedVolume, RankJob, sources_of, start_ranking
from ..scan_files import divided, run_with_scans
from .cases import Cases
from .part import AUTO, Host, Node, Part
from .segment import Segmenting


class Learning(Part):
    """Fine-tuning, comparing versions, and ranking what to correct next."""

    def __init__(self, host: Host, segmenting: Segmenting, cases: Cases) -> None:
        super().__init__(host)
        self._segmenting = segmenting
        self._cases = cases

    def estimateFineTune(
        self,
        cases: Any = None,
        baseModel: ModelChoice = None,
        *,
        device: str = AUTO,
        validation: str = "auto",
        unlabelled: Any = None,
        wait: bool = True,
        callback: Callable[[Job[FineTuneEstimate]], None] | None = None,
        **settings: Any,
    ) -> FineTuneEstimate | Job[FineTuneEstimate]:
        """Measure, by a few steps here, how long `fineTune` of the same arguments takes, and its memory."""
        base = self.library.find(baseModel)
        records = chosen_cases(self._cases.caseStore(base), cases)
        places, nodes = divided(unlabelled)
        request = self._request(base, records, device, "", validation, settings)
        # Only that there are some is looked at.
        request = replace(request, unlabelled=(*map(str, places), *(node.GetName() for node in nodes)))
        job = submit_estimate(self.session.client, request)
        if callback is not None:
            job.add_listener(callback)
        return job.result() if wait and callback is None else job

    def fineTune(
        self,
        cases: Any = None,
        baseModel: ModelChoice = None,
        *,
        device: str = AUTO,
        name: str = "",
        validation: str = "auto",
        unlabelled: Any = None,
        wait: bool = True,
        callback: Callable[[FineTuneJob], None] | None = None,
        **settings: Any,
    ) -> RunResult | FineTuneJob:
        """Make a new version of `baseModel` from corrected cases, in a process that outlives Slicer.

        `cases` are ids or records of stored cases (None: all of them), or pairs (volume node, segmentation node), which
        are stored first. `settings` are fields of `FineTuneSettings`; none is needed. `name` gives the result a name of
        its own instead of a new version. Without validation cases a few are checked by leave-one-out, at the cost of
        time; `validation` "none" leaves that out. `unlabelled` are more scans, best from the same scanner, which need
        no labels: a folder, files or volume nodes; what cannot be used is named in the result's notes. Nothing uses the
        new version until it is chosen: `useVersion`, or the job's `accept()`.
        """
        base = self.library.find(baseModel)
        pairs, (places, nodes) = _pairs(cases), divided(unlabelled)
        refuse_second_run()
        job = FineTuneJob(self.session, self.library.store, callback)
        records = [] if pairs else chosen_cases(self._cases.caseStore(base), cases)

        def request_for(records: Sequence[CaseRecord]) -> RunRequest:
            request = self._request(base, records, device, name, validation, settings)
            return replace(request, unlabelled=tuple(map(str, places)))

        def prepare() -> Operation[FineTuneRun]:
            stored = records
            if pairs:
                stored = yield from store_cases(pairs, lambda volume, node: self._stored(volume, node, base))
            return (yield from run_with_scans(self.session, nodes, request_for(stored)))

        # What is wrong is raised at once.
        checked_settings(settings)
        request = None if pairs else request_for(records)
        if request is None or nodes:
            job.begin_after(prepare)
        else:
            job.begin(create_run(default_runs_folder(), request))
        return job.result() if wait and callback is None else job

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
                    jobs.append(FineTuneJob.of_run(self.session, self.library.store, run))
            except MAESegmentError as error:
                self.session.log.add("warning", f"{run.id}: {error}")
        return jobs

    def compare(
        self,
        volumeNode: Node,
        first: ModelChoice,
        second: ModelChoice,
        *,
        roi: Any = None,
        device: str = AUTO,
        wait: bool = True,
        callback: Callable[[CompareJob], None] | None = None,
    ) -> ComparisonNodes | CompareJob:
        """Segment a scan with two versions and show where they disagree: three segmentation nodes and a row for each
        structure."""
        versions = (self.library.find(first), self.library.find(second))
        start = lambda node, bundle: self._segmenting.process(node, bundle, device, wait=False, roi=roi)  # noqa: E731
        job = start_comparison(volumeNode, versions, start, self.session.loop, callback)
        return job.result() if wait and callback is None else job

    # What to correct next ---------------------------------------------------------------------------------------------

    def nextCases(
        self,
        scans: Any,
        model: ModelChoice = None,
        *,
        roi: Any = None,
        device: str = AUTO,
        wait: bool = True,
        callback: Callable[[RankJob], None] | None = None,
    ) -> list[RankedVolume] | RankJob:
        """Rank scans by how uncertain the model is: volume nodes, or the scans without label map in a folder. The one
        most worth correcting comes first; the job's `rows` grow while it runs."""
        chosen, _note = self._segmenting.device(device)
        InferenceSettings(device=chosen)
        bundle = self.library.find(model)
        job = start_ranking(self.session, sources_of(scans), bundle, {"device": chosen}, roi_box(roi), callback)
        return job.result() if wait and callback is None else job

    # ------------------------------------------------------------------------------------------------------------------

    def _request(
        self,
        base: Bundle,
        records: Sequence[CaseRecord],
        device: str,
        name: str,
        validation: str,
        settings: Mapping[str, Any],
    ) -> RunRequest:
        store, models = self._cases.caseStore(base), self.library.store
        how: dict[str, Any] = {"device": device, "name": name, "validation": validation, "settings": settings}
        return training_request(base, store, records, models, **how)

    def _stored(self, volume: Any, node: Any, base: Bundle) -> Any:
        """The record of a pair that is stored as it is, or the job that stores it."""
        proposal = self._cases.proposeCase(volume, node, base)
        if proposal.stored is not None and not proposal.isChanged:
            return proposal.stored
        update = True if proposal.stored is not None or proposal.duplicate is not None else None
        return self._cases.addCase(volume, node, base, update=update, wait=False)


def _pairs(cases: Any) -> list[tuple[Any, Any]]:
    """(volume node, segmentation node) if that is what was given."""
    if cases is None or isinstance(cases, str | CaseRecord):
        return []
    is_one = isinstance(cases, tuple) and len(cases) == 2 and all(isinstance(one, mrml.Node) for one in cases)
    advice = _("Give ids of stored cases, or pairs (volume node, segmentation node).")
    listed = [cases] if is_one else several(cases, (str, CaseRecord), advice, inside=(list, tuple))
    pairs = [tuple(one) for one in listed if isinstance(one, tuple | list) and len(one) == 2]
    if pairs and len(pairs) < len(listed):
        raise ConfigurationError(
            _("Some of the cases are pairs of nodes and some are not."),
            advice,
        )
    return [(volume, node) for volume, node in pairs]
