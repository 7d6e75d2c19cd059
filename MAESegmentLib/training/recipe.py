"""A recipe file: everything about a run in one TOML or JSON file, so that it can be repeated.

Its [model] table is what the resulting model says of itself: name, version, purpose, data, licence, card.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..bundle import Bundle, ModelSpec
from ..bundle.spec import check_label_names, check_name, version_key
from ..errors import ConfigurationError, reason_of
from ..images.labels import Label
from ..networks import MaeConfig, NnFormerConfig
from ..preprocessing.plan import Preprocessing
from ..values import check_known

RESEARCH_ONLY = "Research only. Not a medical device; every result must be checked by a qualified person."
NO_LICENCE = "No licence was chosen for this model: all rights reserved by whoever trained it.\n"


@dataclass(frozen=True)
class Description:
    """Empty fields are filled in from the base model, or with a neutral text."""

    name: str = ""
    version: str = ""
    description: str = ""
    intended_use: str = ""
    modality: str = ""
    channels: tuple[str, ...] = ()
    licence: str = ""
    copyright: str = ""
    data_source: str = ""
    authors: str = ""
    changelog: str = ""
    #: Markdown put before the generated part of the model card.
    card: str = ""
    licence_text: str = ""
    #: Colours and terminology codes of labels, found by name.
    labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        # Here, because a name that cannot be used must not come to light after hours of training.
        if self.name:
            check_name(self.name)
        if self.version:
            version_key(self.version)
        check_label_names((*self.channels, *(label.name for label in self.labels)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Description:
        check_known(cls, data, "entries about the model")
        values = dict(data)
        values["labels"] = tuple(Label.from_dict(label) for label in values.get("labels", ()))
        values["channels"] = tuple(values.get("channels", ()))
        return cls(**values)

    def heading(self) -> str:
        """How the model card begins."""
        return self.card or f"# {self.name} {self.version}\n\n{self.description}\n\n{self.intended_use}"

    def spec(self, kind: str, **parts: Any) -> ModelSpec:
        """The model of this description; `parts` are the other fields of its `ModelSpec`."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("card", "licence_text", "labels")}
        return ModelSpec(kind=kind, **own, **parts)

    def completed(self, base: Bundle | None, *, same_labels: bool, name: str, channels: int) -> Description:
        """With every field filled in; a child with the labels of its base is the base's next minor version."""
        spec = base.spec if base is not None else None
        is_version = base is not None and same_labels and spec is not None and len(spec.channels) == channels
        chosen = self.name or (base.name if base is not None and is_version else slug(name))
        if base is not None and chosen == base.name and spec and len(spec.channels) != channels:
            raise ConfigurationError(
                f"The cases have {channels} channel(s), {base.name} takes {len(spec.channels)}: a model of them is no "
                "version of it.",
                "Give it another name.",
            )
        version = self.version
        if not version:
            version = next_version(base.version) if base is not None and chosen == base.name else "1.0.0"
        if self.channels and len(self.channels) != channels:
            raise ConfigurationError(f"{len(self.channels)} channels are named, but the images have {channels}.")
        names = self.channels or (spec.channels if spec and len(spec.channels) == channels else ())
        return replace(
            self,
            name=chosen,
            version=version,
            description=self.description
            or (spec.description if spec and same_labels else f"Segmentation model {chosen}."),
            intended_use=self.intended_use or (spec.intended_use if spec else RESEARCH_ONLY),
            modality=self.modality or (spec.modality if spec else "unknown"),
            channels=names or tuple("image" if channels == 1 else f"channel {n}" for n in range(channels)),
            licence=self.licence or (spec.licence if spec else "unlicensed"),
            copyright=self.copyright or (spec.copyright if spec else ""),
            data_source=self.data_source or (spec.data_source if spec else "not stated"),
            authors=self.authors or (spec.authors if spec else "MAESegment"),
            changelog=self.changelog or (f"Fine-tuned from {base.name} {base.version}" if base else "Initial version"),
            licence_text=self.licence_text or _licence_of(base),
        )


def next_version(version: str) -> str:
    """ "1.2.3" -> "1.3.0"."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def slug(text: str) -> str:
    """A model name made of any text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "model"


def _licence_of(base: Bundle | None) -> str:
    path = base.path / "LICENSE" if base is not None else None
    return path.read_text(encoding="utf-8", errors="replace") if path is not None and path.is_file() else NO_LICENCE


#: From the orientation of the network's axes to the voxel size in mm along them.
MedianSpacing = Callable[[str], Sequence[float]]

#: [model] entries that name a text file beside the recipe.
_FILES = {"card_file": "card", "licence_file": "licence_text"}
_EXPECTED = "Give a .toml or .json file of settings, or correct this one."
_TABLES = ("model", "labels", "cases", "network", "autoencoder", "preprocessing", "settings")


@dataclass(frozen=True)
class Recipe:
    """The tables of a recipe as written. `cases` may hold data, split, exclude, validation and labels."""

    description: Description = field(default_factory=Description)
    cases: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def preprocessing_plan(self, median_spacing: MedianSpacing) -> Preprocessing:
        """What the recipe leaves open is a neutral choice: the spacing is that of the images."""
        table: dict[str, Any] = {"orientation": "RAS", **self.preprocessing}
        table["intensity"] = {"kind": "zscore", **table.get("intensity", {})}
        # Grey values of MR mean something only against those of the body; on the CT scale they do by themselves.
        table["intensity"].setdefault("foreground", table["intensity"]["kind"] == "zscore")
        if "patch_size" not in table:
            table["patch_size"] = self.network_config().crop_size
        if "spacing" not in table:
            table["spacing"] = median_spacing(table["orientation"])
        return Preprocessing.from_dict(table)

    def network_config(self) -> NnFormerConfig:
        changes = dict(self.network)
        return NnFormerConfig.preset(changes.pop("preset", "small"), **changes)

    def mae_config(self, preprocessing: Preprocessing) -> MaeConfig:
        """`unit_mm` is the edge of one masked unit in place of its size in voxels."""
        table = dict(self.autoencoder)
        encoder = replace(self.network_config(), crop_size=preprocessing.patch_size)
        if unit_mm := table.pop("unit_mm", None):
            table["unit"] = MaeConfig.unit_from_mm(unit_mm, preprocessing.spacing, encoder.token_size)
        try:
            return MaeConfig(encoder=encoder, **table)
        except TypeError as error:
            raise ConfigurationError(f"The recipe's autoencoder settings do not fit: {error}") from error


def read_recipe(path: Path | None) -> Recipe:
    """Read a `.toml` or `.json` recipe; None is an empty one."""
    if path is None:
        return Recipe()
    data = read_settings_file(path)
    unknown = set(data) - set(_TABLES)
    if unknown:
        raise ConfigurationError(
            f"{path.name} has unknown tables: {', '.join(sorted(unknown))}.", f"Known: {', '.join(_TABLES)}."
        )
    model = dict(data.get("model", {}))
    for key, entry in _FILES.items():
        if key in model:
            model[entry] = _read(path.parent / model.pop(key))
    if "labels" in data:
        model["labels"] = data["labels"]
    tables = {name: data.get(name, {}) for name in _TABLES if name not in ("model", "labels")}
    return Recipe(Description.from_dict(model), **tables)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The content of a `.toml` or `.json` file as a dictionary."""
    text = _read(path)
    is_toml = path.suffix.lower() == ".toml"
    try:
        data = _toml(text) if is_toml else json.loads(text)
    except ValueError as error:
        kind = "TOML" if is_toml else "JSON"
        raise ConfigurationError(f"{path} cannot be read as {kind}: {error}.", _EXPECTED) from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} does not hold named settings.")
    return data


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigurationError(f"{path} cannot be read: {why}.", _EXPECTED) from error
