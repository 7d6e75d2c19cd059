"""What a caller may choose about inference, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from ..errors import ConfigurationError
from ..images.labels import Label
from ..images.scans import without_ending
from ..images.segment_statistics import SegmentStatistics
from ..images.volume import LabelMap, Volume
from .islands import Cleaned

if TYPE_CHECKING:
    from ..bundle import Bundle

S = TypeVar("S", bound="SegmentationSummary")

Precision = Literal["auto", "fp32", "bf16", "fp16"]
#: "auto" is OpenVINO on a processor, for a model that was converted for it, where it is installed; else torch.
RuntimeChoice = Literal["auto", "torch", "openvino"]
TORCH: Literal["torch"] = "torch"
OPENVINO: Literal["openvino"] = "openvino"

#: Called with a stage ("locate", "prepare", "segment", "restore") and how far that stage is, 0..1.
ReportStage = Callable[[str, float], None]
ShouldCancel = Callable[[], bool]


#: What is averaged over: see `InferenceSettings`.
Mirroring = bool | tuple[int, ...] | Literal["shifted"]
SHIFTED: Literal["shifted"] = "shifted"

#: "best" is what the model was measured with; "fast" has fewer windows and no mirrored copies; "averaged" has mirrored
#: and shifted copies.
SPEEDS: Mapping[str, Mapping[str, Any]] = {
    "best": {},
    "fast": {"overlap": 0.25, "mirroring": False},
    "averaged": {"mirroring": SHIFTED},
}


def with_speed(speed: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and for those that are None what the speed chooses. `ConfigurationError` if there is no such speed."""
    if speed not in SPEEDS:
        raise ConfigurationError(f"Speed {speed!r} is none of {', '.join(SPEEDS)}.")
    given = {name: value for name, value in values.items() if value is not None}
    if SPEEDS[speed].get("mirroring") == SHIFTED and given.get("mirroring") is True:
        del given["mirroring"]  # the mirrored copies are among those that are averaged
    return {**SPEEDS[speed], **given}


@dataclass(frozen=True)
class InferenceSettings:
    """`overlap` is the share of a window that its neighbour covers; by default a GPU takes 4 windows at once, a CPU 1.

    `mirroring` averages over flips: True for the axes the model was trained to be flipped along, or those axes (0 = D);
    "shifted" over these flips and over copies that are shifted by half a token, which takes twice as long as True.
    `clean` removes stray pieces and closes holes as the model says (`bundle.usage.cleaning`), where it says anything.
    """

    overlap: float = 0.5
    mirroring: Mirroring = False
    batch_size: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    runtime: RuntimeChoice = "auto"
    allow_cpu: bool = True
    check_familiarity: bool = True
    clean: bool = True

    def __post_init__(self) -> None:
        # At 0.9 every voxel is in a thousand windows already.
        if not 0 <= self.overlap <= 0.9:
            raise ConfigurationError(f"Overlap {self.overlap} is not from 0 (none) to 0.9.", "Use 0.25 to 0.5.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigurationError(f"Batch size {self.batch_size} is not a positive number of windows.")
        if self.precision not in get_args(Precision):
            raise ConfigurationError(f"Precision {self.precision!r} is none of {', '.join(get_args(Precision))}.")
        if self.runtime not in get_args(RuntimeChoice):
            raise ConfigurationError(f"Runtime {self.runtime!r} is none of {', '.join(get_args(RuntimeChoice))}.")
        if self.runtime == OPENVINO and (
            self.device.strip().lower() not in ("auto", "cpu") or self.precision == "fp16"
        ):
            raise ConfigurationError(
                f"OpenVINO runs on the processor, in fp32 or bf16: not on {self.device} in {self.precision}.",
                "Choose the runtime torch, or the device cpu and another precision.",
            )
        for name in ("allow_cpu", "check_familiarity", "clean"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} {getattr(self, name)!r} is neither True nor False.")
        if isinstance(self.mirroring, str):
            if self.mirroring != SHIFTED:
                raise ConfigurationError(f'Mirroring {self.mirroring!r} is neither True, False, axes nor "{SHIFTED}".')
        elif not isinstance(self.mirroring, bool):
            object.__setattr__(self, "mirroring", tuple(int(axis) for axis in self.mirroring))
            if not set(self.mirroring) <= {0, 1, 2}:
                raise ConfigurationError(f"Mirroring axes {self.mirroring} are not among 0, 1 and 2.")

    @classmethod
    def of_model(cls, stored: Mapping[str, Any] | None, **chosen: Any) -> InferenceSettings:
        """The settings stored with a model; what the caller has `chosen` (not None) wins.

        A model has a say in how it is run, not on which device, nor in whether a scan is checked.
        """
        merged = {key: value for key, value in (stored or {}).items() if key in ("overlap", "mirroring")}
        merged.update({key: value for key, value in chosen.items() if value is not None})
        return cls(**merged)

    @classmethod
    def chosen(cls, *, speed: str = "best", **values: Any) -> dict[str, Any]:
        """Those of `values`, and what `speed` chooses, that are not left to the model (None, "auto"). Refuses
        what cannot work, before anything is started."""
        values |= {name: None for name in ("precision", "runtime") if values.get(name) == "auto"}
        chosen = with_speed(speed, values)
        cls(**chosen)
        return chosen

    def decisive(self) -> dict[str, Any]:
        """What decides about the results, as JSON. Device, precision, runtime change them by no more than rounding."""
        mirroring = list(self.mirroring) if isinstance(self.mirroring, tuple) else self.mirroring
        # Versions before did not write `clean`, and what they wrote may be continued.
        return {"overlap": self.overlap, "mirroring": mirroring, **({} if self.clean else {"clean": False})}

    def mirror_axes(self, trained: tuple[int, ...] = (0, 1, 2)) -> tuple[int, ...]:
        """Axes to flip, given those the model was `trained` to be flipped along."""
        if isinstance(self.mirroring, tuple):
            return self.mirroring
        return trained if self.mirroring else ()

    @property
    def copies(self) -> int:
        """Of every window, beside those that are flipped."""
        return 2 if self.mirroring == SHIFTED else 1


@dataclass(frozen=True, eq=False)
class SegmentationSummary:
    """What the worker reports of a segmentation: `volumes_ml` by label value, `model` NAME@VERSION. `seconds` are those
    that the caller waited; `cleaned` is by the structure's name."""

    labels: tuple[Label, ...]
    volumes_ml: Mapping[int, float]
    seconds: float
    network_seconds: float
    device: str
    device_title: str
    model: str
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict, repr=False)
    cleaned: Mapping[str, Cleaned] = field(default_factory=dict)
    #: By label value, as `volumes_ml`; versions before have none.
    statistics: Mapping[int, SegmentStatistics] = field(default_factory=dict, repr=False)
    #: Name and version of the model that placed the boxes, if one did.
    located_by: str = ""

    @classmethod
    def of_reply(cls: type[S], data: Mapping[str, Any], bundle: Bundle, **more: Any) -> S:
        """`data` is the worker's reply to `Segment`; fields in `more` win."""
        values = {
            "labels": labels_of_reply(data, bundle),
            "volumes_ml": {int(value): float(ml) for value, ml in data.get("volumes_ml", {}).items()},
            "seconds": float(data.get("seconds", 0.0)),
            "network_seconds": float(data.get("network_seconds", 0.0)),
            "device": str(data.get("device", "")),
            "device_title": str(data.get("device_title", "")),
            "model": f"{bundle.name}@{bundle.version}",
            "warnings": tuple(map(str, data.get("warnings", ()))),
            "timings": dict(data.get("timings", {})),
            "cleaned": {name: Cleaned.from_dict(one) for name, one in data.get("cleaned", {}).items()},
            "statistics": SegmentStatistics.by_value(data.get("statistics", {})),
            "located_by": str(data.get("located_by", "")),
        }
        return cls(**{**values, **more})

    @property
    def total_ml(self) -> float:
        return sum(self.volumes_ml.values())

    @property
    def found(self) -> tuple[Label, ...]:
        """The labels that have voxels."""
        return tuple(label for label in self.labels if self.volumes_ml.get(label.value, 0.0) > 0)


@dataclass(frozen=True, eq=False)
class Prediction:
    """All on exactly the input grid: labels, and on request `probabilities` (background first) and `entropy` (0..1).

    `cleaned` is what cleaning changed in the labels, by the structure's name; the other maps are the network's own.
    """

    label_map: LabelMap
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()
    probabilities: Volume | None = field(default=None, repr=False)
    entropy: Volume | None = field(default=None, repr=False)
    cleaned: Mapping[str, Cleaned] = field(default_factory=dict)
    runtime: str = TORCH
    #: What the values stand for: the model's, or those of each side where boxes were placed by `located_by`.
    labels: tuple[Label, ...] = ()
    located_by: str = ""

    def ran_on(self, device: str) -> str:
        """The name of the device, and what ran the network there if that is not torch."""
        return f"{device}, OpenVINO" if self.runtime == OPENVINO else device


def labels_of_reply(data: Mapping[str, Any], bundle: Bundle) -> tuple[Label, ...]:
    """What the values in the worker's reply to `Segment` stand for."""
    return tuple(map(Label.from_dict, data.get("segments", ()))) or bundle.labels


def default_output(scan: str | Path) -> Path:
    """Where a segmentation goes if nobody says: `<name>.seg.nrrd` in the current folder, never onto the scan."""
    path = Path(scan).resolve()
    stem = path.name if path.is_dir() else without_ending(path.name)
    return Path(f"{stem or 'segmentation'}.seg.nrrd")
