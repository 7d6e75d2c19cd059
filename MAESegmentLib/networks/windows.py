"""Cutting a token grid into (shifted) windows and back, and the masks that keep the pieces apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]


class WindowLayout:
    """How one attention layer cuts a grid: window clipped to the grid, no shift along axes that one window covers."""

    def __init__(self, grid: Triple, window: Triple, shifted: bool) -> None:
        self.grid = grid
        self.window: Triple = tuple(min(w, g) for w, g in zip(window, grid, strict=True))  # type: ignore[assignment]
        self.shift: Triple = tuple(  # type: ignore[assignment]
            w // 2 if shifted and g > w else 0 for w, g in zip(self.window, grid, strict=True)
        )
        self.padded: Triple = tuple(-(-g // w) * w for w, g in zip(self.window, grid, strict=True))  # type: ignore[assignment]

    @property
    def length(self) -> int:
        """Tokens of a window, L."""
        return self.window[0] * self.window[1] * self.window[2]

    def partition(self, tokens: Tensor) -> Tensor:
        """(B, D, H, W, C) -> (B * windows, L, C); the grid is padded with zeros on the far side."""
        if self.window == self.grid:
            return tokens.flatten(1, 3)
        if torch.compiler.is_compiling():  # a compiler fuses the steps, and would keep a cached tensor as a fake one
            return self._cut(tokens).reshape(-1, self.length, tokens.shape[-1])
        order = _cached_order(self.grid, self.window, self.shift, tokens.device)
        windows: Tensor = _Gather.apply(tokens.flatten(1, 3), order.place, order.source, order.padding, None)
        return windows.view(-1, self.length, tokens.shape[-1])

    def merge(self, windows: Tensor) -> Tensor:
        """(B * windows, L, C) -> (B, D, H, W, C): the inverse of `partition`."""
        if self.window == self.grid:
            return windows.unflatten(1, self.grid)
        if torch.compiler.is_compiling():
            return self._join(windows)
        order = _cached_order(self.grid, self.window, self.shift, windows.device)
        packed = windows.reshape(-1, len(order.place), windows.shape[-1])
        tokens: Tensor = _Gather.apply(packed, order.source, order.place, None, order.padding)
        return tokens.unflatten(1, self.grid)

    def _cut(self, tokens: Tensor) -> Tensor:
        """(B, D, H, W, C) -> (B, windows, L, C), step by step."""
        batch, channels = tokens.shape[0], tokens.shape[-1]
        if self.padded != self.grid:
            d, h, w = (p - g for p, g in zip(self.padded, self.grid, strict=True))
            tokens = F.pad(tokens, (0, 0, 0, w, 0, h, 0, d))
        if any(self.shift):
            tokens = torch.roll(tokens, shifts=[-s for s in self.shift], dims=(1, 2, 3))
        (pd, ph, pw), (d, h, w) = self.padded, self.window
        tokens = tokens.view(batch, pd // d, d, ph // h, h, pw // w, w, channels)
        return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, -1, d * h * w, channels)

    def _join(self, windows: Tensor) -> Tensor:
        """(B * windows, L, C) -> (B, D, H, W, C), step by step."""
        (pd, ph, pw), (d, h, w) = self.padded, self.window
        channels = windows.shape[-1]
        tokens = windows.view(-1, pd // d, ph // h, pw // w, d, h, w, channels)
        tokens = tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, pd, ph, pw, channels)
        if any(self.shift):
            tokens = torch.roll(tokens, shifts=self.shift, dims=(1, 2, 3))
        return tokens[:, : self.grid[0], : self.grid[1], : self.grid[2]]

    def mask(self, device: torch.device, *, padding: bool, shift: bool) -> Tensor | None:
        """Additive mask (windows, 1, L, L), 0 or -inf-like, or None where every pair may attend."""
        if not (padding and self.padded != self.grid) and not (shift and any(self.shift)):
            return None
        key = (self.grid, self.window, self.shift, padding, shift, device)
        if torch.compiler.is_compiling():  # a cached tensor would be a tracer's fake one
            return _build_mask(*key)
        return _cached_mask(*key)


@dataclass(frozen=True, eq=False)
class _Order:
    """Where each token of a grid goes. `place` (windows * L,): the token at that place of the windows; `source`
    (tokens,): the place of each token; `padding`: the places that no token fills, or None."""

    place: Tensor
    source: Tensor
    padding: Tensor | None


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the order is saved for backward by whoever trains after an inference
def _cached_order(grid: Triple, window: Triple, shift: Triple, device: torch.device) -> _Order:
    layout = WindowLayout(grid, window, any(shift))
    assert layout.shift == shift
    count = grid[0] * grid[1] * grid[2]
    number = torch.arange(1, count + 1, device=device).view(1, *grid, 1)
    place = layout._cut(number).flatten() - 1  # -1 where the grid was padded
    source = torch.empty(count, dtype=torch.long, device=device)
    source[place[place >= 0]] = (place >= 0).nonzero().flatten()
    padding = (place < 0).nonzero().flatten()
    return _Order(place.clamp(min=0), source, padding if len(padding) else None)


class _Gather(torch.autograd.Function):
    """Tokens (B, N, C) in another order: one copy, where pad, roll and permute take up to five; so does backward."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, index: Tensor, inverse: Tensor, holes: Tensor | None, holes_before: Tensor | None
    ) -> Tensor:
        """`holes`: places of the result that hold zeros; `holes_before`: places of `tokens` that are not taken."""
        ctx.save_for_backward(inverse, holes_before)
        return _take(tokens, index, holes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        inverse, holes = ctx.saved_tensors
        return _take(gradient, inverse, holes), None, None, None, None


def _take(tokens: Tensor, index: Tensor, holes: Tensor | None) -> Tensor:
    taken = tokens.index_select(1, index)
    return taken if holes is None else taken.index_fill_(1, holes, 0.0)


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
