"""What makes the networks fast on a CPU, each beside the plain form that tests compare it with.

While a graph is compiled, the plain form runs: the compiler fuses it. So it does on other devices where that is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]

P = ParamSpec("P")
R = TypeVar("R")


def kept_per_device(build: Callable[P, R]) -> Callable[P, R]:
    """`build`, whose results are kept; not while a graph is compiled: a cached tensor would be a tracer's fake one."""
    # Not in inference mode: they are saved for backward by whoever trains after an inference.
    kept = lru_cache(maxsize=64)(torch.inference_mode(False)(build))

    @wraps(build)
    def built(*key: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return build(*key, **named)
        return kept(*key, **named)  # type: ignore[arg-type]

    return built


# ---------------------------------------------------------------------------------------------- some rows at a time

#: Numbers that one step on tokens may write before the next reads them: few enough to be found in the cache, and enough
#: that it does not matter that each product brings its weights into order first (2 ** 18 and 2 ** 40 were slower).
CACHED_NUMBERS = 2**20


def is_worked_on_whole(tokens: Tensor) -> bool:
    """Whether steps on tokens each see all of them: not on a CPU without gradients, where nothing has to be kept."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or tokens.device.type != "cpu"


def by_rows(steps: Callable[[Tensor], Tensor], tokens: Tensor, width: int) -> Tensor:
    """`steps` on tokens (..., C), each by itself; `width` is how many numbers a token has between the steps.

    On a CPU without gradients some rows at a time: what lies between the steps then never leaves the cache.
    """
    rows = max(1, CACHED_NUMBERS // width)
    if is_worked_on_whole(tokens) or tokens.numel() <= rows * tokens.shape[-1]:
        return steps(tokens)
    parts = [steps(part) for part in tokens.flatten(0, -2).split(rows)]
    return torch.cat(parts).unflatten(0, tokens.shape[:-1])


def in_parts(
    attention: Callable[[Tensor, Tensor | None, Tensor, Tensor | None], Tensor],
    windows: Tensor,
    query: Tensor | None,
    bias: Tensor,
    mask: Tensor | None,
    numbers: int,
) -> Tensor:
    """`attention` of windows and `query` (B * windows, L, C), each window by itself; `numbers` are kept of each.

    On a CPU without gradients some windows at a time, with their part of `mask`, which is one for all images.
    """
    if is_worked_on_whole(windows):
        return attention(windows, query, bias, mask)
    attended = torch.empty_like(windows)
    most = max(1, CACHED_NUMBERS // numbers)
    of_image = len(windows) if mask is None else len(mask)
    for first in range(0, of_image, most):
        last = min(first + most, of_image)
        its_mask = None if mask is None else mask[first:last]
        for image in range(0, len(windows), of_image):
            part = slice(image + first, image + last)
            its_query = None if query is None else query[part]
            attended[part] = attention(windows[part], its_query, bias, its_mask)
    return attended


# ------------------------------------------------------------------------------------------------ attention of windows


def attend(projected: Tensor, query: Tensor | None, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of many small windows, with a bias that all of them share: the fastest way for where it runs.

    `projected` (B * windows, L, 3, heads, head dim), which holds queries, keys and values, or keys and values where
    there is a `query` (B * windows, L, heads, head dim) -> (B * windows, L, heads, head dim).

    `bias` (1, heads, L, L) and `mask` (windows, 1, L, L) are added to the scores.
    """
    if query is not None:
        query = query.to(projected.dtype)  # it was not projected, so autocast has not made it what keys are
    additive = (bias if mask is None else bias + mask).to(projected.dtype)
    fused = torch.compiler.is_compiling() or projected.device.type != "cpu"
    if not fused and torch.is_grad_enabled() and (projected.requires_grad or bias.requires_grad):
        with torch.autocast("cpu", enabled=False):
            attended: Tensor = _Attention.apply(projected, query, bias, additive)
        return attended
    return plain_attend(projected, query, additive)


def plain_attend(projected: Tensor, query: Tensor | None, additive: Tensor) -> Tensor:
    """`attend` by the library, with bias and mask together in `additive` (1 or windows, heads, L, L)."""
    parts = list(projected.permute(2, 0, 3, 1, 4).unbind())  # each (B * windows, heads, L, head dim)
    if query is not None:
        parts.insert(0, query.transpose(1, 2))
    q, k, v = parts
    if len(additive) not in (1, len(q)):
        additive = additive.repeat(len(q) // len(additive), 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=additive).transpose(1, 2)


class _Attention(torch.autograd.Function):
    """Scores, softmax and mixture with a gradient for the bias, on a CPU. The library's own way to train with a bias
    scales q and k in copies, looks for rows without any key, and computes bf16 in fp32."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, query: Tensor | None, bias: Tensor, additive: Tensor) -> Tensor:
        count, length, kinds, heads, dim = projected.shape
        parts = list(projected.permute(2, 0, 3, 1, 4).reshape(kinds, count * heads, length, dim))
        if query is not None:
            parts.insert(0, query.transpose(1, 2).reshape(count * heads, length, dim))
        q, k, v = parts
        scores = additive.new_empty(count * heads, length, length)
        scores.view(-1, *additive.shape).copy_(additive)
        weights = torch.baddbmm(scores, q, k.transpose(1, 2), alpha=dim**-0.5, out=scores).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.kinds, ctx.bias_shape, ctx.bias_dtype = kinds, bias.shape, bias.dtype
        return torch.bmm(weights, v).view(count, heads, length, dim).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        count, length, heads, dim = gradient.shape
        gradient = gradient.transpose(1, 2).reshape(count * heads, length, dim)
        of_weights = torch.bmm(gradient, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_bias = of_scores.view(count, *ctx.bias_shape[1:]).sum(0, keepdim=True, dtype=ctx.bias_dtype)
        # Written side by side, as `projected` holds them, so that they need not be put together.
        of_parts = gradient.new_empty(3, *gradient.shape)
        for part, left, right in ((of_parts[0], of_scores, k), (of_parts[1], of_scores.transpose(1, 2), q)):
            torch.baddbmm(part, left, right, beta=0, alpha=dim**-0.5, out=part)  # beta 0: what is there does not count
        torch.bmm(weights.transpose(1, 2), gradient, out=of_parts[2])
        of_parts = of_parts.view(3, count, heads, length, dim)
        of_query = of_parts[0].transpose(1, 2) if ctx.kinds == 2 else None
        return of_parts[3 - ctx.kinds :].permute(1, 3, 0, 2, 4), of_query, of_bias, None


# ------------------------------------------------------------------------------------------------- a grid into windows


class Cut(NamedTuple):
    """A grid of tokens, the windows it is cut into, and by how many tokens these are shifted."""

    grid: Triple
    window: Triple
    shift: Triple

    @property
    def padded(self) -> Triple:
        """The grid as it is covered by whole windows."""
        d, h, w = (-(-g // w) * w for w, g in zip(self.window, self.grid, strict=True))
        return d, h, w


def cut_windows(tokens: Tensor, cut: Cut) -> Tensor:
    """(B, D, H, W, C) -> (B, windows * L, C); the grid is padded with zeros on the far side."""
    if torch.compiler.is_compiling():  # a compiler fuses the steps, and would keep a cached tensor as a fake one
        return plain_cut(tokens, cut)
    order = _order(cut, tokens.device)
    windows: Tensor = _Gather.apply(tokens.flatten(1, 3), order.place, order.source, order.padding, None)
    return windows


def join_windows(windows: Tensor, cut: Cut) -> Tensor:
    """(B * windows, L, C) -> (B, D, H, W, C): the inverse."""
    if torch.compiler.is_compiling():
        return plain_join(windows, cut)
    order = _order(cut, windows.device)
    packed = windows.reshape(-1, len(order.place), windows.shape[-1])
    tokens: Tensor = _Gather.apply(packed, order.source, order.place, None, order.padding)
    return tokens.unflatten(1, cut.grid)


def plain_cut(tokens: Tensor, cut: Cut) -> Tensor:
    """(B, D, H, W, C) -> (B, windows, L, C), step by step."""
    batch, channels = tokens.shape[0], tokens.shape[-1]
    if cut.padded != cut.grid:
        d, h, w = (p - g for p, g in zip(cut.padded, cut.grid, strict=True))
        tokens = F.pad(tokens, (0, 0, 0, w, 0, h, 0, d))
    if any(cut.shift):
        tokens = torch.roll(tokens, shifts=[-s for s in cut.shift], dims=(1, 2, 3))
    (pd, ph, pw), (d, h, w) = cut.padded, cut.window
    tokens = tokens.view(batch, pd // d, d, ph // h, h, pw // w, w, channels)
    return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, -1, d * h * w, channels)


def plain_join(windows: Tensor, cut: Cut) -> Tensor:
    """(B * windows, L, C) -> (B, D, H, W, C), step by step."""
    (pd, ph, pw), (d, h, w) = cut.padded, cut.window
    channels = windows.shape[-1]
    tokens = windows.view(-1, pd // d, ph // h, pw // w, d, h, w, channels)
    tokens = tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, pd, ph, pw, channels)
    if any(cut.shift):
        tokens = torch.roll(tokens, shifts=cut.shift, dims=(1, 2, 3))
    return tokens[:, : cut.grid[0], : cut.grid[1], : cut.grid[2]]


class _Order(NamedTuple):
    """Where each token of a grid goes. `place` (windows * L,): the token at that place of the windows; `source`
    (tokens,): the place of each token; `padding`: the places that no token fills, or None."""

    place: Tensor
    source: Tensor
    padding: Tensor | None


@kept_per_device
def _order(cut: Cut, device: torch.device) -> _Order:
    count = cut.grid[0] * cut.grid[1] * cut.grid[2]
    number = torch.arange(1, count + 1, device=device).view(1, *cut.grid, 1)
    place = plain_cut(number, cut).flatten() - 1  # -1 where the grid was padded
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


# ----------------------------------------------------------------------------------------- convolutions of few tokens


def strided_conv(volume: Tensor, conv: nn.Conv3d, padding: Triple) -> Tensor:
    """`conv` of a volume (B, C, D, H, W), seen as channels-last -> (B, C', D', H', W')."""
    sizes = [
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(volume.shape[2:], padding, conv.kernel_size, conv.stride, strict=True)
    ]
    few = len(volume) * sizes[0] * sizes[1] * sizes[2] <= len(conv.weight) / 8
    if few and volume.device.type == "cpu":
        return conv_as_product(volume, conv, padding)
    if conv.weight.numel() > volume.numel() / 2:
        # Given channels-last, the convolution would copy its weights into that order, which is more than its input.
        volume = volume.contiguous()
    result: Tensor = conv(volume)
    return result


def conv_as_product(volume: Tensor, conv: nn.Conv3d, padding: Triple) -> Tensor:
    """The convolution as one matrix product: it brings its weights, of which most of its work is to read where there
    are only a few tokens, into another order first."""
    d, h, w = padding
    volume = F.pad(volume, (w, w, h, h, d, d))
    for axis, (size, step) in enumerate(zip(conv.kernel_size, conv.stride, strict=True), start=2):
        volume = volume.unfold(axis, size, step)
    patches = volume.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4)  # (B, D', H', W', C * d * h * w)
    return F.linear(patches, conv.weight.flatten(1), conv.bias).permute(0, 4, 1, 2, 3)


def expand_tokens(tokens: Tensor, conv: nn.Module) -> Tensor:
    """What `conv`, whose kernel is its stride, makes of each token: (B, D, H, W, C) -> (B, D, H, W, K, d, h, w).

    A matrix product, faster on a CPU than the general transposed convolution.
    """
    assert isinstance(conv, nn.ConvTranspose3d)
    assert conv.bias is not None
    parts = conv.weight.shape[1:]
    bias = conv.bias.repeat_interleave(parts[1] * parts[2] * parts[3])
    return F.linear(tokens, conv.weight.flatten(1).T, bias).unflatten(-1, parts)


def to_voxels(tokens: Tensor, conv: nn.Module) -> Tensor:
    """The same as a volume (B, K, D * d, H * h, W * w)."""
    parts = expand_tokens(tokens, conv).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)
