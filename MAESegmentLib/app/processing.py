"""One segmentation: nodes in, a job that runs in the worker, a segmentation node out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import slicer
import vtk

from .. import mrml
from ..bundle import Bundle
from ..errors import EDITED_OUTPUT, Cancelled, ConfigurationError, MAESegmentError, NodeError
from ..images.labels import Label
from ..inference.settings import InferenceSettings
from ..mrml.case_nodes import content_stamp, unlink
from ..translation import tr as _
from ..worker.client.client import Job, JobState
from ..worker.client.segmentation import submit_segmentation
from ..worker.job import JobProgress
from ..worker.job_folder import JobFolder
from .case_proposal import MODEL, MODEL_HASH
from .session import SceneSession


@dataclass(frozen=True)
class Request:
    """What to segment and how; everything a person may choose. None leaves a setting to the model."""

    nodes: tuple[Any, ...]
    bundle: Bundle
    output: Any = None
    roi: Any = None
    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    mirroring: bool | tuple[int, ...] | None = None
    allow_cpu: bool = True
    check_familiarity: bool = True
    overwrite: bool = False
    #: What the person is told with the result.
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Only what was chosen: the worker adds the model's own."""
        chosen: dict[str, Any] = {
            "device": self.device,
            "precision": None if self.precision == "auto" else self.precision,
            "overlap": self.overlap,
            "mirroring": self.mirroring,
            "allow_cpu": self.allow_cpu,
            "check_familiarity": self.check_familiarity,
        }
        chosen = {name: value for name, value in chosen.items() if value is not None}
        InferenceSettings(**chosen)  # refuses what cannot work before anything is sent
        return chosen


@dataclass(frozen=True)
class SegmentationSummary:
    """What the result line says. `volumes_ml` is by label value; `seconds` counts from the click to the node."""

    model_name: str
    model_version: str
    labels: tuple[Label, ...]
    volumes_ml: Mapping[int, float]
    seconds: float
    network_seconds: float
    device: str
    device_title: str
    output_name: str
    went_to_new_node: bool = False
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_ml(self) -> float:
        return sum(self.volumes_ml.values())

    @property
    def found(self) -> tuple[Label, ...]:
        """The labels that have voxels."""
        return tuple(label for label in self.labels if self.volumes_ml.get(label.value, 0.0) > 0)


class SegmentationJob:
    """A segmentation that is being made. All of it happens on the main thread, a step at a time."""

    def __init__(
        self, session: SceneSession, request: Request, callback: Callable[[SegmentationJob], None] | None
    ) -> None:
        """Checks everything that can be checked, then submits; raises what is wrong with the request."""
        self.summary: SegmentationSummary | None = None
        self._request = request
        self._listeners = [callback] if callback else []
        self._reason: Cancelled | None = None
        self._begun = time.monotonic()
        #: A Job, once it is submitted.
        self._job: Any = None
        image = mrml.image_of(request.nodes)
        self.name = request.nodes[0].GetName()
        _check_nodes(request)
        self._shape = image.channels[0].shape
        self._output_before = content_stamp(request.output) if request.output is not None else ()
        if request.output is not None and not request.overwrite and mrml.is_edited(request.output):
            raise NodeError(
                _("{name} was edited; it is not overwritten.").format(name=request.output.GetName()),
                _("Choose another output, or confirm that it is to be replaced (in a script: overwrite=True)."),
                problem=EDITED_OUTPUT,
            )
        self._watch = _SceneWatch(request.nodes, self._abandon)
        try:
            self._job = submit_segmentation(
                session.client,
                image.channels,
                image.ijk_to_world,
                model=request.bundle,
                settings=request.settings,
                roi=roi_box(request.roi),
                working_folder=session.working_folder,
                finish=self._finish,
            )
        except BaseException:
            self._watch.end()
            raise
        self._job.add_listener(self._changed)

    @property
    def state(self) -> JobState:
        if self._reason is not None and self._job.is_finished:
            return JobState.CANCELLED
        return self._job.state

    @property
    def stage(self) -> str:
        return self._job.stage

    @property
    def fraction(self) -> float:
        return self._job.fraction

    @property
    def eta_s(self) -> float | None:
        return self._job.eta_s

    @property
    def position(self) -> int:
        return self._job.position

    @property
    def progress(self) -> JobProgress:
        """A frozen snapshot: stage, fraction, eta_s, position."""
        return self._job.progress

    @property
    def details(self) -> Mapping[str, Any]:
        """Figures that came with an error, e.g. `cpu_seconds`."""
        return self._job.details

    @property
    def is_finished(self) -> bool:
        return self._job.is_finished

    @property
    def cancel_requested(self) -> bool:
        return self._job.cancel_requested

    @property
    def error(self) -> MAESegmentError | None:
        return self._reason if self.state is JobState.CANCELLED and self._reason else self._job.error

    def cancel(self) -> None:
        """Stop soon; the job ends as cancelled, and the scene is as it was."""
        self._job.cancel()

    def result(self, timeout_s: float | None = None) -> Any:
        """The segmentation node; waits for it while Slicer stays alive. Raises the job's error, or `TimeoutError`."""
        try:
            return self._job.result(timeout_s)
        except MAESegmentError:
            if self._reason is not None:
                raise self._reason from None
            raise

    def add_listener(self, callback: Callable[[SegmentationJob], None]) -> None:
        """`callback(job)` after every change."""
        self._listeners.append(callback)

    def _changed(self, _job: Job) -> None:
        if self._job is None:
            return
        if self._job.is_finished:
            self._watch.end()
        for listener in tuple(self._listeners):
            try:
                listener(self)
            except Exception:
                logging.exception("MAESegment: a callback of the segmentation failed")

    def _abandon(self, reason: str) -> None:
        if self._reason is None and not (self._job is not None and self._job.is_finished):
            self._reason = Cancelled(reason)
            if self._job is not None:
                self._job.cancel()

    def _finish(self, data: Mapping[str, Any], folder: JobFolder) -> Generator[float, None, Any]:
        """Turn the worker's answer into a node; a step per turn of the event loop."""
        block, origin = folder.read_labels(data["labels"])
        yield 0.3
        volume = self._request.nodes[0]
        self._check_still_there(volume)
        segments = yield from mrml.prepare_segments(volume, self._request.bundle.labels, block, origin)
        # Once more, and the output too: a person may have used the turns of the event loop between.
        self._check_still_there(volume)
        output, notes = self._where_to()
        name = slicer.mrmlScene.GenerateUniqueName(f"{volume.GetName()} {self._request.bundle.name}")
        node = mrml.put_segments(volume, segments, name=name, into=output)
        _sign(node, self._request.bundle)
        self.summary = self._summarise(data, node, notes, moved=bool(notes))
        return node

    def _check_still_there(self, volume: Any) -> None:
        if self._reason is not None:
            raise self._reason
        if volume.GetImageData() is None or volume.GetImageData().GetDimensions() != self._shape[::-1]:
            raise NodeError(
                _("{name} was replaced by another image while it was being segmented.").format(name=volume.GetName()),
                _("Segment it again."),
            )

    def _where_to(self) -> tuple[Any, list[str]]:
        """The node to fill (None: a new one), and what to tell the person if it is not the one that was chosen."""
        output = self._request.output
        if output is None:
            return None, []
        if output.GetScene() is None:
            return None, [_("The output segmentation was removed meanwhile; the result went to a new one.")]
        if content_stamp(output) != self._output_before and (self._request.overwrite or mrml.is_edited(output)):
            text = _("{name} was edited meanwhile and was left as it is; the result went to a new segmentation.")
            return None, [text.format(name=output.GetName())]
        return output, []

    def _summarise(
        self, data: Mapping[str, Any], node: Any, notes: Sequence[str], *, moved: bool
    ) -> SegmentationSummary:
        return SegmentationSummary(
            model_name=self._request.bundle.name,
            model_version=self._request.bundle.version,
            labels=self._request.bundle.labels,
            volumes_ml={int(value): float(ml) for value, ml in data.get("volumes_ml", {}).items()},
            seconds=time.monotonic() - self._begun,
            network_seconds=float(data.get("network_seconds", 0.0)),
            device=str(data.get("device", "")),
            device_title=str(data.get("device_title", "")),
            output_name=node.GetName(),
            went_to_new_node=moved,
            warnings=(*map(str, data.get("warnings", ())), *self._request.notes, *notes),
            timings=dict(data.get("timings", {})),
        )


class _SceneWatch:
    """Says once why the nodes of a job cannot be used any more."""

    def __init__(self, nodes: Sequence[Any], abandon: Callable[[str], None]) -> None:
        self._ids = {node.GetID(): node.GetName() for node in nodes}
        self._abandon = abandon
        scene = slicer.mrmlScene
        self._scene = scene
        self._tags = [
            scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, self._on_close),
            scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_removed),
        ]

    def end(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _on_close(self, _scene: Any, _event: Any) -> None:
        self._abandon(_("The scene was closed while the scan was being segmented."))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removed(self, _scene: Any, _event: Any, node: Any) -> None:
        name = self._ids.get(node.GetID()) if node is not None else None
        if name is not None:
            self._abandon(_("{name} was removed from the scene while it was being segmented.").format(name=name))


def roi_box(roi: Any) -> tuple[float, ...] | None:
    """(R0, R1, A0, A1, S0, S1) of an ROI node, or of six such numbers."""
    if roi is None:
        return None
    if hasattr(roi, "IsA"):
        return tuple(float(value) for value in mrml.roi_of(roi))
    numbers = tuple(float(value) for value in roi)
    if len(numbers) != 6:
        raise ConfigurationError(
            _("A region of interest is an ROI node or six numbers (R0, R1, A0, A1, S0, S1) in mm."),
        )
    return numbers


def _check_nodes(request: Request) -> None:
    for node in request.nodes:
        if node.GetScene() is None:
            raise NodeError(_("{name} is not in the scene any more.").format(name=node.GetName()), _("Load it again."))
    wanted = request.bundle.metadata["maesegment"]["channels"]
    if len(request.nodes) != len(wanted):
        raise NodeError(
            _("Model {model} needs {count} volumes ({names}); {given} were given.").format(
                model=request.bundle.name, count=len(wanted), names=", ".join(wanted), given=len(request.nodes)
            ),
            _("Choose one volume for each, in this order."),
        )


def _sign(node: Any, bundle: Bundle) -> None:
    node.SetAttribute(MODEL, f"{bundle.name}@{bundle.version}")
    node.SetAttribute(MODEL_HASH, bundle.content_hash)
    # What was stored as a case before is not in this node any more.
    unlink(node)
