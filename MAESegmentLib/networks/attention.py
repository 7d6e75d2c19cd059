"""Window attention with relative position bias, and the transformer blocks of nnFormer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu_kernels import Cut, Triple, attend, by_rows, cut_windows, in_parts, join_windows, kept_per_device

#: Large enough to silence a pair, small enough to stay finite in fp16.
_FORBIDDEN = -1e4


class DropPath(nn.Module):
    """Stochastic depth: drops the residual branch of whole samples while training (arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        kept = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) < keep
        return x * (kept.to(x.dtype) / keep)


class RelativePositionBias(nn.Module):
    """One learned value per head and 3D offset inside a window; other window sizes use the same table."""

    def __init__(self, window: Triple, heads: int) -> None:
        super().__init__()
        self.window = window
        self.heads = heads
        self.table = nn.Parameter(torch.empty(int(np.prod([2 * w - 1 for w in window])), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, window: Triple) -> Tensor:
        """Bias (1, heads, L, L) for `window`; the table is interpolated where `window` is larger than its own."""
        table: Tensor = self.table
        size = self.window
        if any(w > s for w, s in zip(window, size, strict=True)):
            table, size = self._enlarged(window)
        index = offset_index(window, size, table.device)
        length = index.shape[0]
        return table[index.reshape(-1)].view(length, length, self.heads).permute(2, 0, 1).unsqueeze(0)

    def _enlarged(self, window: Triple) -> tuple[Tensor, Triple]:
        size: Triple = tuple(max(w, s) for w, s in zip(window, self.window, strict=True))  # type: ignore[assignment]
        volume = self.table.T.reshape(1, self.heads, *[2 * s - 1 for s in self.window])
        volume = F.interpolate(volume, size=[2 * s - 1 for s in size], mode="trilinear", align_corners=True)
        return volume.reshape(self.heads, -1).T, size


@kept_per_device
def offset_index(window: Triple, table_window: Triple, device: torch.device) -> Tensor:
    """(L, L) row of the table of `table_window` for each pair of tokens in `window`."""
    rows = torch.zeros((), dtype=torch.long, device=device)
    for axis, (size, table_size) in enumerate(zip(window, table_window, strict=True)):
        position = torch.arange(size, device=device)
        shape = [size if a == axis else 1 for a in range(3)]
        query, key = position.view(*shape, 1, 1, 1), position.view(1, 1, 1, *shape)
        rows = rows * (2 * table_size - 1) + (query - key + table_size - 1)
    length = window[0] * window[1] * window[2]
    return rows.reshape(length, length)


class WindowLayout:
    """How one attention layer cuts a grid: window clipped to the grid, no shift along axes that one window covers."""

    def __init__(self, grid: Triple, window: Triple, shifted: bool) -> None:
        size: Triple = tuple(min(w, g) for w, g in zip(window, grid, strict=True))  # type: ignore[assignment]
        shift: Triple = tuple(w // 2 if shifted and g > w else 0 for w, g in zip(size, grid, strict=True))  # type: ignore[assignment]
        self.cut = Cut(grid, size, shift)
        self.grid, self.window, self.shift, self.padded = grid, size, shift, self.cut.padded

    @property
    def length(self) -> int:
        """Tokens of a window, L."""
        return self.window[0] * self.window[1] * self.window[2]

    def partition(self, tokens: Tensor) -> Tensor:
        """(B, D, H, W, C) -> (B * windows, L, C); the grid is padded with zeros on the far side."""
        if self.window == self.grid:
            return tokens.flatten(1, 3)
        return cut_windows(tokens, self.cut).reshape(-1, self.length, tokens.shape[-1])

    def merge(self, windows: Tensor) -> Tensor:
        """(B * windows, L, C) -> (B, D, H, W, C): the inverse of `partition`."""
        if self.window == self.grid:
            return windows.unflatten(1, self.grid)
        return join_windows(windows, self.cut)

    def mask(self, device: torch.device, *, padding: bool, shift: bool) -> Tensor | None:
        """Additive mask (windows, 1, L, L), 0 or -inf-like, or None where every pair may attend."""
        if not (padding and self.padded != self.grid) and not (shift and any(self.shift)):
            return None
        return _mask(self.grid, self.window, self.shift, padding, shift, device)


@kept_per_device
def _mask(
    grid: Triple, window: Triple, shift: Triple, padding: bool, separate_shift: bool, device: torch.device
) -> Tensor:
    """Tokens may attend to each other when they were neighbours before the roll and none of them is padding."""
    label = torch.zeros((), dtype=torch.long, device=device)
    is_padding = torch.zeros((), dtype=torch.bool, device=device)
    for axis, (g, w, s) in enumerate(zip(grid, window, shift, strict=True)):
        padded = -(-g // w) * w
        position = (torch.arange(padded, device=device) + s) % padded  # where each rolled token came from
        position = position.view([padded if a == axis else 1 for a in range(3)])
        wrapped = (position < s) if separate_shift else torch.zeros_like(position, dtype=torch.bool)
        label = 2 * label + wrapped
        if padding:
            is_padding = is_padding | (position >= g)
    # A padded query attends to padding, so that its softmax stays defined; its result is cut off.
    label = torch.where(is_padding, -1, label)
    counts = [-(-g // w) for g, w in zip(grid, window, strict=True)]
    label = label.view(counts[0], window[0], counts[1], window[1], counts[2], window[2])
    label = label.permute(0, 2, 4, 1, 3, 5).reshape(-1, 1, window[0] * window[1] * window[2])
    same = label.unsqueeze(-1) == label.unsqueeze(-2)
    return torch.zeros_like(same, dtype=torch.float32).masked_fill(~same, _FORBIDDEN)


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, on tokens (B, D, H, W, C).

    Self-attention projects queries, keys and values from one stream. With `cross=True` (nnFormer's skip attention)
    keys and values come from the skip connection and the up-sampled stream itself is the query.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: Triple,
        *,
        shifted: bool,
        covers_grid: bool,
        cross: bool,
        mask_padding: bool,
        mask_shift: bool,
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.shifted, self.covers_grid, self.cross = shifted, covers_grid, cross
        self.mask_padding, self.mask_shift = mask_padding, mask_shift
        self.projection_in = nn.Linear(dim, 2 * dim if cross else 3 * dim)
        self.bias = RelativePositionBias(window, heads)
        self.projection_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, query: Tensor | None = None) -> Tensor:
        """tokens (B, D, H, W, C) -> (B, D, H, W, C); `query`, of the same shape, only with `cross=True`."""
        grid: Triple = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        layout = WindowLayout(grid, grid if self.covers_grid else self.window, self.shifted)
        windows = layout.partition(tokens)
        if self.cross:
            assert query is not None
            query = layout.partition(query)
        bias = self.bias(layout.window)
        mask = layout.mask(tokens.device, padding=self.mask_padding, shift=self.mask_shift)
        numbers = layout.length * self.projection_in.out_features
        return layout.merge(in_parts(self._within, windows, query, bias, mask, numbers))

    def _within(self, windows: Tensor, query: Tensor | None, bias: Tensor, mask: Tensor | None) -> Tensor:
        """windows and `query` (windows, L, C) -> (windows, L, C)."""
        head_dim = windows.shape[-1] // self.heads
        projected = self.projection_in(windows).unflatten(-1, (-1, self.heads, head_dim))
        if query is not None:
            query = query.unflatten(-1, (self.heads, head_dim))
        return self.projection_out(attend(projected, query, bias, mask).flatten(2))


class Mlp(nn.Sequential):
    def __init__(self, dim: int, ratio: float) -> None:
        self.hidden = int(dim * ratio)
        super().__init__(nn.Linear(dim, self.hidden), nn.GELU(), nn.Linear(self.hidden, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return by_rows(super().forward, tokens, self.hidden)


class Block(nn.Module):
    """Pre-norm transformer block on tokens (B, D, H, W, C)."""

    def __init__(self, attention: WindowAttention, dim: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, stream: Tensor, skip: Tensor | None = None, up: Tensor | None = None) -> Tensor:
        """Self-attention on `stream`; with `skip` and `up`, skip attention added to `stream`."""
        if skip is None:
            attended = self.attention(self.norm1(stream))
        else:
            assert up is not None
            attended = self.attention(self.norm1(skip), self.norm1(up))
        stream = stream + self.drop_path(attended)
        return stream + self.drop_path(self.mlp(self.norm2(stream)))
