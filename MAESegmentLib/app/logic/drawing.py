"""The part of a logic with which the rest of a scan follows from what a user drew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from ... import mrml
from ...bundle import Bundle
from ...bundle.library import ModelChoice
from ...errors import NodeError
from ...images.labels import BACKGROUND, is_background
from ...jobs import Job
from ...translation import tr as _
from ..case_proposal import MODEL_HASH
from ..drawing_job import DrawingJob, DrawingRequest, start_drawing
from ..drawn import Understood, start_looking
from ..produced import MADE
from .part import AUTO, Node, Part, nodes_of


class Drawing(Part):
    """Updates of a scan, and scribbles."""

    def updateScan(
        self,
        volumeNode: Node,
        segmentationNode: Node,
        modelName: ModelChoice = None,
        *,
        roi: Any = None,
        plane: str = "",
        device: str = AUTO,
        changing: Callable[[Node], AbstractContextManager[Any]] | None = None,
        wait: bool = True,
        callback: Callable[[DrawingJob], None] | None = None,
    ) -> Any:
        """Let the rest of the scan follow from slices that were corrected, or on which a new structure was drawn.

        The result goes into the same segmentation, with what was drawn as it was; `job.undo()` takes it back. Slices
        in which a result was corrected are found by themselves, as are structures drawn on some slices only. `plane`
        ("axial", "coronal", "sagittal") is needed where that is ambiguous, which a `DrawingError` says. Nothing changes
        outside `roi`. `modelName` is the model whose labels these are (see `process`); None: the one that made it, if
        any. With `wait` the node is returned, otherwise a job; `job.summary` says how each structure followed. What is
        drawn meanwhile stays, too.
        `changing(segmentationNode)` is a context around the change, for an editor's own undo.
        """
        request = self._request(volumeNode, segmentationNode, modelName, roi, device, changing, plane=plane)
        job = start_drawing(self.session, request, callback)
        return job.result() if wait and callback is None else job

    def growScribbles(
        self,
        volumeNode: Node,
        segmentationNode: Node,
        modelName: ModelChoice = None,
        *,
        roi: Any = None,
        device: str = AUTO,
        changing: Callable[[Node], AbstractContextManager[Any]] | None = None,
        wait: bool = True,
        callback: Callable[[DrawingJob], None] | None = None,
    ) -> Any:
        """Grow scribbles within a box about them (or `roi`): in a result where they were drawn since, else every
        segment. One called "background" is what none of the others is to be; so is what was erased from a result.
        What the model says guides them. The rest as in `updateScan`.
        """
        request = self._request(volumeNode, segmentationNode, modelName, roi, device, changing, scribbles=True)
        job = start_drawing(self.session, request, callback)
        return job.result() if wait and callback is None else job

    def findDrawn(
        self,
        volumeNode: Node,
        segmentationNode: Node,
        modelName: ModelChoice = None,
        *,
        plane: str = "",
        wait: bool = True,
        callback: Callable[[Job[Understood]], None] | None = None,
    ) -> Understood | Job[Understood]:
        """What `updateScan` of the same arguments would take for drawn; nothing is changed."""
        request = self._request(volumeNode, segmentationNode, modelName, None, AUTO, None, plane=plane)
        job = start_looking(self.session, request, callback)
        return job.result() if wait and callback is None else job

    def addBackground(self, segmentationNode: Node) -> None:
        """A segment for what is none of the structures, for `growScribbles`, unless there is one."""
        mrml.add_segment(segmentationNode, BACKGROUND, is_background)

    def removeBackground(self, segmentationNode: Node) -> None:
        """Remove what `addBackground` added, if nothing was drawn in it."""
        with suppress(NodeError):  # there are no voxels to look at
            mrml.remove_empty_segments(segmentationNode, is_background)

    def _request(
        self,
        volume: Node,
        segmentation: Node,
        model: ModelChoice,
        roi: Any,
        device: str,
        changing: Callable[[Node], AbstractContextManager[Any]] | None,
        **what: Any,
    ) -> DrawingRequest:
        bundle, nodes = self._model(segmentation, model), nodes_of(volume)
        is_made = segmentation.GetAttribute(MODEL_HASH) or segmentation.GetAttribute(MADE)
        if is_made and not mrml.may_be_of(segmentation, nodes[0]):
            names = {"segmentation": segmentation.GetName(), "scan": nodes[0].GetName()}
            raise NodeError(
                _("{segmentation} was not made on {scan}.").format(**names), _("Choose the scan that it was made on.")
            )
        if changing is not None:
            what["changing"] = changing
        return DrawingRequest(
            nodes, segmentation, bundle, roi=roi, settings={"device": device} if bundle else {}, **what
        )

    def _model(self, segmentation: Node, model: ModelChoice) -> Bundle | None:
        """`model`, or the one that made the segmentation, if it is still there."""
        if model is not None:
            return self.library.find(model)
        digest = segmentation.GetAttribute(MODEL_HASH) if segmentation is not None else None
        return next((one for one in self.library.models() if digest and one.content_hash == digest), None)
