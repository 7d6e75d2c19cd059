"""What the resulting model says of itself: name, version, purpose, data, licence, card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..bundle import Bundle, ModelSpec
from ..bundle.spec import check_label_names, check_name, version_key
from ..errors import ConfigurationError
from ..images.labels import Label
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
                "Give it another name: --name.",
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
