"""The part of `MAESegmentLogic` that stores corrected cases and finds them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import mrml
from ...bundle import Bundle
from ...bundle.library import ModelChoice
from ...cases.records import CaseRecord
from ...cases.store import CaseStore
from ...console.calls import several
from ...errors import DatasetError, DuplicateCase, MAESegmentError, NodeError
from ...mrml import case_nodes as case_scene
from ...translation import tr as _
from ..case_job import CaseJob, CaseRequest, start_case
from ..case_proposal import (
    MODEL,
    MODEL_HASH,
    CaseProposal,
    SegmentLabels,
    channel_findings,
    known_labels,
    model_reference,
    prepare_case,
    propose,
    propose_choices,
)
from ..processing import roi_box
from .part import Node, Part, nodes_of


class Cases(Part):
    """Corrected cases: stored from the scene, and opened in it."""

    def setCaseFolder(self, path: str) -> None:
        """Keep cases below `path` from now on ("": in the documents folder); what is stored stays where it is."""
        self.session.set_case_root(str(path))

    def caseFolder(self) -> Path:
        """Where the cases of all models are, a folder for each."""
        return self._host.case_root

    def caseStore(self, model: ModelChoice = None) -> CaseStore:
        """The cases for `model` (see `process`) and all its versions. The folder is made with the first case."""
        bundle = self.library.find(model)
        return CaseStore(self.caseFolder() / self.library.store.root_of(bundle))

    def cases(self, model: ModelChoice = None) -> list[CaseRecord]:
        """The stored cases, by number."""
        return self.caseStore(model).list()

    def proposeCase(self, volumeNode: Node, segmentationNode: Node, model: ModelChoice = None) -> CaseProposal:
        """What `addCase` would store and what it would have to be told; changes nothing. Slicer stays alive meanwhile.

        `model` is the one to be fine-tuned; if none is given, the one that made the segmentation.
        """
        bundle = self._case_model(segmentationNode, model)
        return propose(
            nodes_of(volumeNode), segmentationNode, bundle, self.caseStore(bundle), self.session.loop.call_aside
        )

    def identifyScan(self, volumeNode: Node, segmentationNode: Node, model: ModelChoice = None) -> Callable[[], None]:
        """What may be run in any thread before `proposeCase` or `addCase`, so that they need not wait for it."""
        try:
            nodes = nodes_of(volumeNode)
            image = mrml.image_of(nodes)
            look = case_scene.identify(nodes, image, self.caseStore(self._case_model(segmentationNode, model)).list())
        except MAESegmentError:  # which those will say
            look = None
        return look or (lambda: None)

    def addCase(
        self,
        volumeNode: Node,
        segmentationNode: Node,
        model: ModelChoice = None,
        *,
        mapping: Mapping[str, str | None] | None = None,
        newLabels: Sequence[str] = (),
        absent: Sequence[str] = (),
        role: str = "",
        region: Any = None,
        update: bool | str | None = None,
        group: str = "",
        wait: bool = True,
        callback: Callable[[CaseJob], None] | None = None,
    ) -> CaseRecord | CaseJob:
        """Store a scan (or a list: one node a channel) with its corrected segmentation for fine-tuning.

        `mapping` says which label a segment (by name) is, None: it is left out; what is not said is taken from the
        names and from answers of before, and `NodeError` says what is not clear. `newLabels` are labels that the model
        does not have and is to learn. `absent` are labels that were looked for and are not in this scan: an empty
        segment alone only means that nobody drew it. `role` "validation" keeps the case for measuring, `group` is
        shared by the cases of a patient. `region` (an ROI node or R0, R1, A0, A1, S0, S1 in mm) is all that was
        annotated; () takes a region back.

        A scan that is stored already is a `DuplicateCase`, unless `update` is True or the id of the case to replace;
        a case is not updated with another scan (`DatasetError`). What is not said again stays as it was. With `wait`
        the record is returned, otherwise a job.
        """
        nodes = nodes_of(volumeNode)
        bundle = self._case_model(segmentationNode, model)
        store = self.caseStore(bundle)
        image = mrml.image_of(nodes)
        duplicate = case_scene.find_duplicate(nodes, image, store.list(), self.session.loop.call_aside)
        old = _to_replace(store, segmentationNode, duplicate, update)
        segments = mrml.drawn_segments(segmentationNode)
        known = known_labels(bundle, store)
        choices = propose_choices(segments, segmentationNode, bundle, known, store)
        answers = SegmentLabels(
            mapping or {}, _listed(newLabels), _still_absent(_listed(absent), segments, choices, old)
        )
        prepared = prepare_case(segmentationNode, segments, choices, known, answers)
        reference = model_reference(segmentationNode) or (dict(old.model) if old is not None and old.model else None)
        box = () if region == () else roi_box(region, nodes[0].GetScene())
        prepared = prepared.described(
            role=role, group=group, model=reference, region=box, replace=old.id if old is not None else ""
        )
        _check_channels(image, bundle)
        job = start_case(self.session, CaseRequest(nodes, segmentationNode, store, prepared), callback)
        return job.result() if wait and callback is None else job

    def openCase(self, case: CaseRecord | str, model: ModelChoice = None) -> tuple[Any, Any]:
        """(volume node, segmentation node) of a stored case, by record or id; a list of volumes if it has several
        channels. Edit the segmentation, then `addCase(..., update=True)`."""
        store = self.caseStore(model)
        return case_scene.open_case(store, store.get(_id_of(case)))

    def removeCase(self, case: CaseRecord | str, model: ModelChoice = None) -> None:
        """Delete a stored case, by record or id; its number is not given again."""
        self.caseStore(model).remove(_id_of(case))

    def setCaseRole(self, case: CaseRecord | str, role: str, model: ModelChoice = None) -> CaseRecord:
        """ "train": the model learns from it; "validation": it only tells how good the model is."""
        return self.caseStore(model).set_role(_id_of(case), role)

    def changedCases(self, model: ModelChoice = None) -> list[tuple[Any, CaseRecord]]:
        """(segmentation node, case) of this scene that were edited since they were stored; if `model` is given, of its
        cases only."""
        only = self.caseStore(model).folder.name if model is not None else ""
        stores: dict[str, CaseStore] = {}
        found = []
        for node in case_scene.linked_segmentations():
            family = node.GetAttribute(case_scene.CASE).rpartition("/")[0]
            if only and family != only:
                continue
            store = stores.setdefault(family, CaseStore(self.caseFolder() / family))
            record = case_scene.linked_case(node, store)
            if record is not None and case_scene.is_changed(node):
                found.append((node, record))
        return found

    def scanOf(self, segmentationNode: Node) -> Any:
        """The volume node that a segmentation was made on; None if that is not known."""
        return mrml.volume_of(segmentationNode)

    def scanNames(self) -> dict[str, str]:
        """What the volume nodes of stored cases are called that are in this scene, by "hippocampus-mr/case-0001",
        or by the hash of the image once `identifyScan` was run."""
        return case_scene.scan_names()

    def _case_model(self, segmentation: Any, model: Any) -> Bundle:
        """`model`, or the one that made the segmentation, if it is still there."""
        if model is None and segmentation is not None:
            digest = segmentation.GetAttribute(MODEL_HASH)
            made_by = next((one for one in self.library.models() if digest and one.content_hash == digest), None)
            if made_by is not None:
                return made_by
            name = (segmentation.GetAttribute(MODEL) or "").partition("@")[0]
            same = self.library.meant(name) if name else None
            return same if same is not None else self.library.find(None)
        return self.library.find(model)


def _listed(names: Sequence[str] | str) -> tuple[str, ...]:
    """A single name is one name, not its letters."""
    return tuple(several(names, (str,), _("Give names of labels.")))


def _id_of(case: CaseRecord | str) -> str:
    return case if isinstance(case, str) else case.id


def _to_replace(
    store: CaseStore,
    segmentation: Any,
    duplicate: CaseRecord | None,
    update: bool | str | None,
) -> CaseRecord | None:
    """The case that is updated; `DuplicateCase` if nobody said that one is to be."""
    linked = case_scene.linked_case(segmentation, store)
    if isinstance(update, str) and update:
        return store.get(update)
    known = linked or duplicate
    if update:
        if known is None:
            raise DatasetError(
                _("This scan is not stored yet, so there is nothing to update."), _("Add it as a new case.")
            )
        return known
    if known is None:
        return None
    error = DuplicateCase(
        _("This scan is stored already, as {case}.").format(case=known.id),
        _("Update the stored case, or leave it as it is."),
    )
    error.details = {"case": known.id}
    raise error


def _still_absent(
    absent: Sequence[str], segments: Sequence[mrml.Segment], choices: Sequence[Any], old: CaseRecord | None
) -> tuple[str, ...]:
    """With the labels that were found absent when the case was stored, while their segments are empty still."""
    if old is None:
        return tuple(absent)
    was = {name.casefold() for name in old.labels if not old.volumes_ml.get(name)}
    drawn = {
        (one.label or "").casefold() for segment, one in zip(segments, choices, strict=True) if not segment.is_empty
    }
    empty = [one.label for segment, one in zip(segments, choices, strict=True) if segment.is_empty and one.label]
    still = [name for name in empty if name.casefold() in was - drawn]
    return tuple(dict.fromkeys([*absent, *still]))


def _check_channels(image: mrml.NodeImage, bundle: Bundle) -> None:
    for finding in channel_findings(image, bundle):
        raise NodeError(finding.message, finding.hint)
