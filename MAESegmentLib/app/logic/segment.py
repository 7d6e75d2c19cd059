"""The part of a logic that segments; Slicer's module and the browser share it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ... import mrml
from ...bundle import Bundle
from ...bundle.library import ModelChoice
from ...bundle.suitability import ScanFacts, can_fit
from ...console.calls import several
from ...errors import MAESegmentError
from ...images.segment_statistics import SegmentStatistics, write_statistics
from ...inference.settings import InferenceSettings, Mirroring
from ...jobs import Job
from ...mrml import distinct_name, facts_of
from ...storage.user_folders import default_runs_folder
from ...translation import tr as _
from ..batch import BatchJob, BatchRow, start_batch, start_sequence
from ..outputs import proper_output
from ..processing import Request, SegmentationJob, roi_box, start_segmentation
from ..session import run_on_gpu
from .part import AUTO, CPU, Node, Part, nodes_of


class Segmenting(Part):
    """Segmentation of nodes; whatever knows no scene is in `Models`."""

    def defaultModel(self, volumeNode: Node = None) -> Bundle | None:
        """What a panel proposes for a volume node, or without one: see `ModelLibrary.default`."""
        return self.library.default(_facts(volumeNode))

    def preferModel(self, volumeNode: Node, model: ModelChoice) -> None:
        """Propose `model` for such scans from now on, here and in every other program of this user."""
        scan = _facts(volumeNode)
        if scan is not None:
            self.library.prefer(model, scan)

    def canFit(self, volumeNode: Node, model: ModelChoice) -> bool:
        """Whether nothing says that `model` cannot fit the scan."""
        scan = _facts(volumeNode)
        return scan is None or can_fit(self.library.find(model), scan)

    def process(
        self,
        volumeNode: Node,
        model: ModelChoice = None,
        device: str = AUTO,
        wait: bool = True,
        callback: Callable[[SegmentationJob], None] | None = None,
        *,
        outputSegmentation: Node = None,
        roi: Any = None,
        speed: str = "best",
        precision: str = AUTO,
        runtime: str = AUTO,
        overlap: float | None = None,
        mirroring: Mirroring | None = None,
        allowCpu: bool = True,
        checkFamiliarity: bool = True,
        clean: bool = True,
        overwrite: bool = False,
        allowMismatch: bool = False,
        askForBox: bool = False,
    ) -> Any:
        """Segment a volume node (or a list: one node a channel) into a segmentation node.

        `model` is a name, name@version, a folder or a bundle. With `wait` the node is returned and Slicer stays alive
        meanwhile; with `wait=False` or a `callback` (called with the job after every change) a job is returned.
        `roi` is an ROI node, its name, or R0, R1, A0, A1, S0, S1 in mm (numbers, or text as the command takes it).
        `speed` is "best", as the model was measured, "fast" or "averaged": overlap and mirroring that are given win.
        `runtime` is "torch", or "openvino" on the processor; "auto" takes that for a model that was prepared for it. An
        `outputSegmentation` that the user edited is replaced only with `overwrite`. While a fine-tuning has the GPU,
        "auto" is the processor. `MismatchError` if the model cannot fit the scan (see `bundle.suitability`), unless
        `allowMismatch`; with `askForBox` also if the model wants a box, the scan is much larger, and no other model
        that is installed places it (see `bundle.usage.locator`).
        """
        nodes = nodes_of(volumeNode)
        device, notes = self.device(device, allowCpu)
        request = Request(
            nodes=nodes,
            bundle=self.library.find(model),
            output=outputSegmentation,
            roi=roi,
            settings=InferenceSettings.chosen(
                device=device,
                speed=speed,
                precision=precision,
                runtime=runtime,
                overlap=overlap,
                mirroring=mirroring,
                allow_cpu=allowCpu,
                check_familiarity=checkFamiliarity,
                clean=clean,
            ),
            overwrite=overwrite,
            notes=notes,
            allow_mismatch=allowMismatch,
            ask_for_box=askForBox,
            meant=self.library.meant,
        )
        job = start_segmentation(self.session, request, callback)
        return job.result() if wait and callback is None else job

    def statistics(
        self, volumeNode: Node, segmentationNode: Node, *, out: str | os.PathLike[str] | None = None
    ) -> list[tuple[str, SegmentStatistics]]:
        """(name, statistics) of each segment as it is now, whoever drew it; `out` is a .csv file. Slicer stays alive
        meanwhile."""
        nodes = nodes_of(volumeNode)
        job: Job[list[tuple[str, SegmentStatistics]]] = Job(self.session.loop)
        rows = job.run(mrml.statistics_steps(segmentationNode, nodes)).result()
        if out is not None:
            write_statistics(Path(out), rows, [distinct_name(node) for node in nodes])
        return rows

    def outputFor(self, segmentation: Node, volumeNode: Node, model: ModelChoice = None, roi: Any = None) -> Any:
        """Where a panel whose output is `segmentation` lets the result go; None: to a new segmentation. The result of
        another volume, region or model is not replaced, one of the same is."""
        return proper_output(segmentation, nodes_of(volumeNode), self.library.find(model), roi_box(roi))

    def processBatch(
        self,
        volumeNodes: Sequence[Node],
        model: ModelChoice = None,
        device: str = AUTO,
        wait: bool = True,
        callback: Callable[[BatchJob], None] | None = None,
        **options: Any,
    ) -> list[BatchRow] | BatchJob:
        """Segment several volumes one after the other; `options` as in `process`. The rows say what became of each, and
        one that fails does not stop the rest."""
        bundle = self.library.find(model)

        def item(node: Node) -> tuple[str, Callable[[], SegmentationJob]]:
            first = node[0] if isinstance(node, Sequence) else node
            return distinct_name(first), lambda: self.process(node, bundle, device, wait=False, **options)

        nodes = several(volumeNodes, (mrml.Node,), _("Give volume nodes."), inside=(list, tuple))
        job = start_batch([item(node) for node in nodes], self.session.loop, callback)
        return job.result() if wait and callback is None else job

    def processSequence(
        self,
        sequenceNode: Node,
        model: ModelChoice = None,
        device: str = AUTO,
        wait: bool = True,
        callback: Callable[[BatchJob], None] | None = None,
        **options: Any,
    ) -> Any:
        """Segment every frame of a sequence (or of the one that a volume node shows) one after the other; `options` as
        in `process`. Returns a sequence of segmentations in the same browser: the job's `output`."""
        bundle = self.library.find(model)
        start = lambda node: self.process(node, bundle, device, wait=False, **options)  # noqa: E731
        job = start_sequence(sequenceNode, start, self.session.loop, callback)
        if not wait or callback is not None:
            return job
        job.result()
        return job.output

    def device(self, device: str, allow_cpu: bool = True) -> tuple[str, tuple[str, ...]]:
        """The device to use, and a note for the user if that is not what "auto" usually means."""
        if device == AUTO and allow_cpu and run_on_gpu(default_runs_folder()) is not None:
            return CPU, (_("The GPU is busy with fine-tuning: this was done on the processor."),)
        return device, ()


def _facts(volumeNode: Node) -> ScanFacts | None:
    """None if there is no scan, or it cannot be used, which is said elsewhere."""
    try:
        return facts_of(nodes_of(volumeNode))
    except MAESegmentError:
        return None
