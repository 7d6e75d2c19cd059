"""Configuration of nnFormer and its masked autoencoder: frozen values, validated when made, written into bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..errors import ConfigurationError
from ..values import check_known

Triple = tuple[int, int, int]


def _triple(value: Sequence[int] | int, name: str, minimum: int = 1) -> Triple:
    values = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != 3 or min(values) < minimum:
        raise ConfigurationError(f"{name} is {value!r}; three whole numbers >= {minimum} are needed (one per axis).")
    return values[0], values[1], values[2]


@dataclass(frozen=True)
class NnFormerConfig:
    """Architecture of one nnFormer (arXiv 2109.03201); every per-axis value is in (D, H, W) order.

    A network has `len(depths)` encoder stages; stage s works at `embed_dim * 2**s` channels. `embed_strides` are the
    strides of the two convolution pairs of the embedding; their product is the size in voxels of one token.
    """

    in_channels: int
    out_channels: int
    crop_size: Triple
    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    embed_strides: tuple[Triple, Triple]
    windows: tuple[Triple, ...]
    down_strides: tuple[Triple, ...]
    #: Stages whose window covers the whole token grid, without shift (GV-MSA).
    global_stages: tuple[bool, ...]
    #: Padding of each down-sampling convolution; by default 1 along strided axes, which halves rounding up.
    down_paddings: tuple[Triple, ...] = ()
    #: By default those of the encoder's stages but the last.
    decoder_depths: tuple[int, ...] = ()
    decoder_heads: tuple[int, ...] = ()
    mlp_ratio: float = 4.0
    drop_path: float = 0.2
    deep_supervision: bool = False
    #: Channels of a convolutional head at full resolution beside that of the tokens, which nnFormer has not; 0: none.
    detail_channels: int = 0
    #: The official code lets tokens attend to padding, and its ACDC variant across the shift's wrap-around.
    mask_padding: bool = True
    mask_shift: bool = True

    def __post_init__(self) -> None:
        def assign(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        assign("crop_size", _triple(self.crop_size, "crop_size"))
        for name in ("embed_strides", "windows", "down_strides"):
            assign(name, tuple(_triple(each, name) for each in getattr(self, name)))
        assign("depths", tuple(self.depths))
        assign("heads", tuple(self.heads))
        assign("global_stages", tuple(bool(g) for g in self.global_stages))
        paddings = self.down_paddings or [[int(s > 1) for s in stride] for stride in self.down_strides]
        assign("down_paddings", tuple(_triple(p, "down_paddings", minimum=0) for p in paddings))
        assign("decoder_depths", tuple(self.decoder_depths or self.depths[:-1]))
        assign("decoder_heads", tuple(self.decoder_heads or self.heads[:-1]))
        self._validate()

    def _validate(self) -> None:
        stages = len(self.depths)
        if stages < 2:
            raise ConfigurationError("nnFormer needs at least two stages (two depths).")
        for name, expected in (
            ("heads", stages),
            ("windows", stages),
            ("global_stages", stages),
            ("down_strides", stages - 1),
            ("down_paddings", stages - 1),
            ("decoder_depths", stages - 1),
            ("decoder_heads", stages - 1),
        ):
            if len(getattr(self, name)) != expected:
                raise ConfigurationError(
                    f"{name} has {len(getattr(self, name))} entries; {expected} are needed for {stages} stages."
                )
        if len(self.embed_strides) != 2:
            raise ConfigurationError("embed_strides needs two entries, one per convolution pair.")
        if min(self.in_channels, self.out_channels, self.embed_dim, *self.depths, *self.decoder_depths) < 1:
            raise ConfigurationError("Channels and depths must be at least 1.")
        if self.detail_channels < 0:
            raise ConfigurationError(f"detail_channels is {self.detail_channels}; it must be 0 (none) or more.")
        if self.embed_dim % 2:
            raise ConfigurationError(f"embed_dim is {self.embed_dim}; it must be even.")
        for stage, dim in enumerate(self.dims):
            for heads in (self.heads[stage], *([self.decoder_heads[stage]] if stage < stages - 1 else [])):
                if heads < 1 or dim % heads:
                    raise ConfigurationError(f"Stage {stage} has {dim} channels, which {heads} heads do not divide.")
        if not 0 <= self.drop_path < 1:
            raise ConfigurationError(f"drop_path is {self.drop_path}; it must be in [0, 1).")
        if any(s > 2 for stride in self.down_strides for s in stride):
            raise ConfigurationError("down_strides may be 1 or 2 along each axis.")
        for stride, padding in zip(self.down_strides, self.down_paddings, strict=True):
            if any(p > int(s > 1) for s, p in zip(stride, padding, strict=True)):
                raise ConfigurationError("down_paddings may be 1 along strided axes; elsewhere they are 0.")

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each encoder stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    @property
    def token_size(self) -> Triple:
        """Voxels covered by one token of stage 0, (d, h, w)."""
        first, second = self.embed_strides
        return first[0] * second[0], first[1] * second[1], first[2] * second[2]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back. A detail head is named if there is one: versions before know none."""
        data = asdict(self)
        if not self.detail_channels:
            del data["detail_channels"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NnFormerConfig:
        check_known(cls, data, "network settings")
        return cls(**data)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> NnFormerConfig:
        """A published configuration (`synapse`, `acdc`, `brats`) or `small`, which trains on two CPU cores."""
        if name not in _PRESETS:
            raise ConfigurationError(f"No network preset {name!r}.", f"Presets: {', '.join(_PRESETS)}.")
        return replace(cls(**_PRESETS[name]), **changes)


_PRESETS: dict[str, dict[str, Any]] = {
    "synapse": {
        "in_channels": 1,
        "out_channels": 14,
        "crop_size": (64, 128, 128),
        "embed_dim": 192,
        "depths": (2, 2, 2, 2),
        "heads": (6, 12, 24, 48),
        "embed_strides": ((2, 2, 2), (1, 2, 2)),
        "windows": (4, 4, 8, 4),
        "down_strides": (2, 2, 2),
        "global_stages": (False, False, True, True),
        "deep_supervision": True,
    },
    "acdc": {
        "in_channels": 1,
        "out_channels": 4,
        "crop_size": (14, 160, 160),
        "embed_dim": 96,
        "depths": (2, 2, 2, 2),
        "heads": (3, 6, 12, 24),
        "embed_strides": ((1, 2, 2), (1, 2, 2)),
        "windows": ((3, 5, 5), (3, 5, 5), (7, 10, 10), (3, 5, 5)),
        "down_strides": ((1, 2, 2), 2, 2),
        "down_paddings": ((0, 1, 1), 1, (0, 1, 1)),
        "global_stages": (False, False, True, True),
    },
    "brats": {
        "in_channels": 4,
        "out_channels": 4,
        "crop_size": (128, 128, 128),
        "embed_dim": 96,
        "depths": (2, 2, 2, 2),
        "heads": (3, 6, 12, 24),
        "decoder_heads": (6, 12, 24),
        "embed_strides": (2, 2),
        "windows": (4, 4, 8, 4),
        "down_strides": (2, 2, 2),
        "global_stages": (False, False, True, True),
    },
    "small": {
        "in_channels": 1,
        "out_channels": 2,
        "crop_size": (40, 56, 40),
        "embed_dim": 32,
        "depths": (2, 2, 2),
        "heads": (1, 2, 4),
        "embed_strides": (2, 1),
        "windows": (4, 4, (5, 7, 5)),
        "down_strides": (2, 2),
        "global_stages": (False, False, True),
        "deep_supervision": True,
        "drop_path": 0.1,
    },
}


@dataclass(frozen=True)
class MaeConfig:
    """A masked autoencoder (arXiv 2111.06377) around an nnFormer encoder.

    `unit` is the size of one masked unit in voxels (d, h, w), a multiple of the encoder's token size. `mask_ratio` is
    fixed, or a range sampled for every image. `normalise_target` standardises each unit of the target. `encoding`
    "visible" encodes visible units only, each apart in the first `packed_stages`.
    """

    encoder: NnFormerConfig
    unit: Triple = (8, 8, 8)
    mask_ratio: float | tuple[float, float] = 0.7
    normalise_target: bool = False
    decoder_dim: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 2
    encoding: Literal["dense", "visible"] = "dense"

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", _triple(self.unit, "unit"))
        if not isinstance(self.mask_ratio, (int, float)):
            low, high = self.mask_ratio
            object.__setattr__(self, "mask_ratio", (float(low), float(high)))
        low, high = self.ratio_range
        if not 0 < low <= high < 1:
            raise ConfigurationError(f"mask_ratio is {self.mask_ratio}; it must lie between 0 and 1, exclusive.")
        if any(u % t for u, t in zip(self.unit, self.encoder.token_size, strict=True)):
            raise ConfigurationError(
                f"The mask unit {self.unit} is not a multiple of the token size {self.encoder.token_size}."
            )
        if self.decoder_dim % self.decoder_heads:
            raise ConfigurationError(f"decoder_dim {self.decoder_dim} is not divisible by {self.decoder_heads} heads.")
        if self.encoding not in ("dense", "visible"):
            raise ConfigurationError(f'encoding is {self.encoding!r}; it must be "dense" or "visible".')
        if self.encoding == "visible" and self.packed_stages == 0:
            self._refuse_packing()

    def _refuse_packing(self) -> None:
        if self.encoder.global_stages[0]:
            raise ConfigurationError(
                "Only visible units can be encoded where the first stage is local; here it is global.",
                'Set encoding to "dense".',
            )
        cell = tuple(t * s for t, s in zip(self.encoder.token_size, self.encoder.down_strides[0], strict=True))
        raise ConfigurationError(
            f"To encode visible units only, the mask unit {self.unit} must be a multiple of {cell}, the voxels of one "
            "token of the second stage.",
            f'Set unit to {cell}, or encoding to "dense".',
        )

    @property
    def packed_stages(self) -> int:
        """Stages that can run inside single units: before the first global one and the last, of whole cells a unit."""
        encoder, cell = self.encoder, self.encoder.token_size
        for stage, stride in enumerate(encoder.down_strides):
            cell = (cell[0] * stride[0], cell[1] * stride[1], cell[2] * stride[2])
            if encoder.global_stages[stage] or any(u % c for u, c in zip(self.unit, cell, strict=True)):
                return stage
        return len(encoder.down_strides)

    @property
    def ratio_range(self) -> tuple[float, float]:
        ratio = self.mask_ratio
        return ratio if isinstance(ratio, tuple) else (float(ratio), float(ratio))

    @staticmethod
    def unit_from_mm(size_mm: float, spacing: Sequence[float], token_size: Triple) -> Triple:
        """The unit nearest to a cube of `size_mm` (mm) on a grid of `spacing` (mm), in whole tokens along each axis."""
        units = [t * max(1, round(size_mm / (s * t))) for s, t in zip(spacing, token_size, strict=True)]
        return units[0], units[1], units[2]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back. A dense encoding is not named: versions before know no other."""
        data = asdict(self)
        if self.encoding == "dense":
            del data["encoding"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MaeConfig:
        check_known(cls, data, "autoencoder settings")
        return cls(**{**data, "encoder": NnFormerConfig.from_dict(data["encoder"])})
