"""The settings of a training run. Frozen, validated when made, written into the run folder and the bundle."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar, get_args

from ..errors import ConfigurationError
from ..images.labels import loose_name
from ..inference.settings import Precision
from ..values import check_known

SettingsT = TypeVar("SettingsT", bound="LoopSettings")
#: The model's own confident labels; agreement with its moving average; reconstruction of what is hidden.
UnlabelledMethod = Literal["self_training", "mean_teacher", "masked"]
#: Settings of earlier versions, which changed no result: they still stand in recipes, runs and bundles.
RETIRED = frozenset({"shard_optimiser"})


@dataclass(frozen=True)
class Augmentation:
    """Chances and ranges of random changes to a patch; geometry acts in mm, so anisotropic voxels stay undistorted."""

    affine: float = 0.3
    rotation_degrees: float = 20.0
    scale: tuple[float, float] = (0.75, 1.35)
    #: Along each axis, a further factor from 1 / stretch to stretch.
    stretch: float = 1.0
    #: Largest random shift, as a fraction of the patch.
    shift: float = 0.1
    #: Axes (0, 1, 2 = D, H, W) along which a patch may be mirrored. None unless no label has a side.
    flip_axes: tuple[int, ...] = ()
    #: Chance of a smooth deformation, its standard deviation along each axis, and the distance over which it changes.
    elastic: float = 0.0
    elastic_mm: float = 2.0
    elastic_distance_mm: float = 24.0
    #: A label goes where its share of the voxel is largest, rather than where the nearest voxel has it.
    label_shares: bool = False
    noise: float = 0.1
    noise_std: float = 0.1
    blur: float = 0.15
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: float = 0.15
    contrast: float = 0.15
    low_resolution: float = 0.15
    gamma: float = 0.3

    #: As for the settings below.
    LATER: ClassVar[frozenset[str]] = frozenset(
        {"stretch", "elastic", "elastic_mm", "elastic_distance_mm", "label_shares"}
    )

    def __post_init__(self) -> None:
        _tuples(self)
        check = partial(_check, self, group="augmentation.")
        chances = ("affine", "elastic", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
        check("a chance from 0 to 1", _is_fraction, *chances)
        check("two increasing factors above 0", lambda pair: 0 < pair[0] <= pair[1], "scale")
        check("a factor of 1 or more", lambda factor: 1 <= factor < math.inf, "stretch")
        check("axes out of 0, 1, 2", lambda axes: set(axes) <= {0, 1, 2}, "flip_axes")
        check("a fraction of the patch below 1", lambda shift: 0 <= shift < 1, "shift")
        check("0 mm or more", lambda mm: 0 <= mm < math.inf, "elastic_mm")
        # Closer than this, a deformation may fold tissue over.
        check("8 times elastic_mm or more", lambda mm: mm > 0 and mm >= 8 * self.elastic_mm, "elastic_distance_mm")
        check("true or false", lambda value: isinstance(value, bool), "label_shares")

    @classmethod
    def none(cls) -> Augmentation:
        return cls(affine=0, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0)

    @classmethod
    def geometric(cls) -> Augmentation:
        """For pretraining: the target is the grey value, so only geometry changes."""
        return cls().geometry()

    def geometry(self) -> Augmentation:
        """The same without changes of grey values."""
        return replace(self, noise=0, blur=0, brightness=0, contrast=0, low_resolution=0, gamma=0)


@dataclass(frozen=True)
class Synthesis:
    """How `data/drawing` draws an image from a map of tissues: ranges, and chances from 0 to 1.

    Lengths are in mm, grey values before noise run from 0 to 1: for a model of CT, the ends of its window in HU.
    """

    rotation_degrees: float = 15.0
    scale: tuple[float, float] = (0.85, 1.15)
    #: Standard deviation of the displacement, drawn again for each image, and the distance over which it changes.
    elastic_mm: tuple[float, float] = (0.0, 4.0)
    elastic_distance_mm: float = 40.0
    #: Standard deviation within a tissue.
    spread: tuple[float, float] = (0.0, 0.1)
    #: Chance that what surrounds the body is black.
    black_outside: float = 0.7
    #: Chance that all tissues but the `inner` ones are taken away, as a skull-stripping program does.
    strip: float = 0.0
    inner: tuple[int, ...] = ()
    #: Largest standard deviation of the logarithm of the bias field.
    bias: float = 0.5
    bias_distance_mm: float = 60.0
    #: Chance that an image has thick slices, along any axis, and how thick they are.
    thick_slices: float = 0.5
    slice_mm: tuple[float, float] = (1.0, 6.0)
    blur_mm: tuple[float, float] = (0.0, 1.5)
    #: Largest deviation of the logarithm of the exponent that grey values are raised to.
    gamma: float = 0.4
    noise: tuple[float, float] = (0.0, 0.08)
    #: Patches that are cut from an image before the next is drawn.
    patches_per_volume: int = 4

    def __post_init__(self) -> None:
        _tuples(self)
        check = partial(_check, self, group="synthesis.")
        check("a chance from 0 to 1", _is_fraction, "black_outside", "strip", "thick_slices")
        check("two increasing numbers of 0 or more", _is_range, "scale", "elastic_mm", "spread")
        check("two increasing numbers of 0 or more", _is_range, "slice_mm", "blur_mm", "noise")
        check("above 0 mm", lambda mm: mm > 0, "elastic_distance_mm", "bias_distance_mm")
        check("two increasing factors or lengths above 0", lambda pair: pair[0] > 0, "scale", "slice_mm")
        check("1 or more", lambda n: n >= 1, "patches_per_volume")
        check("the tissues that stay when others are taken", lambda inner: inner or not self.strip, "inner")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Synthesis:
        check_known(cls, data, "synthesis settings")
        return cls(**data)


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
    checkpoint_every: int = 200
    validate_every: int = 500
    log_every: int = 10
    augmentation: Augmentation = field(default_factory=Augmentation)
    #: Images are drawn from maps of tissues, which stand in their place in the data set.
    synthesis: Synthesis | None = None

    #: Settings that change how fast or where a run goes, not where it ends up.
    INCIDENTAL: ClassVar[frozenset[str]] = frozenset(
        {
            *("device", "threads", "num_workers", "cache_gb", "compile"),
            *("checkpoint_every", "validate_every", "log_every"),
        }
    )
    #: Settings that came later count only where they are used: a run that began without them must resume.
    LATER: ClassVar[frozenset[str]] = frozenset({"micro_batch", "synthesis"})

    def __post_init__(self) -> None:
        _tuples(self)
        check = partial(_check, self)
        counts = ("steps", "batch_size", "checkpoint_every", "validate_every", "log_every")
        check("a whole number above 0", lambda n: n >= 1, *counts)
        check("above 0, or unset", _is_unset_or_positive, "micro_batch", "threads")
        check("above 0", lambda rate: 0 < rate < math.inf, "learning_rate")
        check("above 0", lambda norm: norm > 0, "clip_norm")
        check("a fraction from 0 to 1", _is_fraction, "warmup", "final_learning_rate")
        check("from 0 (off) to below 1", lambda decay: 0 <= decay < 1, "ema_decay")
        check("0 or more", lambda value: value >= 0, "weight_decay", "num_workers")
        check("0 or more gigabytes", lambda gb: 0 <= gb < math.inf, "cache_gb")
        check(f"one of {get_args(Precision)}", lambda name: name in get_args(Precision), "precision")

    @property
    def most_steps(self) -> int:
        return self.steps

    def parts(self) -> tuple[range, ...]:
        """Which patches of a step's batch are computed together."""
        size = self.micro_batch or self.batch_size
        return tuple(range(first, min(first + size, self.batch_size)) for first in range(0, self.batch_size, size))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[SettingsT], data: Mapping[str, Any]) -> SettingsT:
        values = {name: value for name, value in data.items() if name not in RETIRED}
        check_known(cls, values, "training settings")
        if isinstance(values.get("augmentation"), Mapping):
            check_known(Augmentation, values["augmentation"], "augmentation settings")
            values["augmentation"] = replace(cls().augmentation, **values["augmentation"])
        if isinstance(values.get("synthesis"), Mapping):
            values["synthesis"] = Synthesis.from_dict(values["synthesis"])
        return cls(**values)

    def fingerprint(self) -> str:
        """Equal for two runs that must end with the same weights, given the same cases."""
        decisive = {k: v for k, v in _used(self).items() if k not in self.INCIDENTAL}
        decisive["augmentation"] = _used(self.augmentation)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FineTuneSettings(LoopSettings):
    """Supervised training from a bundle. `layer_decay` multiplies the learning rate once per stage below the head."""

    #: Time for the whole run, in place of a number of steps, which the trainer then plans itself (`loop/schedule`).
    minutes: float | None = None
    #: End a run by time earlier, once it has not got better for long.
    until_no_better: bool = False
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
    detail_channels: int | None = None
    #: Whether grey values are taken over the body, and images cropped to it; None: as in the base.
    foreground: bool | None = None
    #: "base": voxels as large as the base's. "structures": larger where the new structures are larger than a patch of
    #: the base, unless a case annotates what the base knows (`training/data/spacing`).
    spacing: Literal["base", "structures"] = "base"
    #: Overlap of the sliding windows in validation.
    validation_overlap: float = 0.25
    #: How scans without labels are learnt from, where there are some, and what that weighs beside the cases.
    unlabelled_method: UnlabelledMethod = "self_training"
    unlabelled_weight: float = 1.0
    #: Over this fraction of the steps the weight rises to its full value; for the first half of it, it is 0.
    unlabelled_ramp: float = 0.4

    LATER: ClassVar[frozenset[str]] = LoopSettings.LATER | {
        *("sides", "foreground", "spacing", "minutes", "until_no_better", "detail_channels"),
        *("unlabelled_method", "unlabelled_weight", "unlabelled_ramp"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sides", tuple(tuple(pair) for pair in self.sides))
        check = partial(_check, self)
        check("a number of minutes above 0, up to a year, or unset", _is_unset_or_time, "minutes")
        if self.minutes is not None and self.steps != LoopSettings.steps:
            raise ConfigurationError(
                f"Settings steps ({self.steps}) and minutes ({self.minutes:g}) exclude each other.",
                "Give the time or the number of steps.",
            )
        if self.until_no_better and self.minutes is None:
            raise ConfigurationError("Setting until_no_better needs minutes.", "Give the longest time it may take.")
        check("pairs of labels, each named once", _are_distinct_pairs, "sides")
        check("above 0, at most 1", lambda decay: 0 < decay <= 1, "layer_decay")
        check("from 0 to 1", _is_fraction, "foreground_fraction")
        check("weights", lambda all_: bool(all_) and min(all_) >= 0 and sum(all_) > 0, "deep_supervision_weights")
        check("1 or more, or unset", _is_unset_or_positive, "patience")
        check("0 (none) or more, or unset", lambda n: n is None or n >= 0, "detail_channels")
        check('"base" or "structures"', lambda spacing: spacing in ("base", "structures"), "spacing")
        check('"last" or "best"', lambda keep: keep in ("last", "best"), "keep")
        starts = ("pretrained", "autoencoder", "random")
        check('"pretrained", "autoencoder" or "random"', lambda start: start in starts, "initial_weights")
        check("from 0 to below 1", lambda overlap: 0 <= overlap < 1, "validation_overlap")
        methods = get_args(UnlabelledMethod)
        check(f"one of {', '.join(methods)}", lambda method: method in methods, "unlabelled_method")
        check("above 0", lambda weight: 0 < weight < math.inf, "unlabelled_weight")
        check("a fraction from 0 to 1", _is_fraction, "unlabelled_ramp")

    @property
    def most_steps(self) -> int:
        return self.steps if self.minutes is None else sys.maxsize // self.batch_size


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
        check = partial(_check, self)
        check("a fraction from 0 to below 1", lambda share: 0 <= share < 1, "held_out")
        check("above 0, or unset", _is_unset_or_positive, "patches_per_volume")
        check("a whole number above 0", lambda n: n >= 1, "open_volumes")


def refuse_time_and_steps(chosen: Mapping[str, Any]) -> None:
    """Where both were chosen, even if the number of steps is the one that nobody needs to choose."""
    if chosen.get("minutes") is not None and chosen.get("steps") is not None:
        raise ConfigurationError("The time and the number of steps exclude each other.", "Give only one of the two.")


def _used(settings: Any) -> dict[str, Any]:
    """All settings but those that came later and are not used."""
    unused = {f.name for f in fields(settings) if f.name in settings.LATER and getattr(settings, f.name) == f.default}
    return {name: value for name, value in asdict(settings).items() if name not in unused}


def _tuples(settings: Any) -> None:
    """JSON and TOML know lists only."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, list):
            object.__setattr__(settings, f.name, tuple(value))


def _is_fraction(value: float) -> bool:
    return 0 <= value <= 1


def _is_range(value: Sequence[float]) -> bool:
    return len(value) == 2 and all(map(math.isfinite, value)) and 0 <= value[0] <= value[1]


def _is_unset_or_positive(value: int | None) -> bool:
    return value is None or value >= 1


def _is_unset_or_time(minutes: float | None) -> bool:
    return minutes is None or (not isinstance(minutes, bool) and 0 < minutes <= 366 * 24 * 60)


def _are_distinct_pairs(pairs: Iterable[Sequence[str]]) -> bool:
    names = [loose_name(name) for pair in pairs for name in pair]
    return all(len(pair) == 2 for pair in pairs) and len(set(names)) == len(names)


def _check(settings: Any, wanted: str, is_valid: Callable[[Any], object], *names: str, group: str = "") -> None:
    """Raise `ConfigurationError` unless each of the fields `names` is what is `wanted`."""
    for name in names:
        value = getattr(settings, name)
        try:
            fits = is_valid(value)
        except TypeError:  # text where a number belongs
            fits = False
        if not fits:
            raise ConfigurationError(f"Setting {group}{name} is {value!r}; it must be {wanted}.")
