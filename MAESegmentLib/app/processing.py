"""One segmentation: nodes in, a job that runs in the worker, a segmentation node out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import mrml
from ..bundle import Bundle
from ..bundle.suitability import box_placing, check_scan
from ..errors import EDITED_OUTPUT, LACKS_BOX, MismatchError, NodeError
from ..images.roi import Roi
from ..inference.settings import SegmentationSummary, labels_of_reply
from ..jobs import Job
from ..mrml import content_stamp
from ..mrml.case_nodes import unlink
from ..translation import tr as _
from ..worker.client.requests import submit_segmentation
from ..worker.job_folder import JobFolder
from .outputs import box_name, result_name, sign
from .produced import note_produced, packed
from .result_notes import note_summary
from .session import SceneSession


@dataclass(frozen=True)
class Request:
    """What to segment and how. `settings` are those of `InferenceSettings` that were chosen; `notes` are shown with the
    result. `allow_mismatch` and `ask_for_box` as in `Segmenting.process`, `meant` as in `suitability.box_placing`."""

    nodes: tuple[Any, ...]
    bundle: Bundle
    output: Any = None
    roi: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    notes: tuple[str, ...] = ()
    allow_mismatch: bool = False
    ask_for_box: bool = False
    meant: Callable[[str], Bundle | None] = lambda _name: None


class SegmentationJob(Job[Any]):
    """A segmentation that is being made: `result` is its node. `summary` is there once it is done."""

    summary: SegmentationSummary | None = None


def start_segmentation(
    session: SceneSession, request: Request, callback: Callable[[SegmentationJob], object] | None = None
) -> SegmentationJob:
    """Check everything that can be checked (raises what is wrong with the request), then submit it.

    The job is cancelled when the scan leaves the scene; a cancelled job leaves the scene as it was.
    """
    image = mrml.image_of(request.nodes)
    _check_nodes(request)
    _check_output(request)
    locator, notes = _check_fits(request, session)
    request = replace(request, notes=(*request.notes, *notes))
    job = SegmentationJob(session.loop, mrml.distinct_name(request.nodes[0]))
    result = _Result(job, request, image.channels[0].shape)
    watch = mrml.SceneWatch(request.nodes, job.cancel)
    try:
        submit_segmentation(
            session.client,
            image.channels,
            image.ijk_to_world,
            model=request.bundle,
            settings=request.settings,
            roi=result.box,
            locator=locator,
            ask_for_box=request.ask_for_box,
            working_folder=session.working_folder,
            finish=result.put_into_scene,
            job=job,
        )
    except BaseException:
        watch.end()
        raise
    job.add_listener(lambda job: watch.end() if job.is_finished else None)
    if callback is not None:
        job.add_listener(callback)
    return job


class _Result:
    """Turns the worker's answer into a segmentation node."""

    def __init__(self, job: SegmentationJob, request: Request, shape: tuple[int, ...]) -> None:
        self._job = job
        self._request = request
        self._shape = shape
        self._begun = time.monotonic()
        #: As it is now: the user may move it meanwhile.
        scene = request.nodes[0].GetScene()
        self.box = roi_box(request.roi, scene)
        named = scene.GetFirstNodeByName(request.roi) if isinstance(request.roi, str) and scene is not None else None
        self._box_name = box_name(request.nodes[0], named or request.roi)
        self._frame = mrml.frame_name(request.nodes[0])
        self._output_before = content_stamp(request.output) if request.output is not None else ()

    def put_into_scene(self, data: Mapping[str, Any], folder: JobFolder) -> Generator[float, None, Any]:
        """A step a turn of the event loop; returns the node."""
        block, origin = folder.read_labels(data["labels"])
        yield 0.3
        volume = self._request.nodes[0]
        self._check_images()
        labels = labels_of_reply(data, self._request.bundle)
        segments = yield from mrml.prepare_segments(volume, labels, block, origin)
        values = {mrml.segment_id_of(label): label.value for label in labels}
        produced = yield from packed(block, origin, self._shape[::-1], values)
        changes = yield from folder.change_notes([mrml.voxels_of(node) for node in self._request.nodes])
        # Once more, and the output too: a user may have used the turns of the event loop between.
        self._check_images()
        output, notes = self._where_to()
        name = result_name(volume, self._request.bundle, self._frame, self._box_name)
        node = mrml.put_segments(volume, segments, name="" if output else mrml.unique_name(name), into=output)
        sign(node, self._request.nodes, self._request.bundle, self.box, self._box_name, self._frame)
        # What was stored as a case before is not in this node any more.
        unlink(node)
        note_produced(node, produced)
        self._job.summary = SegmentationSummary.of_reply(
            data,
            self._request.bundle,
            seconds=time.monotonic() - self._begun,
            warnings=(*map(str, data.get("warnings", ())), *self._request.notes, *notes, *changes),
        )
        note_summary(node, self._job.summary)
        return node

    def _check_images(self) -> None:
        for node in self._request.nodes:
            if node.GetImageData() is None or node.GetImageData().GetDimensions() != self._shape[::-1]:
                raise NodeError(
                    _("{name} was replaced by another image while it was being segmented.").format(name=node.GetName()),
                    _("Segment it again."),
                )

    def _where_to(self) -> tuple[Any, list[str]]:
        """The node to fill (None: a new one), and what the user has to know if it is not the one that was chosen."""
        output = self._request.output
        if output is None:
            return None, []
        if output.GetScene() is None:
            return None, [_("The output segmentation was removed meanwhile; the result went to a new one.")]
        if content_stamp(output) != self._output_before and (self._request.overwrite or mrml.is_edited(output)):
            text = _("{name} was edited meanwhile and was left as it is; the result went to a new segmentation.")
            return None, [text.format(name=output.GetName())]
        return output, []


def roi_box(roi: Any, scene: Any = None) -> tuple[float, ...] | None:
    """(R0, R1, A0, A1, S0, S1) of an ROI node, of its name in `scene`, or of six such numbers, also as text."""
    if isinstance(roi, str) and scene is not None:
        roi = scene.GetFirstNodeByName(roi) or roi
    if roi is None:
        return None
    return tuple(map(float, mrml.roi_of(roi))) if hasattr(roi, "IsA") else Roi.of(roi).bounds


def _check_nodes(request: Request) -> None:
    for node in request.nodes:
        if node.GetScene() is None:
            raise NodeError(_("{name} is no longer open.").format(name=node.GetName()), _("Load it again."))
    wanted = request.bundle.channels
    if len(request.nodes) != len(wanted):
        raise NodeError(
            _("Model {model} needs {count} volumes ({names}); {given} were given.").format(
                model=request.bundle.name, count=len(wanted), names=", ".join(wanted), given=len(request.nodes)
            ),
            _("Choose one volume for each, in this order."),
        )


def _check_output(request: Request) -> None:
    if request.output is not None and not request.overwrite and mrml.is_edited(request.output):
        raise NodeError(
            _("{name} was edited; it is not overwritten.").format(name=request.output.GetName()),
            _("Write to a new segmentation, or confirm that this one is to be replaced."),
            problem=EDITED_OUTPUT,
        )


def _check_fits(request: Request, session: SceneSession) -> tuple[Bundle | None, list[str]]:
    """Whether the model can fit the scan, and is given the box that it wants, or what places it, which is returned; who
    allows the one has not agreed to the other. Also what is said with the result: what was allowed, and to a script or
    a batch that a box is missing."""
    scan = mrml.facts_of(request.nodes)
    notes = [*check_scan(request.bundle, scan, allowed=request.allow_mismatch)]
    bounds = roi_box(request.roi, request.nodes[0].GetScene())
    placing = box_placing(request.bundle, scan.grid, None if bounds is None else Roi.of(bounds), request.meant)
    if placing.lacking:
        advice = _("Add a box around the structure.")
        if request.ask_for_box:
            raise MismatchError(placing.lacking, advice, problem=LACKS_BOX)
        notes.append(f"{placing.lacking} {advice}")
    for note in notes:
        session.log.add("warning", note)
    return placing.locator, notes
