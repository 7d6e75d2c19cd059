"""Reading checkpoints of the official nnFormer code (github.com/282857341/nnFormer) into our network.

The official networks for Synapse, ACDC and brain tumours differ from ours by key names, by a relative-position index
in which different offsets share a bias, and by attending to padding (ACDC also across the shift's wrap-around).
All of it is expressed in our layout and configuration, so that the imported network computes the same function at the
crop size that the official one was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError
from .attention import offset_index
from .config import NnFormerConfig, Triple
from .nnformer import NnFormer

_SOURCE_HINT = "Pass the `state_dict` entry of an official nnFormer checkpoint, and the preset that it was trained as."
_INDEX, _TABLE = "relative_position_index", "relative_position_bias_table"


def import_official(
    state_dict: Mapping[str, Tensor], preset: str, *, crop_size: Triple | None = None, drop_path: float = 0.2
) -> NnFormer:
    """The network of an official checkpoint, in eval mode, float32, its tensors copied.

    `preset` is `synapse`, `acdc` or `brats`. Channels, classes, width, depths, heads, windows and deep supervision are
    read from the tensors; strides and `crop_size` (D, H, W; the preset's by default) are not in a checkpoint. Raises
    `WeightsError` unless every key is understood and the official function can be reproduced.
    """
    source = _without_wrapper(state_dict)
    config = _read_config(source, preset, crop_size, drop_path)
    with torch.device("meta"):  # no time for 150 M random values
        network = NnFormer(config)
    network.load_state_dict(_converted(source, network, config), assign=True)
    return network.eval()


def _without_wrapper(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` that DataParallel puts before every key."""
    if not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise WeightsError("This is not a state_dict: it holds more than tensors.", _SOURCE_HINT)
    wrapped = all(key.startswith("module.") for key in state_dict)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in state_dict.items()}


def _read_config(
    source: Mapping[str, Tensor], preset: str, crop_size: Triple | None, drop_path: float
) -> NnFormerConfig:
    if preset not in ("synapse", "acdc", "brats"):
        raise WeightsError(f"There is no official nnFormer {preset!r}.", "Presets: synapse, acdc, brats.")
    published = NnFormerConfig.preset(preset)
    depths = _count_blocks(source, "model_down")
    decoder_depths = _count_blocks(source, "decoder")
    if len(depths) != len(published.depths) or len(decoder_depths) != len(depths) - 1:
        raise WeightsError(
            f"The checkpoint has {len(depths)} encoder and {len(decoder_depths)} decoder stages; "
            f"{len(published.depths)} and {len(published.depths) - 1} are needed.",
            _SOURCE_HINT,
        )
    attentions = [f"model_down.layers.{stage}.blocks.0.attn" for stage in range(len(depths))]
    head = _tensor(source, "final.0.up.weight")
    first_conv = _tensor(source, "model_down.patch_embed.proj1.conv1.weight")
    first_mlp = _tensor(source, "model_down.layers.0.blocks.0.mlp.fc1.weight")
    config = replace(
        published,
        in_channels=first_conv.shape[1],
        out_channels=head.shape[1],
        crop_size=crop_size or published.crop_size,
        embed_dim=_tensor(source, "model_down.norm0.weight").shape[0],
        depths=depths,
        heads=tuple(_tensor(source, f"{a}.{_TABLE}").shape[1] for a in attentions),
        windows=tuple(_window(source, a, w) for a, w in zip(attentions, published.windows, strict=True)),
        decoder_depths=decoder_depths,
        decoder_heads=tuple(
            _tensor(source, f"decoder.layers.{stage}.blocks.0.attn.{_TABLE}").shape[1]
            for stage in range(len(depths) - 1)
        ),
        mlp_ratio=first_mlp.shape[0] / first_mlp.shape[1],
        drop_path=drop_path,
        deep_supervision="final.1.up.weight" in source,
        mask_padding=False,
        mask_shift=preset != "acdc",
    )
    return replace(config, global_stages=_global_stages(config))


def _count_blocks(source: Mapping[str, Tensor], part: str) -> tuple[int, ...]:
    """Depth of each stage of `part`, finest first."""
    found = [re.match(rf"{part}\.layers\.(\d+)\.blocks\.(\d+)\.", key) for key in source]
    blocks = {(int(match[1]), int(match[2])) for match in found if match}
    stages = {stage for stage, _ in blocks}
    return tuple(sum(stage == s for s, _ in blocks) for stage in sorted(stages))


def _tensor(source: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in source:
        raise WeightsError(f"The checkpoint has no {key}.", _SOURCE_HINT)
    return source[key]


def _window(source: Mapping[str, Tensor], attention: str, published: Triple) -> Triple:
    """The window of whose offsets the index buffer is a function; the published one where several fit."""
    tokens = _tensor(source, f"{attention}.{_INDEX}").shape[0]
    rows = _tensor(source, f"{attention}.{_TABLE}").shape[0]
    fitting = [window for window in _boxes(tokens, rows) if _rows_by_offset(source, attention, window) is not None]
    if published in fitting:
        return published
    if len(fitting) != 1:
        raise WeightsError(
            f"{attention}.{_INDEX} is a function of the offset between two tokens in {len(fitting) or 'no'} windows "
            f"of {tokens} tokens with {rows} biases, so its biases have no clear equivalent here.",
            _SOURCE_HINT,
        )
    return fitting[0]


def _boxes(tokens: int, rows: int) -> Iterator[Triple]:
    """Every window (d, h, w) of `tokens` tokens that has `rows` different offsets."""
    for d in range(1, tokens + 1):
        for h in range(1, tokens // d + 1 if tokens % d == 0 else 1):
            w = tokens // (d * h)
            if d * h * w == tokens and (2 * d - 1) * (2 * h - 1) * (2 * w - 1) == rows:
                yield d, h, w


def _rows_by_offset(source: Mapping[str, Tensor], attention: str, window: Triple) -> np.ndarray | None:
    """Row of the official table for each row of ours; None where the official index is not a function of the offset."""
    official = _tensor(source, f"{attention}.{_INDEX}").cpu().numpy()
    ours = offset_index(window, window, torch.device("cpu")).numpy()
    rows = np.empty(int(ours.max()) + 1, dtype=np.int64)
    if official.shape != ours.shape:
        return None
    rows[ours] = official
    within = rows.min() >= 0 and rows.max() < _tensor(source, f"{attention}.{_TABLE}").shape[0]
    return rows if within and np.array_equal(rows[ours], official) else None


def _global_stages(config: NnFormerConfig) -> tuple[bool, ...]:
    """Whether each stage's window covers the training crop; there the official code never shifts."""
    grids = _token_grids(config)
    for stage, (grid, window) in enumerate(zip(grids, config.windows, strict=True)):
        if window != grid and any(w >= g for w, g in zip(window, grid, strict=True)):
            raise WeightsError(
                f"At a crop of {config.crop_size} voxels stage {stage} has {grid} tokens, of which the checkpoint's "
                f"window {window} covers some axes and not others; the official shift has no equivalent here then.",
                "Give the crop size (D, H, W) that the checkpoint was trained with.",
            )
    return tuple(window == grid for grid, window in zip(grids, config.windows, strict=True))


def _token_grids(config: NnFormerConfig) -> list[Triple]:
    """Tokens along each axis of the crop, per stage."""
    d, h, w = (-(-size // token) for size, token in zip(config.crop_size, config.token_size, strict=True))
    grids: list[Triple] = [(d, h, w)]
    for stride, padding in zip(config.down_strides, config.down_paddings, strict=True):
        d, h, w = (
            (tokens + 2 * p - (3 if s > 1 else 1)) // s + 1
            for tokens, s, p in zip(grids[-1], stride, padding, strict=True)
        )
        grids.append((d, h, w))
    return grids


def _converted(source: Mapping[str, Tensor], network: NnFormer, config: NnFormerConfig) -> dict[str, Tensor]:
    """Our state_dict from the official one; refuses unless the keys correspond one to one, with equal shapes."""
    names = {key: _official_name(key, len(config.depths)) for key in network.state_dict()}
    tables = [name for name in names.values() if name.endswith(_TABLE)]
    understood = {*names.values(), *(name.replace(_TABLE, _INDEX) for name in tables)}
    problems = [f"missing {name}" for name in sorted(understood - set(source))]
    problems += [f"unknown {name}" for name in source if name not in understood]
    _refuse(problems)
    converted = {
        key: _converted_table(source, name, config) if name.endswith(_TABLE) else source[name]
        for key, name in names.items()
    }
    own = network.state_dict()
    _refuse(
        f"shape of {names[key]}: {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in converted.items()
        if value.shape != own[key].shape
    )
    return {key: value.detach().to(torch.float32, copy=True).contiguous() for key, value in converted.items()}


def _refuse(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        listed = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise WeightsError(f"The checkpoint is not one of this official network: {listed}.", _SOURCE_HINT)


def _converted_table(source: Mapping[str, Tensor], name: str, config: NnFormerConfig) -> Tensor:
    """The bias table with one row per offset, each a copy of the row that the official code uses for that offset."""
    attention = name.removesuffix(f".{_TABLE}")
    stage = re.search(r"layers\.(\d+)", attention)
    assert stage is not None
    window = config.windows[int(stage[1])]
    rows = _rows_by_offset(source, attention, window)
    if rows is None:
        raise WeightsError(f"{attention}.{_INDEX} is not a function of the offset in a window {window}.", _SOURCE_HINT)
    table = source[name]
    return table[torch.as_tensor(rows, device=table.device)]


#: Our name -> the official one, applied in this order.
_RENAMED = (
    (r"^encoder\.embedding\.pair(\d)\.", r"model_down.patch_embed.proj\1."),
    (r"^encoder\.embedding\.norm\.", r"model_down.patch_embed.norm."),
    (r"^encoder\.norms\.(\d+)\.", r"model_down.norm\1."),
    (r"^encoder\.downs\.(\d+)\.conv\.", r"model_down.layers.\1.downsample.reduction."),
    (r"^encoder\.downs\.(\d+)\.norm\.", r"model_down.layers.\1.downsample.norm."),
    (r"^encoder\.stages\.(\d+)\.(\d+)\.", r"model_down.layers.\1.blocks.\2."),
    (r"^decoder\.(\d+)\.up\.norm\.", r"decoder.layers.\1.Upsample.norm."),
    (r"^decoder\.(\d+)\.up\.conv\.", r"decoder.layers.\1.Upsample.up."),
    (r"^decoder\.(\d+)\.skip_block\.attention\.projection_in\.", r"decoder.layers.\1.blocks.0.attn.kv."),
    (r"^decoder\.(\d+)\.skip_block\.", r"decoder.layers.\1.blocks.0."),
    (r"^heads\.(\d+)\.", r"final.\1.up."),
    (r"\.attention\.projection_in\.", r".attn.qkv."),
    (r"\.attention\.projection_out\.", r".attn.proj."),
    (r"\.attention\.bias\.table$", rf".attn.{_TABLE}"),
    (r"\.mlp\.0\.", r".mlp.fc1."),
    (r"\.mlp\.2\.", r".mlp.fc2."),
)


def _official_name(key: str, stages: int) -> str:
    """The official name of our parameter: decoder stages counted from the finest, the skip block as block 0."""
    if match := re.match(r"decoder\.(\d+)\.(?:blocks\.(\d+)\.)?", key):
        stage = stages - 2 - int(match[1])
        rest = key[match.end() :]
        if match[2] is not None:
            key = f"decoder.layers.{stage}.blocks.{int(match[2]) + 1}.{rest}"
        else:
            key = f"decoder.{stage}.{rest}"
    for pattern, replacement in _RENAMED:
        key = re.sub(pattern, replacement, key)
    return key
