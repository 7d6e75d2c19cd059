"""Settings of a training run. Frozen, validated when made, written into the run folder and the bundle."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

from ..errors import ConfigurationError
from ..images.labels import loose_name
from ..inference.settings import Precision
from ..values import check_known
from .data.synthesis import Synthesis

SettingsT = TypeVar("SettingsT", bound="LoopSettings")


@dataclass(frozen=True)
class Augmentation:
    """Chances and ranges of random changes to a patch; geometry acts in mm, so anisotropic voxels stay undistorted."""

    affine: float = 0.3
    rotation_degrees: float = 20.0
    scale: tuple[float, float] = (0.75, 1.35)
    #: Largest random shift, as a fraction of the patch.
    shift: float = 0.1
    #: Axes (0, 1, 2 = D, H, W) along which a patch may be mirrored. None unless no label has a side.
    flip_axes: tuple[int, ...] = ()
    noise: float = 0.1
    noise_std: float = 0.1
    blur: float = 0.15
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: float = 0.15
    contrast: float = 0.15
    low_resolution: float = 0.15
    gamma: float = 0.3

    def __post_init__(self) -> None:
        _tuples(self)
        for name in ("affine", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma"):
            _require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", getattr(self, name), "a chance from 0 to 1")
        _require(0 < self.scale[0] <= self.scale[1], "augmentation.scale", self.scale, "two increasing factors above 0")
        _require(set(self.flip_axes) <= {0, 1, 2}, "augmentation.flip_axes", self.flip_axes, "axes out of 0, 1, 2")
        _require(0 <= self.shift < 1, "augmentation.shift", self.shift, "a fraction of the patch below 1")

    @classmethod
    def none(cls) -> Augmentation:
        return cls(affine=0, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0)

    @classmethod
    def geometric(cls) -> Augmentation:
        """For pretraining: the target is the grey value, so only geometry changes."""
        return cls(noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0)


@dataclass(frozen=True)
class LoopSettings:
    """What pretraining and fine-tuning share. Steps are optimiser updates."""

    steps: int = 1000
    batch_size: int = 2
    #: Patches of a step that are computed together; the gradients of such parts are added up, by one process or more.
    #: None: all at once, or, by several processes, an equal part each.
    micro_batch: int | None = None
    learning_rate: float = 5e-4
    #: Fraction of the steps over which the learning rate rises linearly; it then falls along a cosine.
    warmup: float = 0.05
    #: The cosine ends at this fraction of `learning_rate`.
    final_learning_rate: float = 0.01
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    #: Decay of the moving average of the weights that is validated and saved; 0 turns it off.
    ema_decay: float = 0.999
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    threads: int | None = None
    #: Processes that make patches; 0 makes them on a thread of this process.
    num_workers: int = 0
    #: Prepared cases beyond this much memory are read from a disk cache in the run folder.
    cache_gb: float = 4.0
    #: With several processes, each keeps only a part of the optimiser's state.
    shard_optimiser: bool = False
    checkpoint_every: int = 200
    validate_every: int = 500
    log_every: int = 10
    augmentation: Augmentation = field(default_factory=Augmentation)
    #: Images are drawn from maps of tissues, which stand in their place in the data set.
    synthesis: Synthesis | None = None

    #: Settings that change how fast or where a run goes, not where it ends up.
    INCIDENTAL: ClassVar[frozenset[str]] = frozenset(
        {
            *("device", "threads", "num_workers", "cache_gb", "shard_optimiser", "compile"),
            *("checkpoint_every", "validate_every", "log_every"),
        }
    )
    #: Settings that came later count only where they are used: a run that began without them must be able to go on.
    LATER: ClassVar[frozenset[str]] = frozenset({"micro_batch", "synthesis"})

    def __post_init__(self) -> None:
        _tuples(self)
        for name in ("steps", "batch_size", "checkpoint_every", "validate_every", "log_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number above 0")
        _require(
            self.micro_batch is None or self.micro_batch >= 1, "micro_batch", self.micro_batch, "above 0, or unset"
        )
        _require(_finite(self.learning_rate) and self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("warmup", "final_learning_rate"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a fraction from 0 to 1")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "from 0 (off) to below 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0")
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "0 or more")
        _require(self.threads is None or self.threads >= 1, "threads", self.threads, "a whole number above 0, or unset")
        _require(_finite(self.cache_gb) and self.cache_gb >= 0, "cache_gb", self.cache_gb, "0 or more gigabytes")
        _require(self.precision in get_args(Precision), "precision", self.precision, f"one of {get_args(Precision)}")

    def parts(self) -> tuple[range, ...]:
        """Which patches of a step's batch are computed together."""
        size = self.micro_batch or self.batch_size
        return tuple(range(first, min(first + size, self.batch_size)) for first in range(0, self.batch_size, size))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[SettingsT], data: Mapping[str, Any]) -> SettingsT:
        check_known(cls, data, "training settings")
        values = dict(data)
        if isinstance(values.get("augmentation"), Mapping):
            values["augmentation"] = _augmentation(values["augmentation"], _default_augmentation(cls))
        if isinstance(values.get("synthesis"), Mapping):
            values["synthesis"] = Synthesis.from_dict(values["synthesis"])
        return cls(**values)

    def fingerprint(self) -> str:
        """Equal for two runs that must end with the same weights, given the same cases."""
        unused = {f.name for f in fields(self) if f.name in self.LATER and getattr(self, f.name) == f.default}
        decisive = {k: v for k, v in self.to_dict().items() if k not in self.INCIDENTAL | unused}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FineTuneSettings(LoopSettings):
    """Supervised training from a bundle. `layer_decay` multiplies the learning rate once per stage below the head."""

    layer_decay: float = 0.8
    #: Share of patches centred on a voxel of a random label; the others lie anywhere.
    foreground_fraction: float = 0.5
    #: Pairs of labels that are each other's mirror image: where a patch is mirrored from left to right, they change
    #: places.
    sides: tuple[tuple[str, str], ...] = ()
    deep_supervision_weights: tuple[float, ...] = (4 / 7, 2 / 7, 1 / 7)
    #: Training ends, with the best weights so far, after this many validations without a better Dice; None: never.
    patience: int | None = None
    #: "last" saves the final weights; "best" those with the highest validation Dice, which then is no fair estimate.
    keep: Literal["last", "best"] = "last"
    #: "pretrained" starts from the bundle's weights; "autoencoder" from the encoder it was pretrained with, which never
    #: saw a label; "random" is the from-scratch control with everything else equal.
    initial_weights: Literal["pretrained", "autoencoder", "random"] = "pretrained"
    #: Change these of the base model's network; None leaves them as they are.
    drop_path: float | None = None
    deep_supervision: bool | None = None
    #: Whether grey values are taken over the body, and images cropped to it; None: as in the base.
    foreground: bool | None = None
    #: Overlap of the sliding windows in validation.
    validation_overlap: float = 0.25

    LATER: ClassVar[frozenset[str]] = LoopSettings.LATER | {"sides", "foreground"}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sides", tuple(tuple(pair) for pair in self.sides))
        named = [loose_name(name) for pair in self.sides for name in pair]
        pairs = all(len(pair) == 2 for pair in self.sides)
        _require(pairs and len(set(named)) == len(named), "sides", self.sides, "pairs of labels, each named once")
        _require(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "above 0, at most 1")
        _require(0 <= self.foreground_fraction <= 1, "foreground_fraction", self.foreground_fraction, "from 0 to 1")
        weights = self.deep_supervision_weights
        _require(
            len(weights) > 0 and min(weights) >= 0 and sum(weights) > 0, "deep_supervision_weights", weights, "weights"
        )
        _require(self.patience is None or self.patience >= 1, "patience", self.patience, "1 or more, or unset")
        _require(self.keep in ("last", "best"), "keep", self.keep, '"last" or "best"')
        _require(
            self.initial_weights in ("pretrained", "autoencoder", "random"),
            "initial_weights",
            self.initial_weights,
            '"pretrained", "autoencoder" or "random"',
        )
        _require(0 <= self.validation_overlap < 1, "validation_overlap", self.validation_overlap, "from 0 to below 1")


@dataclass(frozen=True)
class PretrainSettings(LoopSettings):
    """Masked autoencoding without labels. `held_out` is the fraction of images kept for the reconstruction curve."""

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    ema_decay: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation.geometric)
    held_out: float = 0.1
    #: Patches that are cut from a scan each time it is read, where scans are streamed; None: they are not.
    patches_per_volume: int | None = None
    #: Scans whose patches are mixed, for each part of a step, where scans are streamed.
    open_volumes: int = 16

    LATER: ClassVar[frozenset[str]] = LoopSettings.LATER | {"patches_per_volume", "open_volumes"}

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.held_out < 1, "held_out", self.held_out, "a fraction from 0 to below 1")
        patches = self.patches_per_volume
        _require(patches is None or patches >= 1, "patches_per_volume", patches, "above 0, or unset")
        _require(self.open_volumes >= 1, "open_volumes", self.open_volumes, "a whole number above 0")


def _default_augmentation(cls: type[LoopSettings]) -> Augmentation:
    return Augmentation.geometric() if issubclass(cls, PretrainSettings) else Augmentation()


def _augmentation(data: Mapping[str, Any], base: Augmentation) -> Augmentation:
    check_known(Augmentation, data, "augmentation settings")
    return Augmentation(**{**asdict(base), **data})


def _tuples(settings: Any) -> None:
    """JSON and TOML know lists only."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, list):
            object.__setattr__(settings, f.name, tuple(value))


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _require(ok: bool, name: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ConfigurationError(f"Setting {name} is {value!r}; it must be {wanted}.")
