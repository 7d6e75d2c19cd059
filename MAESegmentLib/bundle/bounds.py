"""What a model's description may ask for: bounds on its numbers, texts and nesting, checked before anything is built.

They are far beyond the largest published networks, and small enough that a description cannot take a computer's memory
or time. Works on plain JSON values, in time linear in them, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from ..errors import ConfigurationError
from ..images.labels import Label
from .plain_text import channel_problem, name_problem, text_problem
from .usage.cleaning import KEY as CLEANING
from .usage.cleaning import cleaning_of
from .usage.locator import KEY as LOCATOR
from .usage.locator import locator_of
from .usage.sides import KEY as SIDES
from .usage.sides import sides_of
from .usage.sizes import KEY as VOLUMES
from .usage.sizes import volumes_of

MAX_METADATA_BYTES = 16 * 2**20
MAX_WEIGHTS_BYTES = 2 * 2**30
_MAX_DEPTH = 12
_MAX_TEXT = 100_000
_MAX_LABELS = 1024
_MAX_CHANNELS = 64
_MAX_STAGES = 8
_MAX_GREY_VALUE = 1e9
_MAX_PATCH_VOXELS = 2**25  # 322 cubed
#: Tokens that attend to each other: memory grows with the square.
_MAX_SEQUENCE = 8192
#: Numbers that one layer writes for one patch: 1 GB, or 4 GB of class scores.
_MAX_ACTIVATIONS = 2**28
_MAX_SCORES = 2**30

#: Reports (key, problem) by raising.
Report = Callable[[str, str], Exception]

_COUNTS = {
    "embed_dim": (2, 4096),
    "in_channels": (1, _MAX_CHANNELS),
    "out_channels": (1, _MAX_LABELS + 1),
}
_COUNTS_OF_STAGES = {
    "depths": (1, 64),
    "heads": (1, 256),
    "decoder_depths": (1, 64),
    "decoder_heads": (1, 256),
}
_TRIPLES_OF_STAGES = {
    "embed_strides": (1, 16),
    "windows": (1, 128),
    "down_strides": (1, 2),
    "down_paddings": (0, 1),
}
_FLAGS = ("deep_supervision", "mask_padding", "mask_shift")


def check_json(value: Any, report: Report) -> None:
    """Refuse JSON that is nested too deeply, holds overlong or impossible numbers, or text that is not plain."""
    waiting: list[tuple[str, Any, int]] = [("", value, 1)]
    while waiting:
        key, found, depth = waiting.pop()
        if isinstance(found, str):
            problem = f"is {len(found)} characters long" if len(found) > _MAX_TEXT else text_problem(found)
            if problem:
                raise report(key, problem)
        elif isinstance(found, (int, float)) and not -(2.0**63) <= found < 2.0**63:  # false for NaN, too
            raise report(key, "is far too large a number")
        elif isinstance(found, (Mapping, list)):
            if depth > _MAX_DEPTH:
                raise report(key, f"is nested more than {_MAX_DEPTH} deep")
            items = found.items() if isinstance(found, Mapping) else ((key, item) for item in found)
            for name, item in items:
                problem = name_problem(name)
                if problem:
                    raise report(key or "the file", f"has an entry whose name {problem}")
                waiting.append((name, item, depth + 1))


def check_bounds(own: Mapping[str, Any], report: Report) -> None:
    """`own` is the part `maesegment`, whose entries have the right types; what lies inside them may be anything."""
    _check_names(own, report)
    _check_preprocessing(own["preprocessing"], report)
    patch = own["preprocessing"]["patch_size"]
    if own["network"] is not None:
        _check_network("network", own["network"], patch, report)
    if own["autoencoder"] is not None:
        _check_autoencoder(own["autoencoder"], patch, report)
    _check_inference(own["inference"], [Label.from_dict(label) for label in own["labels"]], report)
    _check_figures(own, report)


def _check_names(own: Mapping[str, Any], report: Report) -> None:
    if len(own["labels"]) > _MAX_LABELS:
        raise report("labels", f"has {len(own['labels'])} entries; a model has at most {_MAX_LABELS}")
    if len(own["channels"]) > _MAX_CHANNELS:
        raise report("channels", f"has {len(own['channels'])} entries; a model has at most {_MAX_CHANNELS}")
    for channel in own["channels"]:
        if channel_problem(channel):
            raise report("channels", f"has a name that {channel_problem(channel)}")
    for key in ("modality", "licence"):
        if name_problem(own[key]):
            raise report(key, name_problem(own[key]))
    for key, value in (own["parent"] or {}).items():
        if name_problem(value):
            raise report(f"parent.{key}", name_problem(value))


def _check_preprocessing(found: Mapping[str, Any], report: Report) -> None:
    _triple("preprocessing.patch_size", found.get("patch_size"), 1, 1024, report)
    if math.prod(found["patch_size"]) > _MAX_PATCH_VOXELS:
        raise report("preprocessing.patch_size", f"is more than {_MAX_PATCH_VOXELS} voxels")
    spacing = found.get("spacing")
    if not _is_list(spacing, 3) or not all(_is_number(step) and 0.01 <= step <= 100 for step in spacing):
        raise report("preprocessing.spacing", "is not three lengths from 0.01 to 100 mm")
    if not isinstance(found.get("orientation"), str):
        raise report("preprocessing.orientation", "is not text")
    intensity = found.get("intensity")
    if not isinstance(intensity, Mapping) or not isinstance(intensity.get("kind"), str):
        raise report("preprocessing.intensity", "names no kind")
    _flags("preprocessing.intensity", intensity, ("foreground",), report)
    for key, value in intensity.items():
        if key not in ("kind", "foreground") and not (_is_number(value) and abs(value) <= _MAX_GREY_VALUE):
            raise report(f"preprocessing.intensity.{key}", f"is not a number up to {_MAX_GREY_VALUE:g}")


def _check_network(where: str, found: Mapping[str, Any], patch: Sequence[int], report: Report) -> None:
    """Bounds on every size, then on what the network would hold at once for one patch."""
    for key, (least, most) in _COUNTS.items():
        _count(f"{where}.{key}", found.get(key), least, most, report)
    for key, bounds in _COUNTS_OF_STAGES.items():
        for count in _stages(where, key, found, report):
            _count(f"{where}.{key}", count, *bounds, report)
    for key, bounds in _TRIPLES_OF_STAGES.items():
        for triple in _stages(where, key, found, report):
            _triple(f"{where}.{key}", triple, *bounds, report)
    if not all(isinstance(is_global, bool) for is_global in _stages(where, "global_stages", found, report)):
        raise report(f"{where}.global_stages", "does not hold only true and false")
    _flags(where, found, _FLAGS, report)
    _triple(f"{where}.crop_size", found.get("crop_size"), 1, 1024, report)
    _count(f"{where}.detail_channels", found.get("detail_channels", 0), 0, 256, report)
    ratio = found.get("mlp_ratio", 4.0)
    if not _is_number(ratio) or not 0.1 <= ratio <= 32:
        raise report(f"{where}.mlp_ratio", "is not a number from 0.1 to 32")
    drop = found.get("drop_path", 0.2)
    if not _is_number(drop) or not 0 <= drop < 1:
        raise report(f"{where}.drop_path", "is not a share from 0 to 1")
    if any(math.prod(window) > _MAX_SEQUENCE for window in found["windows"]):
        raise report(f"{where}.windows", f"has more than {_MAX_SEQUENCE} tokens")
    _check_activations(where, found, patch, report)


def _check_activations(where: str, found: Mapping[str, Any], patch: Sequence[int], report: Report) -> None:
    strides = found["embed_strides"]
    if len(strides) != 2:
        raise report(f"{where}.embed_strides", "does not have two entries")
    half = [-(-n // s) for n, s in zip(patch, strides[0], strict=True)]
    tokens = [-(-n // s) for n, s in zip(half, strides[1], strict=True)]
    widest = max(math.prod(half) * found["embed_dim"] // 2, math.prod(tokens) * found["embed_dim"])
    widest = max(widest, math.prod(patch) * found.get("detail_channels", 0))
    if widest > _MAX_ACTIVATIONS or math.prod(patch) * found["out_channels"] > _MAX_SCORES:
        raise report(where, "describes a network that needs far too much memory for one patch")
    for stage, is_global in enumerate(found["global_stages"]):
        if is_global and math.prod(tokens) > _MAX_SEQUENCE:
            raise report(f"{where}.global_stages", f"lets {math.prod(tokens)} tokens attend to each other")
        if stage < len(found["down_strides"]):
            tokens = [-(-n // s) for n, s in zip(tokens, found["down_strides"][stage], strict=True)]


def _check_autoencoder(found: Mapping[str, Any], patch: Sequence[int], report: Report) -> None:
    encoder = found.get("encoder")
    if not isinstance(encoder, Mapping):
        raise report("autoencoder.encoder", "is missing")
    _check_network("autoencoder.encoder", encoder, patch, report)
    _triple("autoencoder.unit", found.get("unit", [8, 8, 8]), 1, 1024, report)
    for key, least, most in (("decoder_dim", 1, 4096), ("decoder_depth", 0, 64), ("decoder_heads", 1, 256)):
        if key in found:
            _count(f"autoencoder.{key}", found[key], least, most, report)
    _flags("autoencoder", found, ("normalise_target",), report)
    ratio = found.get("mask_ratio", 0.7)
    ratios = ratio if _is_list(ratio, 2) else [ratio]
    if not all(_is_number(share) and 0 < share < 1 for share in ratios):
        raise report("autoencoder.mask_ratio", "is neither a share between 0 and 1 nor two")
    if not isinstance(found.get("encoding", "dense"), str):
        raise report("autoencoder.encoding", "is not text")


def _check_inference(found: Mapping[str, Any], labels: Sequence[Label], report: Report) -> None:
    overlap = found.get("overlap", 0.5)
    if not _is_number(overlap) or not 0 <= overlap <= 0.9:
        raise report("inference.overlap", "is not a share from 0 to 0.9")
    for key in ("mirroring", "mirror_axes"):
        axes = found.get(key, [])
        if (
            not isinstance(axes, bool)
            and (key, axes) != ("mirroring", "shifted")
            and not (_is_list(axes) and all(_is_count(a, 0, 2) for a in axes[:4]) and len(axes) < 4)
        ):
            raise report(f"inference.{key}", "is neither true or false nor a list of axes 0, 1 and 2")
    try:
        recipes = cleaning_of(found)
    except ConfigurationError as error:
        raise report(f"inference.{CLEANING}", f"is not usable ({error})") from None
    try:
        sides_of(found, len(labels))
    except ConfigurationError as error:
        raise report(f"inference.{SIDES}", f"is not usable ({error})") from None
    try:
        locator_of(found, labels)
    except ConfigurationError as error:
        raise report(f"inference.{LOCATOR}", f"is not usable ({error})") from None
    try:
        volumes = volumes_of(found)
    except ConfigurationError as error:
        raise report(f"inference.{VOLUMES}", f"is not usable ({error})") from None
    for key, entries in ((CLEANING, recipes), (VOLUMES, volumes)):
        if len(entries) > _MAX_LABELS:
            raise report(f"inference.{key}", f"has {len(entries)} entries; a model has at most {_MAX_LABELS} labels")


def _check_figures(own: Mapping[str, Any], report: Report) -> None:
    """What panels and tables calculate with or format must be numbers."""
    percentiles = (own["reconstruction_error"] or {}).get("percentiles")
    if percentiles is not None and not _is_table_of_numbers(percentiles):
        raise report("reconstruction_error.percentiles", "does not hold numbers")
    for name, measured in own["metrics"].items():
        if not isinstance(measured, Mapping):
            continue
        for key in ("dice_before", "dice_after"):
            if measured.get(key) is not None and not _is_table_of_numbers(measured[key]):
                raise report(f"metrics.{name}.{key}", "does not hold numbers")
        for key in ("mean_dice_before", "mean_dice_after"):
            if measured.get(key) is not None and not _is_number(measured[key]):
                raise report(f"metrics.{name}.{key}", "is not a number")


def _stages(where: str, key: str, found: Mapping[str, Any], report: Report) -> list[Any]:
    values = found.get(key)
    if values is None and key in ("down_paddings", "decoder_depths", "decoder_heads"):
        return []
    if not _is_list(values) or not 1 <= len(values) <= _MAX_STAGES:
        raise report(f"{where}.{key}", f"is not a list of 1 to {_MAX_STAGES} entries")
    return list(values)


def _triple(key: str, found: Any, least: int, most: int, report: Report) -> None:
    if not _is_list(found, 3) or not all(_is_count(value, least, most) for value in found):
        raise report(key, f"is not three whole numbers from {least} to {most}")


def _flags(where: str, found: Mapping[str, Any], keys: Sequence[str], report: Report) -> None:
    for key in keys:
        if not isinstance(found.get(key, False), bool):
            raise report(f"{where}.{key}", "is neither true nor false")


def _count(key: str, found: Any, least: int, most: int, report: Report) -> None:
    if not _is_count(found, least, most):
        raise report(key, f"is not a whole number from {least} to {most}")


def _is_list(found: Any, length: int | None = None) -> TypeGuard[Sequence[Any]]:
    return isinstance(found, (list, tuple)) and length in (None, len(found))


def _is_count(found: Any, least: int, most: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and least <= found <= most


def _is_number(found: Any) -> bool:
    return isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)


def _is_table_of_numbers(found: Any) -> bool:
    return isinstance(found, Mapping) and all(value is None or _is_number(value) for value in found.values())
