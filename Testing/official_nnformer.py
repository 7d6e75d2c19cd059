"""A plain forward of the official nnFormer design on a state_dict of its layout: the reference for the importer.

Written for reading, not speed: every window is cut out and attended separately, with explicit softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]
StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Design:
    """What the official code fixes by task; `windows` per stage, heads per stage, all finest first."""

    preset: str
    crop: Triple
    width: int
    channels: int
    classes: int
    patch: Triple
    embed_strides: tuple[Triple, Triple]
    windows: tuple[Triple, ...]
    heads: tuple[int, ...]
    decoder_heads: tuple[int, ...]
    #: kernel, stride, padding of each down-sampling; and the output padding of its up-sampling
    downs: tuple[tuple[Triple, Triple, Triple, Triple], ...]
    shift_mask: bool = True
    outputs: int = 1

    def dim(self, stage: int) -> int:
        return self.width * 2**stage


def _cube(size: int) -> Triple:
    return size, size, size


_HALVE = (_cube(3), _cube(2), _cube(1), _cube(0))
_ACDC_DOWNS = (
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), _cube(0)),
    _HALVE,
    (_cube(3), _cube(2), (0, 1, 1), (1, 0, 0)),
)
_FOURFOLD = ((2, 2, 2), (2, 2, 2))

PUBLISHED = {
    "synapse": Design(
        "synapse", (64, 128, 128), 192, 1, 14, (2, 4, 4), ((2, 2, 2), (1, 2, 2)),
        tuple(map(_cube, (4, 4, 8, 4))), (6, 12, 24, 48), (6, 12, 24), (_HALVE,) * 3, outputs=3,
    ),
    "acdc": Design(
        "acdc", (14, 160, 160), 96, 1, 4, (1, 4, 4), ((1, 2, 2), (1, 2, 2)),
        ((3, 5, 5), (3, 5, 5), (7, 10, 10), (3, 5, 5)), (3, 6, 12, 24), (3, 6, 12), _ACDC_DOWNS, shift_mask=False,
    ),
    "brats": Design(
        "brats", (128, 128, 128), 96, 4, 4, (4, 4, 4), _FOURFOLD,
        tuple(map(_cube, (4, 4, 8, 4))), (3, 6, 12, 24), (6, 12, 24), (_HALVE,) * 3,
    ),
}  # fmt: skip

#: Small enough for a test; windows of 3 on grids of 8 and 4 make padding, of which no token may be kept apart.
REDUCED = {
    "synapse": Design(
        "synapse", (16, 32, 32), 8, 1, 3, (2, 4, 4), ((2, 2, 2), (1, 2, 2)),
        tuple(map(_cube, (4, 4, 2, 1))), (1, 2, 4, 8), (1, 2, 4), (_HALVE,) * 3, outputs=3,
    ),
    "acdc": Design(
        "acdc", (14, 64, 64), 8, 2, 5, (1, 4, 4), ((1, 2, 2), (1, 2, 2)),
        ((3, 5, 5), (3, 5, 5), (7, 4, 4), (3, 2, 2)), (1, 2, 4, 8), (1, 2, 4), _ACDC_DOWNS, shift_mask=False,
    ),
    "brats": Design(
        "brats", (32, 32, 32), 8, 4, 2, (4, 4, 4), _FOURFOLD,
        tuple(map(_cube, (3, 3, 2, 1))), (1, 2, 4, 8), (2, 4, 8), (_HALVE,) * 3,
    ),
}  # fmt: skip


def official_index(window: Triple) -> Tensor:
    """(L, L) rows of the bias table, with the official multipliers, which give different offsets the same row."""
    axes = torch.meshgrid(*[torch.arange(w) for w in window], indexing="ij")
    d, h, w = (a.reshape(-1)[:, None] - a.reshape(-1)[None, :] + size - 1 for a, size in zip(axes, window, strict=True))
    return d * (3 * window[1] - 1) + h * (2 * window[1] - 1) + w


def shapes(design: Design) -> dict[str, tuple[int, ...]]:
    """Every parameter of the official layout; tables before their index buffers, which `state_dict` adds."""
    found: dict[str, tuple[int, ...]] = {}

    def affine(name: str, *weight: int, bias: int | None = None) -> None:
        found[f"{name}.weight"] = weight
        found[f"{name}.bias"] = (bias or weight[0],)

    def block(name: str, dim: int, heads: int, window: Triple, projection: str, factor: int) -> None:
        affine(f"{name}.norm1", dim)
        found[f"{name}.attn.relative_position_bias_table"] = (
            (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1),
            heads,
        )
        affine(f"{name}.attn.{projection}", factor * dim, dim)
        affine(f"{name}.attn.proj", dim, dim)
        affine(f"{name}.norm2", dim)
        affine(f"{name}.mlp.fc1", 4 * dim, dim)
        affine(f"{name}.mlp.fc2", dim, 4 * dim)

    half, embedding = design.width // 2, "model_down.patch_embed"
    affine(f"{embedding}.proj1.conv1", half, design.channels, 3, 3, 3)
    affine(f"{embedding}.proj1.conv2", half, half, 3, 3, 3)
    affine(f"{embedding}.proj1.norm1", half)
    affine(f"{embedding}.proj1.norm2", half)
    affine(f"{embedding}.proj2.conv1", design.width, half, 3, 3, 3)
    affine(f"{embedding}.proj2.conv2", design.width, design.width, 3, 3, 3)
    affine(f"{embedding}.proj2.norm1", design.width)
    affine(f"{embedding}.norm", design.width)
    for stage, window in enumerate(design.windows):
        dim, layer = design.dim(stage), f"model_down.layers.{stage}"
        for b in range(2):
            block(f"{layer}.blocks.{b}", dim, design.heads[stage], window, "qkv", 3)
        affine(f"model_down.norm{stage}", dim)
        if stage == 3:
            break
        kernel, stride, *_ = design.downs[stage]
        affine(f"{layer}.downsample.norm", dim)
        affine(f"{layer}.downsample.reduction", 2 * dim, dim, *kernel)
        layer = f"decoder.layers.{stage}"
        block(f"{layer}.blocks.0", dim, design.decoder_heads[stage], window, "kv", 2)
        block(f"{layer}.blocks.1", dim, design.decoder_heads[stage], window, "qkv", 3)
        affine(f"{layer}.Upsample.norm", 2 * dim)
        affine(f"{layer}.Upsample.up", 2 * dim, dim, *stride, bias=dim)
    for level in range(design.outputs):
        affine(f"final.{level}.up", design.dim(level), design.classes, *design.patch, bias=design.classes)
    return found


def state_dict(design: Design, *, seed: int = 0, device: str = "cpu") -> StateDict:
    """Random values; on the `meta` device shapes only (index buffers are always real)."""
    generator = torch.Generator().manual_seed(seed)
    tensors: StateDict = {}
    for name, shape in shapes(design).items():
        if device == "meta":
            tensors[name] = torch.empty(shape, device="meta")
        elif len(shape) == 1:
            tensors[name] = torch.randn(shape, generator=generator) * 0.2 + (1.0 if "norm" in name else 0.0)
        elif name.endswith("_table"):
            tensors[name] = torch.randn(shape, generator=generator)
        else:
            inputs = torch.Size(shape[1:]).numel()
            tensors[name] = torch.randn(shape, generator=generator) / inputs**0.5
        if name.endswith("_table"):
            stage = int(name.split("layers.")[1][0])
            tensors[name.replace("bias_table", "index")] = official_index(design.windows[stage])
    return tensors


class Reference:
    """The official forward; tokens are (B, D, H, W, C)."""

    def __init__(self, design: Design, tensors: StateDict) -> None:
        self.design = design
        self.tensors = tensors

    def __call__(self, image: Tensor) -> list[Tensor]:
        """image (B, C, D, H, W) -> logits of every head, finest first."""
        design = self.design
        tokens = self._embed(image)
        skips = []
        for stage, window in enumerate(design.windows):
            for b in range(2):
                shift = self._shift(window, tokens) if b else (0, 0, 0)
                tokens = self._block(
                    f"model_down.layers.{stage}.blocks.{b}", tokens, window, design.heads[stage], shift
                )
            skips.append(self._norm(f"model_down.norm{stage}", tokens))
            if stage < 3:
                layer, (_, stride, padding, _) = f"model_down.layers.{stage}.downsample", design.downs[stage]
                tokens = self._conv(f"{layer}.reduction", self._norm(f"{layer}.norm", F.gelu(tokens)), stride, padding)
        tokens, levels = skips[3], []
        for stage in (2, 1, 0):
            tokens = self._decode(stage, tokens, skips[stage])
            levels.append(tokens)
        return [self._head(level, tokens) for level, tokens in enumerate(levels[::-1][: design.outputs])]

    def _embed(self, image: Tensor) -> Tensor:
        name = "model_down.patch_embed"
        first, second = self.design.embed_strides
        tokens = F.gelu(self._conv(f"{name}.proj1.conv1", image.movedim(1, -1), first, _cube(1)))
        tokens = F.gelu(
            self._conv(f"{name}.proj1.conv2", self._norm(f"{name}.proj1.norm1", tokens), _cube(1), _cube(1))
        )
        tokens = self._norm(f"{name}.proj1.norm2", tokens)
        tokens = F.gelu(self._conv(f"{name}.proj2.conv1", tokens, second, _cube(1)))
        tokens = self._conv(f"{name}.proj2.conv2", self._norm(f"{name}.proj2.norm1", tokens), _cube(1), _cube(1))
        return self._norm(f"{name}.norm", tokens)

    def _decode(self, stage: int, tokens: Tensor, skip: Tensor) -> Tensor:
        design, layer = self.design, f"decoder.layers.{stage}"
        _, stride, _, output_padding = design.downs[stage]
        tokens = self._norm(f"{layer}.Upsample.norm", tokens).movedim(-1, 1)
        weight, bias = self._weights(f"{layer}.Upsample.up")
        up = F.conv_transpose3d(tokens, weight, bias, stride, output_padding=output_padding).movedim(1, -1)
        window, heads = design.windows[stage], design.decoder_heads[stage]
        stream = self._block(f"{layer}.blocks.0", up + skip, window, heads, (0, 0, 0), skip=skip, up=up)
        return self._block(f"{layer}.blocks.1", stream, window, heads, self._shift(window, stream))

    @staticmethod
    def _shift(window: Triple, tokens: Tensor) -> Triple:
        if window == tuple(tokens.shape[1:4]) or min(tokens.shape[1:4]) <= min(window) == max(window):
            return 0, 0, 0
        return window[0] // 2, window[1] // 2, window[2] // 2

    def _block(
        self,
        name: str,
        stream: Tensor,
        window: Triple,
        heads: int,
        shift: Triple,
        *,
        skip: Tensor | None = None,
        up: Tensor | None = None,
    ) -> Tensor:
        if skip is None or up is None:
            normed = self._norm(f"{name}.norm1", stream)
            attended = self._attend(f"{name}.attn", normed, normed, window, heads, shift)
        else:
            keys = self._norm(f"{name}.norm1", skip)
            attended = self._attend(f"{name}.attn", self._norm(f"{name}.norm1", up), keys, window, heads, shift)
        stream = stream + attended
        hidden = F.gelu(F.linear(self._norm(f"{name}.norm2", stream), *self._weights(f"{name}.mlp.fc1")))
        return stream + F.linear(hidden, *self._weights(f"{name}.mlp.fc2"))

    def _attend(self, name: str, query: Tensor, keys: Tensor, window: Triple, heads: int, shift: Triple) -> Tensor:
        grid = query.shape[1:4]
        spare = [-g % w for g, w in zip(grid, window, strict=True)]
        query, keys = (F.pad(t, (0, 0, 0, spare[2], 0, spare[1], 0, spare[0])) for t in (query, keys))
        padded = query.shape[1:4]
        query, keys = (torch.roll(t, [-s for s in shift], (1, 2, 3)) for t in (query, keys))
        regions = torch.zeros(padded)
        if self.design.shift_mask and any(shift):
            for number, cut in enumerate(product(*map(self._regions, padded, window, shift))):
                regions[cut] = number
        result = torch.empty_like(query)
        for corner in product(*[range(0, p, w) for p, w in zip(padded, window, strict=True)]):
            box = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
            region = regions[box].reshape(-1)
            apart = (region[:, None] != region[None, :]) * -100.0
            for b in range(query.shape[0]):
                result[(b, *box)] = self._attend_in(name, query[(b, *box)], keys[(b, *box)], heads, apart)
        result = torch.roll(result, list(shift), (1, 2, 3))
        return result[:, : grid[0], : grid[1], : grid[2]]

    @staticmethod
    def _regions(padded: int, window: int, shift: int) -> list[slice]:
        return [slice(0, padded - window), slice(padded - window, padded - shift), slice(padded - shift, padded)]

    def _attend_in(self, name: str, query: Tensor, keys: Tensor, heads: int, apart: Tensor) -> Tensor:
        """One window: query, keys (d, h, w, C); `apart` (L, L) is added to the scores."""
        shape, channels = query.shape, query.shape[-1]
        query, keys = query.reshape(-1, channels), keys.reshape(-1, channels)
        if f"{name}.kv.weight" in self.tensors:
            k, v = F.linear(keys, *self._weights(f"{name}.kv")).chunk(2, dim=-1)
        else:
            query, k, v = F.linear(keys, *self._weights(f"{name}.qkv")).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(0, 1) for t in (query, k, v))
        table = self.tensors[f"{name}.relative_position_bias_table"]
        bias = table[self.tensors[f"{name}.relative_position_index"]].permute(2, 0, 1)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias + apart
        mixed = (scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1)
        return F.linear(mixed, *self._weights(f"{name}.proj")).reshape(shape)

    def _head(self, level: int, tokens: Tensor) -> Tensor:
        weight, bias = self._weights(f"final.{level}.up")
        return F.conv_transpose3d(tokens.movedim(-1, 1), weight, bias, self.design.patch)

    def _conv(self, name: str, tokens: Tensor, stride: Triple, padding: Triple) -> Tensor:
        return F.conv3d(tokens.movedim(-1, 1), *self._weights(name), stride, padding).movedim(1, -1)

    def _norm(self, name: str, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], *self._weights(name))

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
