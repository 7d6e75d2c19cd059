"""The rules a metadata.json must obey, each broken one reported by the name of its key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import BundleError, ConfigurationError
from ..images.labels import Label
from .bounds import check_bounds
from .plain_text import name_problem
from .spec import KINDS, check_name, version_key

#: Raised by one whenever an older MAESegment could misread a newer bundle.
FORMAT_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Every file a bundle may hold. Nothing that any program would execute, or that Windows takes for a device.
ALLOWED_FILES = re.compile(
    r"LICENSE|configs/(?:metadata|inference)\.json|models/(?:model|autoencoder)\.pt"
    r"|docs/(?=.{1,100}\Z)(?!(?i:con|prn|aux|nul|com\d|lpt\d)\.)[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.(?:md|png|csv|json)"
)
_TOP_KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": str,
    "name": str,
    "version": str,
    "changelog": Mapping,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": Mapping,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "intended_use": str,
    "data_source": str,
    "network_data_format": Mapping,
    "maesegment": Mapping,
}
_NULLABLE_MAPPING = (Mapping, type(None))
_OWN_KEYS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "modality": str,
    "licence": str,
    "channels": list,
    "labels": list,
    "preprocessing": Mapping,
    "inference": Mapping,
    "metrics": Mapping,
    "training": Mapping,
    "network": _NULLABLE_MAPPING,
    "autoencoder": _NULLABLE_MAPPING,
    "reconstruction_error": _NULLABLE_MAPPING,
    "familiarity": _NULLABLE_MAPPING,  # may be absent: versions before did not write it
    "parent": _NULLABLE_MAPPING,
    "files": Mapping,
    "content_hash": str,
}


def check_metadata(metadata: Any) -> None:
    """Raise `BundleError` unless `metadata` has every key, of the right type, with a value that can work."""
    if not isinstance(metadata, Mapping):
        raise broken("the file", "holds no JSON object")
    own = metadata.get("maesegment")
    # The format comes first: of a newer format, nothing else here is known to be true.
    if isinstance(own, Mapping):
        _check_format(own.get("format_version"))
    _check_keys(metadata, _TOP_KEYS, "")
    assert isinstance(own, Mapping)
    _check_keys({"familiarity": None, **own}, _OWN_KEYS, "maesegment.")
    try:
        check_name(metadata["name"])
        version_key(metadata["version"])
    except ConfigurationError as error:
        raise BundleError(f"configs/metadata.json: {error.message}", error.hint) from None
    if own["kind"] not in KINDS:
        raise broken("maesegment.kind", f"is {own['kind']!r}, not one of {', '.join(KINDS)}")
    _check_data_format(metadata["network_data_format"])
    for index, entry in enumerate(own["labels"]):
        _check_label(f"maesegment.labels[{index}]", entry)
    if not own["channels"] or not all(isinstance(channel, str) for channel in own["channels"]):
        raise broken("maesegment.channels", "is not a list of channel names")
    parent = own["parent"] or {"name": "", "version": "", "hash": ""}
    if set(parent) != {"name", "version", "hash"} or not all(isinstance(value, str) for value in parent.values()):
        raise broken("maesegment.parent", "is not exactly name, version and hash")
    _check_files(own)
    check_bounds(own, lambda key, problem: broken(f"maesegment.{key}", problem))


def _check_format(found: Any) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise broken("maesegment.format_version", f"is {found!r}, not a whole number from 1")
    if found > FORMAT_VERSION:
        raise BundleError(
            f"The model was made by a newer MAESegment (format {found}; this one reads up to {FORMAT_VERSION}).",
            "Update MAESegment.",
        )


def _check_keys(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str) -> None:
    for key, kind in expected.items():
        if key not in found:
            raise broken(prefix + key, "is missing")
        if not isinstance(found[key], kind):
            raise broken(prefix + key, f"has the wrong type ({type(found[key]).__name__})")


def _check_data_format(found: Mapping[str, Any]) -> None:
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        where = f"network_data_format.{side}.{name}"
        entry = found[side].get(name) if isinstance(found.get(side), Mapping) else None
        if not isinstance(entry, Mapping):
            raise broken(where, "is missing")
        count, channels = entry.get("num_channels"), entry.get("channel_def")
        if not isinstance(count, int) or not isinstance(channels, Mapping) or len(channels) != count:
            raise broken(f"{where}.channel_def", "does not name each of num_channels channels")


def _check_label(key: str, entry: Any) -> None:
    try:
        label = Label.from_dict(entry)
    except (ConfigurationError, ValueError) as error:
        raise broken(key, f"is not a valid label ({str(error)[:200]})") from None
    named = label.terminology
    codes = [code for code in (named.category, named.type, named.modifier) if code is not None]
    for text in (label.name, *(text for code in codes for text in (code.scheme, code.value, code.meaning))):
        if problem := name_problem(text):
            raise broken(key, f"has a name or code that {problem}")


def _check_files(own: Mapping[str, Any]) -> None:
    for path, digest in own["files"].items():
        if not ALLOWED_FILES.fullmatch(path) or path == "configs/metadata.json":
            raise broken("maesegment.files", f"names {path!r}, which a model may not hold")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise broken(f"maesegment.files[{path!r}]", "is not a sha256")
    if len({path.lower() for path in own["files"]}) < len(own["files"]):
        raise broken("maesegment.files", "names two files that are one where upper and lower case are the same")
    required = {"models/model.pt", "docs/README.md", "LICENSE"}
    if own["kind"] == "segmentation":
        required.add("configs/inference.json")
    absent = sorted(required - set(own["files"]))
    if absent:
        raise broken("maesegment.files", f"lacks {', '.join(absent)}")
    if not _SHA256.fullmatch(own["content_hash"]):
        raise broken("maesegment.content_hash", "is not a sha256")


def broken(key: str, problem: str) -> BundleError:
    """The error about the entry `key` of a metadata.json; `problem` is the end of a sentence."""
    return BundleError(
        f"configs/metadata.json: {key[:100]} {problem[:300]}.",
        "This is not a complete MAESegment model: get it again, or make one by fine-tuning.",
    )
