"""What a model is, apart from its weights: the one object that training, inference and the model card share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..images.labels import Label
from .plain_text import channel_problem, name_problem

if TYPE_CHECKING:
    from ..networks import MaeConfig, NnFormerConfig
    from ..preprocessing.plan import Preprocessing

KINDS = ("segmentation", "autoencoder")
#: Names and versions become folder names on every operating system.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_VERSION = re.compile(r"(?:0|[1-9]\d{0,5})(?:\.(?:0|[1-9]\d{0,5})){2}")
#: Windows opens a device, not a folder, for these, whatever follows the first dot.
_RESERVED_ON_WINDOWS = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def check_name(name: str) -> None:
    """Raise `ConfigurationError` unless `name` can be a model's name and a folder's."""
    if not _NAME.fullmatch(name) or ".." in name or _RESERVED_ON_WINDOWS.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be a model name.",
            "Use 1 to 64 lower-case letters, digits, '-', '_' or '.', e.g. hippocampus-mr.",
        )


def check_label_names(names: Iterable[str]) -> None:
    """Raise `ConfigurationError` unless each of `names` is plain text on one line."""
    for name in names:
        if name_problem(name):
            raise ConfigurationError(f"The label name {name[:80]!r} {name_problem(name)}.", "Rename the structure.")


def check_channels(given: int, channels: Sequence[str]) -> None:
    """Raise `ConfigurationError` unless an image has as many channels as the model names."""
    if given != len(channels):
        raise ConfigurationError(
            f"The model needs {len(channels)} channel(s) ({', '.join(channels)}); the image has {given}.",
            "Give one file per channel, in this order.",
        )


def is_version(text: str) -> bool:
    """Whether `text` is MAJOR.MINOR.PATCH."""
    return _VERSION.fullmatch(text) is not None


def version_key(version: str) -> tuple[int, ...]:
    """`"1.10.0"` -> `(1, 10, 0)`, for sorting; `ConfigurationError` unless it is MAJOR.MINOR.PATCH."""
    if not is_version(version):
        raise ConfigurationError(f"{version!r} is not a version.", "Write three numbers, e.g. 1.0.0.")
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model's identity, network arguments, preprocessing, labels and history.

    Output channel 0 is background; channel `i + 1` is `labels[i]`, whose `value` is written into the label map.
    `parent` is `{"name", "version", "hash"}` of the version this one was trained from. `familiarity` describes the
    training scans (`inference.familiarity`), `reconstruction_error` how well the autoencoder restores them.
    """

    name: str
    version: str
    kind: str
    description: str
    intended_use: str
    modality: str
    channels: tuple[str, ...]
    preprocessing: Preprocessing
    licence: str
    copyright: str
    data_source: str
    labels: tuple[Label, ...] = ()
    network: NnFormerConfig | None = None
    autoencoder: MaeConfig | None = None
    inference: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    reconstruction_error: Mapping[str, Any] | None = None
    familiarity: Mapping[str, Any] | None = None
    parent: Mapping[str, str] | None = None
    authors: str = "MAESegment"
    changelog: str = "Initial version"

    def __post_init__(self) -> None:
        check_name(self.name)
        version_key(self.version)
        if self.kind not in KINDS:
            raise ConfigurationError(f"Model kind {self.kind!r} is neither 'segmentation' nor 'autoencoder'.")
        if not self.channels or not all(channel.strip() for channel in self.channels):
            raise ConfigurationError("A model needs at least one input channel, each with a name.")
        for channel in self.channels:
            if channel_problem(channel):
                raise ConfigurationError(f"The channel name {channel[:80]!r} {channel_problem(channel)}.", "Rename it.")
        check_label_names(label.name for label in self.labels)
        if self.parent is not None and set(self.parent) != {"name", "version", "hash"}:
            raise ConfigurationError("A parent is given as exactly name, version and hash.")
        self._check_labels()
        self._check_networks()

    def _check_labels(self) -> None:
        for what, values in (("value", [str(x.value) for x in self.labels]), ("name", [x.name for x in self.labels])):
            repeated = sorted(value for value, count in Counter(values).items() if count > 1)
            if repeated:
                raise ConfigurationError(f"Two labels share the {what} {', '.join(repeated)}.")
        if (self.kind == "segmentation") != bool(self.labels):
            raise ConfigurationError("A segmentation model has labels; an autoencoder has none.")

    def _check_networks(self) -> None:
        if self.autoencoder is not None and self.autoencoder.encoder.in_channels != len(self.channels):
            raise ConfigurationError(
                f"The autoencoder takes {self.autoencoder.encoder.in_channels} channels, "
                f"the model names {len(self.channels)}."
            )
        if self.kind == "autoencoder":
            if self.autoencoder is None or self.network is not None:
                raise ConfigurationError("An autoencoder model has `autoencoder` arguments and no `network`.")
            return
        if self.network is None:
            raise ConfigurationError("A segmentation model needs its `network` arguments.")
        if self.network.in_channels != len(self.channels):
            raise ConfigurationError(
                f"The network takes {self.network.in_channels} channels, the model names {len(self.channels)}."
            )
        if self.network.out_channels != len(self.labels) + 1:
            raise ConfigurationError(
                f"The network has {self.network.out_channels} outputs; background and "
                f"{len(self.labels)} labels need {len(self.labels) + 1}."
            )
