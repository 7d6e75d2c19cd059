"""Cutting a token grid into (shifted) windows and back, and the masks that keep the pieces apart."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .cpu_kernels import Cut, Triple, cut_windows, join_windows


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
        key = (self.grid, self.window, self.shift, padding, shift, device)
        if torch.compiler.is_compiling():  # a cached tensor would be a tracer's fake one
            return _build_mask(*key)
        return _cached_mask(*key)


#: Large enough to silence a pair, small enough to stay finite in fp16.
_FORBIDDEN = -1e4


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _cached_mask(
    grid: Triple, window: Triple, shift: Triple, padding: bool, separate_shift: bool, device: torch.device
) -> Tensor:
    return _build_mask(grid, window, shift, padding, separate_shift, device)


def _build_mask(
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
