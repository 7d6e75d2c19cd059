"""`configs/metadata.json`: MONAI's metadata plus the `maesegment` key, written from a `ModelSpec` and read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import BundleError, ConfigurationError
from ..images.labels import Label
from .bounds import check_json
from .plain_text import neutral
from .schema import FORMAT_VERSION, broken, check_metadata
from .spec import ModelSpec

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
#: The oldest MONAI that runs a bundle, named where none is installed.
_MONAI = "1.4.0"
_PLAIN_FIELDS = ("name", "version", "description", "intended_use", "copyright", "data_source", "authors")
_OWN_FIELDS = ("modality", "licence", "metrics", "training", "reconstruction_error", "parent", "inference")


def serialise(metadata: Mapping[str, Any]) -> bytes:
    """The only byte form a metadata.json may have, so that no byte of it can change unnoticed."""
    text = json.dumps(_plain(metadata), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def content_hash(metadata: Mapping[str, Any]) -> str:
    """sha256 over the metadata without its own hash; the metadata in turn holds the hash of every other file."""
    own = {key: value for key, value in metadata["maesegment"].items() if key != "content_hash"}
    canonical = json.dumps(
        _plain({**metadata, "maesegment": own}), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def build_metadata(spec: ModelSpec, files: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of `spec` with `files` ({relative path: sha256}) and the content hash filled in."""
    own: dict[str, Any] = {key: getattr(spec, key) for key in _OWN_FIELDS}
    own |= {
        "format_version": FORMAT_VERSION,
        "kind": spec.kind,
        "familiarity": spec.familiarity,
        "channels": list(spec.channels),
        "labels": [label.to_dict() for label in spec.labels],
        "preprocessing": spec.preprocessing.to_dict(),
        "network": spec.network.to_dict() if spec.network else None,
        "autoencoder": spec.autoencoder.to_dict() if spec.autoencoder else None,
        "files": dict(files),
    }
    metadata = {key: getattr(spec, key) for key in _PLAIN_FIELDS} | {
        "schema": SCHEMA_URL,
        "changelog": {spec.version: spec.changelog},
        "monai_version": _installed("monai", otherwise=_MONAI),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {name: _installed(name) for name in ("maesegment", "nibabel")},
        "supported_apps": {},
        "task": "3D segmentation" if spec.kind == "segmentation" else "Self-supervised pretraining",
        "data_type": "nibabel",
        "network_data_format": _network_data_format(spec),
        "maesegment": own,
    }
    # Names were checked; notes of a training may quote anything.
    metadata = _plain(metadata, neutral)
    metadata["maesegment"]["content_hash"] = content_hash(metadata)
    return metadata


def parse_metadata(data: bytes) -> dict[str, Any]:
    """Decode and check a metadata.json; `BundleError` names the key at fault."""
    try:
        metadata = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"configs/metadata.json is not valid JSON ({error}).", "The model is damaged: get it again."
        ) from None
    check_json(metadata, broken)
    check_metadata(metadata)
    if content_hash(metadata) != metadata["maesegment"]["content_hash"] or serialise(metadata) != data:
        raise BundleError(
            "configs/metadata.json was changed after the model was saved.",
            "Get the model again; a change to a model is a new version of it.",
        )
    return metadata


def spec_from_metadata(metadata: Mapping[str, Any]) -> ModelSpec:
    """The `ModelSpec` that `metadata` (already checked) was written from. Imports torch."""
    from ..networks import MaeConfig, NnFormerConfig
    from ..preprocessing.plan import Preprocessing

    own = metadata["maesegment"]
    try:
        return ModelSpec(
            kind=own["kind"],
            channels=tuple(own["channels"]),
            labels=tuple(Label.from_dict(label) for label in own["labels"]),
            preprocessing=Preprocessing.from_dict(own["preprocessing"]),
            network=NnFormerConfig.from_dict(own["network"]) if own["network"] else None,
            autoencoder=MaeConfig.from_dict(own["autoencoder"]) if own["autoencoder"] else None,
            changelog=metadata["changelog"].get(metadata["version"], ""),
            **{key: metadata[key] for key in _PLAIN_FIELDS},
            familiarity=own.get("familiarity"),  # absent from what versions before wrote
            **{key: own[key] for key in _OWN_FIELDS},
        )
    except (ConfigurationError, ValueError, TypeError, KeyError) as error:
        reason = error.message if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
        raise BundleError(
            f"configs/metadata.json of model {metadata['name']!r} describes no usable model: {reason}",
            "The model may come from another version of MAESegment: update MAESegment, or get the model again.",
        ) from error


def _network_data_format(spec: ModelSpec) -> dict[str, Any]:
    def patch(names: Sequence[str], **more: Any) -> dict[str, Any]:
        return {
            "type": "image",
            "num_channels": len(names),
            "spatial_shape": list(spec.preprocessing.patch_size),
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": True,
            "channel_def": {str(index): name for index, name in enumerate(names)},
            **more,
        }

    grey = "hounsfield" if spec.modality.upper() == "CT" else "magnitude"
    image = patch(spec.channels, format=grey, modality=spec.modality)
    if spec.kind == "autoencoder":
        return {"inputs": {"image": image}, "outputs": {"pred": image}}
    names = ["background", *(label.name for label in spec.labels)]
    return {"inputs": {"image": image}, "outputs": {"pred": patch(names, format="segmentation")}}


def _plain(value: Any, text: Callable[[str], str] = lambda text: text) -> Any:
    """`value` as JSON types, its texts as `text` makes them. NaN and infinity become null: JSON has neither, and a
    metric without a value has none."""
    if isinstance(value, Mapping):
        return {text(str(key)): _plain(item, text) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, text) for item in value]
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist(), text)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise ConfigurationError(f"A model's metadata cannot hold a {type(value).__name__}: {value!r}.")


def _installed(package: str, otherwise: str = "0") -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        from ..version import __version__

        return __version__ if package == "maesegment" else otherwise
