"""Network and preprocessing in, label map out: everything of inference that needs no model bundle."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, inference_mode, place, total
from ..bundle.usage.sides import Sides
from ..device import Device, resolve_device
from ..errors import Cancelled, ConfigurationError, DeviceMemoryError, WeightsError
from ..images.labels import Label
from ..images.limits import memory_problem
from ..images.roi import Roi
from ..images.volume import Grid, LabelMap, Volume
from ..preprocessing.plan import Prepared, Preprocessing
from .fallback import Step, run_first_that_fits, steps_for
from .islands import Cleaned
from .restore import RowRestorer
from .runtimes.torch_runtime import Runtime, TorchRuntime
from .settings import OPENVINO, InferenceSettings, Prediction, ReportStage, ShouldCancel
from .window_count import window_count
from .windows import Network, mirrored, rows_of_image

if TYPE_CHECKING:
    from torch import nn

#: Windows per batch on a GPU; on a CPU one window fills the cores already.
GPU_BATCH = 4


class Segmenter:
    """Runs `network` (B, C, D, H, W) -> (B, K, D, H, W) over volumes; class k becomes label value `values[k]`.

    Memory is bounded: class scores exist for one slab of windows only; labels are written straight to the input grid.
    """

    def __init__(
        self,
        network: nn.Module | None,
        preprocessing: Preprocessing,
        values: Sequence[int],
        settings: InferenceSettings | None = None,
        *,
        mirror_axes: tuple[int, ...] = (0, 1, 2),
        sides: Sides | None = None,
        token_size: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        """`mirror_axes` are those the network was trained to be flipped along, used if `settings.mirroring` is True;
        `sides` says which structures change places across one of them. `token_size` is in voxels. Without a `network`,
        `load` is called for it when torch is to run it."""
        self.settings = settings or InferenceSettings()
        self.device = resolve_device("cpu" if self.settings.runtime == OPENVINO else self.settings.device)
        self.preprocessing = preprocessing
        self._network = network
        self._values = tuple(values)
        #: What they stand for, where that is known.
        self.labels: tuple[Label, ...] = ()
        self._mirror_axes = self.settings.mirror_axes(mirror_axes)
        self._sides = sides
        d, h, w = (n // 2 for n in token_size)
        self._shift = (d, h, w) if self.settings.copies > 1 else (0, 0, 0)

    def predict(
        self,
        volume: Volume,
        *,
        roi: Roi | str | Sequence[float] | None = None,
        progress: ReportStage | None = None,
        should_cancel: ShouldCancel | None = None,
        want_probabilities: bool = False,
        want_entropy: bool = False,
    ) -> Prediction:
        """Label `volume` on its own grid. `progress(stage, fraction)` counts each stage from 0 to 1.

        `roi` confines it to a box: R0, R1, A0, A1, S0, S1 in RAS mm.

        Raises `Cancelled` soon after `should_cancel()` returns True (it is asked before every batch of windows).
        """
        started = time.perf_counter()
        report = progress or _report_nothing
        self.check(volume)
        labels, probabilities, entropy = self._allocate(volume, want_probabilities, want_entropy)
        prepared = self.prepare(volume, roi, report, should_cancel)
        warnings = [str(note) for note in getattr(volume, "notes", ())]

        def run(step: Step) -> str:
            """One attempt with the means of `step`; fills the maps where something was prepared. The runtime's name."""
            runtime = self.runtime_on(step.device)
            region = prepared.region
            restorer = RowRestorer(
                prepared.grid,
                self._values,
                labels[region],
                probabilities=None if probabilities is None else probabilities[(slice(None), *region)],
                entropy=None if entropy is None else entropy[region],
            )
            with inference_mode():
                network = mirrored(self._checked(runtime, step.device), self._mirror_axes, self._sides)
                rows = self.rows(
                    network, prepared, step, self.settings.overlap, report, should_cancel, shift=self._shift
                )
                for row, scores in rows:
                    restorer.push(row, scores)
            return runtime.name

        runtime, step = run_first_that_fits(self.steps(), run, warnings.append)
        report("restore", 0.0)
        if roi is not None:
            _confine(Roi.of(roi), volume.grid, labels, probabilities, entropy)
        if not labels.any():
            structures = len(self._values) - 1
            warnings.append(
                f"0 of {structures} structure{'' if structures == 1 else 's'} found: "
                "check that the model is made for this scan, and that the region holds what it segments."
            )
        label_map = LabelMap(labels, volume.ijk_to_ras)
        cleaned = self._clean(label_map, warnings, report, should_cancel)
        warnings.extend(self._examine(volume, prepared))
        warnings.extend(self._judge(label_map, None if roi is None else Roi.of(roi)))
        report("restore", 1.0)
        return Prediction(
            label_map=label_map,
            seconds=time.perf_counter() - started,
            device=str(step.device),
            warnings=tuple(warnings),
            probabilities=None if probabilities is None else Volume(probabilities, volume.ijk_to_ras),
            entropy=None if entropy is None else Volume(entropy[None], volume.ijk_to_ras),
            cleaned=cleaned,
            runtime=runtime,
            labels=self.labels,
        )

    def prepare(
        self,
        volume: Volume,
        roi: Roi | str | Sequence[float] | None,
        report: ReportStage,
        should_cancel: ShouldCancel | None,
    ) -> Prepared:
        """The network's input for `volume`, or what lies within `roi`."""
        box = None if roi is None else Roi.of(roi).voxels(volume.grid)
        stop_if(should_cancel)
        report("prepare", 0.0)
        prepared = self.preprocessing.prepare(volume, box)
        report("prepare", 1.0)
        return prepared

    def rows(
        self,
        network: Network,
        prepared: Prepared,
        step: Step,
        overlap: float,
        report: ReportStage,
        should_cancel: ShouldCancel | None,
        *,
        shift: tuple[int, int, int] = (0, 0, 0),
    ) -> Iterator[tuple[int, Array]]:
        """`rows_of_image` of the prepared scan with the means of `step`."""

        def on_batch(fraction: float) -> None:
            stop_if(should_cancel)
            report("segment", fraction)

        return rows_of_image(
            prepared.image,
            network,
            self.preprocessing.patch_size,
            overlap,
            batch_size=step.batch_size,
            device=step.device,
            accumulate_on=step.accumulate_on,
            on_batch=on_batch,
            shift=shift,
        )

    def check(self, volume: Volume) -> None:
        """Raise what makes `volume` unusable."""
        volume.grid.check()

    def _examine(self, volume: Volume, prepared: Prepared) -> Sequence[str]:  # noqa: ARG002
        """Warnings about the scan, given the network's input, after the network has run."""
        return ()

    def _judge(self, label_map: LabelMap, roi: Roi | None) -> Sequence[str]:  # noqa: ARG002
        """Warnings about what was found in `roi`."""
        return ()

    def _clean(
        self,
        label_map: LabelMap,  # noqa: ARG002
        warnings: list[str],  # noqa: ARG002
        report: ReportStage,  # noqa: ARG002
        should_cancel: ShouldCancel | None,  # noqa: ARG002
    ) -> Mapping[str, Cleaned]:
        """Change the labels in place as the model says; what changed by the structure's name."""
        return {}

    @cached_property
    def _torch(self) -> TorchRuntime:
        return TorchRuntime(self.load() if self._network is None else self._network)

    def load(self) -> nn.Module:
        """The network, which was not given."""
        raise NotImplementedError

    def estimate_seconds(self, volume: Volume, roi: Roi | None, device: Device) -> float:
        """How long the network would take for `volume`, or what lies within `roi`, from one window on `device`."""
        region = self.preprocessing.region(volume, roi.voxels(volume.grid) if roi else None)
        patch = self.preprocessing.patch_size
        d, h, w = (
            max(n, least)
            for n, least in zip(self.preprocessing.grid_for(volume.crop(region)).shape, patch, strict=True)
        )
        windows = window_count((d, h, w), patch, self.settings.overlap) * (2 if any(self._shift) else 1)
        scores = mirrored(self.network_on(device), self._mirror_axes, self._sides)
        sample = place(np.random.default_rng(0).standard_normal((1, len(volume.array), *patch), np.float32), device)
        with inference_mode():
            started = time.perf_counter()
            scores(sample)
            return windows * (time.perf_counter() - started)

    def steps(self) -> list[Step]:
        """The ways to run the network, from the fastest to the one that needs least memory."""
        batch_size = self.settings.batch_size or (GPU_BATCH if self.device.type == "cuda" else 1)
        return steps_for(self.device, batch_size, allow_cpu=self.settings.allow_cpu)

    def network_on(self, device: Device) -> Network:
        """The network on `device` at the chosen precision, without mirroring; `WeightsError` for useless scores."""
        return self._checked(self.runtime_on(device), device)

    def runtime_on(self, device: Device) -> Runtime:  # noqa: ARG002
        """What runs the network on `device`."""
        if self.settings.runtime == OPENVINO:
            raise ConfigurationError(
                "Only the network of a saved model is converted for OpenVINO.", "Choose the runtime torch."
            )
        return self._torch

    def _checked(self, runtime: Runtime, device: Device) -> Network:
        fast = runtime.network_on(device, self.settings.precision)

        def scores(patches: Array) -> Array:
            result = fast(patches)
            if not math.isfinite(total(result)):  # half precision overflowed: this batch again in full
                result = runtime.network_on(device, "fp32")(patches)
                if not math.isfinite(total(result)):
                    raise WeightsError(
                        "The network gives scores that are not finite.",
                        "Its weights are damaged, or the training diverged.",
                    )
            if result.shape[1] != len(self._values):
                raise WeightsError(
                    f"The network has {result.shape[1]} output classes, the model names {len(self._values)}."
                )
            return result

        return scores

    def _allocate(
        self, volume: Volume, want_probabilities: bool, want_entropy: bool
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Labels (I, J, K), probabilities (K, I, J, K) and entropy (I, J, K), on the whole input grid."""
        shape = volume.grid.shape
        classes = len(self._values) * want_probabilities + want_entropy
        _check_host_memory(classes * 4 * int(np.prod(shape, dtype=np.int64)))
        probabilities = np.zeros((len(self._values), *shape), np.float32) if want_probabilities else None
        if probabilities is not None:
            probabilities[0] = 1.0  # outside a ROI, and outside the body, everything is background
        labels = np.zeros(shape, np.uint8 if max(self._values) < 256 else np.uint16)
        return labels, probabilities, np.zeros(shape, np.float32) if want_entropy else None


def _confine(
    roi: Roi, grid: Grid, labels: np.ndarray, probabilities: np.ndarray | None, entropy: np.ndarray | None
) -> None:
    """Make what was found outside `roi` background: of an oblique scan, more than the box was segmented."""
    for plane, outside in roi.planes_outside(grid):
        labels[plane][outside] = 0
        if probabilities is not None:
            probabilities[0][plane][outside] = 1
            for others in probabilities[1:]:
                others[plane][outside] = 0
        if entropy is not None:
            entropy[plane][outside] = 0


def _report_nothing(_stage: str, _fraction: float) -> None:
    """For a caller who wants no progress."""


def stop_if(should_cancel: ShouldCancel | None) -> None:
    """Raise `Cancelled` if the caller wants that."""
    if should_cancel is not None and should_cancel():
        raise Cancelled()


def _check_host_memory(needed: int) -> None:
    """Maps of every class are large: refuse before the system starts to swap."""
    if problem := memory_problem(needed):
        raise DeviceMemoryError(
            f"Probability or entropy maps of this volume are too large: {problem}.",
            "Leave them out, or restrict the segmentation and crop the volume first.",
        )
