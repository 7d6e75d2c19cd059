"""The part of a logic that segments, and that knows the models; Slicer's module and the browser share it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...bundle import Bundle
from ...bundle.library import ModelLibrary
from ...errors import MAESegmentError
from ...storage.user_folders import default_runs_folder
from ...translation import tr as _
from ..processing import Request, SegmentationJob, start_segmentation
from ..run_watch import run_on_gpu
from ..session import SceneSession

Node = Any
#: A bundle, a name or the beginning of one, name@version, a folder, or None for the default.
ModelChoice = Bundle | str | os.PathLike[str] | None

AUTO, CPU = "auto", "cpu"


class SegmentCalls:
    """Needs `session` and `_library` of the logic that it is part of. Never opens a dialog."""

    session: SceneSession
    _library: ModelLibrary

    def models(self) -> list[Bundle]:
        """The models that segment, by name and version."""
        return self._library.models()

    def problems(self) -> list[tuple[Path, MAESegmentError]]:
        """(folder, error) of what lies among the models but cannot be used."""
        return self._library.problems()

    def defaultModel(self) -> Bundle | None:
        """What a panel shows first; None if there is none."""
        return self._library.default()

    def meantModel(self, name: str) -> Bundle | None:
        """What the whole name of a model means: its selected version, else the highest; None if there is none."""
        return self._library.meant(name)

    def importModel(self, zipPath: str) -> Bundle:
        """Verify and add a model; the event loop goes on meanwhile."""
        return self.session.loop.call_aside(lambda: self._library.add(zipPath))

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
        precision: str = AUTO,
        overlap: float | None = None,
        mirroring: bool | tuple[int, ...] | None = None,
        allowCpu: bool = True,
        checkFamiliarity: bool = True,
        overwrite: bool = False,
    ) -> Any:
        """Segment a volume node (or a list: one node a channel) into a segmentation node.

        `model` is a name, name@version, a folder or a bundle. With `wait` the node is returned and Slicer stays alive
        meanwhile; with `wait=False` or a `callback` (called with the job after every change) a job is returned.
        `roi` is an ROI node or (R0, R1, A0, A1, S0, S1) in mm. An `outputSegmentation` that a person edited is
        replaced only with `overwrite`. While a fine-tuning has the GPU, "auto" is the processor.
        """
        nodes = tuple(volumeNode) if isinstance(volumeNode, Sequence) else (volumeNode,)
        device, notes = self._device(device, allowCpu)
        request = Request(
            nodes=nodes,
            bundle=self._library.find(model),
            output=outputSegmentation,
            roi=roi,
            device=device,
            precision=precision,
            overlap=overlap,
            mirroring=mirroring,
            allow_cpu=allowCpu,
            check_familiarity=checkFamiliarity,
            overwrite=overwrite,
            notes=notes,
        )
        job = start_segmentation(self.session, request, callback)
        return job.result() if wait and callback is None else job

    def _device(self, device: str, allow_cpu: bool = True) -> tuple[str, tuple[str, ...]]:
        """The device to use, and what to tell the person if that is not what "auto" usually means."""
        if device == AUTO and allow_cpu and run_on_gpu(default_runs_folder()) is not None:
            return CPU, (_("The GPU is busy with fine-tuning: this was done on the processor."),)
        return device, ()
