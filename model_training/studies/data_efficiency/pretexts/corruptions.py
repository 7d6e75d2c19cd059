"""Ways to spoil an image (C, D, H, W) that leave anatomy recognisable. Random choices are made on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from MAESegmentLib.networks.masking import join_units, split_units

#: Points at which a Bézier curve is evaluated; grey values in between are interpolated.
_CURVE_POINTS = 256


def draw(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One uniform number."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def draw_whole(generator: torch.Generator, low: int, high: int) -> int:
    """One whole number from `low` to `high`, both included."""
    return int(torch.randint(low, max(low, high) + 1, (), generator=generator))


def bend_intensities(image: Tensor, generator: torch.Generator) -> Tensor:
    """Grey values through a random monotonous cubic Bézier curve from range to range, reversed half of the time.

    With control points inside the unit square both coordinates rise all along the curve, so values stay distinct.
    """
    inner = torch.rand(2, 2, generator=generator)
    ends = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    t = torch.linspace(0, 1, _CURVE_POINTS)[:, None]
    curve = 3 * (1 - t) ** 2 * t * inner[0] + 3 * (1 - t) * t**2 * inner[1] + t**3 * ends[1]
    x, y = curve.to(image.device).unbind(1)
    if draw(generator) < 0.5:
        y = 1 - y
    low, scale = _range(image)
    value = ((image - low) / scale).contiguous()
    right = torch.searchsorted(x.contiguous(), value).clamp(1, _CURVE_POINTS - 1)
    share = ((value - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-6)).clamp(0, 1)
    return low + scale * torch.lerp(y[right - 1], y[right], share)


def shuffle_locally(image: Tensor, generator: torch.Generator, largest: float = 0.1) -> Tensor:
    """The voxels inside small windows in random order; the windows cover the image from a random start on.

    A window's edges are at most `largest` of the image's.
    """
    size = image.shape[1:]
    window = tuple(draw_whole(generator, 1, max(2, int(largest * s))) for s in size)
    first = [draw_whole(generator, 0, min(w, s) - 1) for w, s in zip(window, size, strict=True)]
    spans = [(f, f + (s - f) // w * w) for f, s, w in zip(first, size, window, strict=True)]
    if any(begin == end for begin, end in spans):
        return image
    d, h, w = (slice(begin, end) for begin, end in spans)
    inner = image[None, :, d, h, w]
    units = split_units(inner.contiguous(), (window[0], window[1], window[2]))
    order = torch.rand(units.shape[2:], generator=generator).argsort(dim=-1).to(image.device)
    units = units.gather(-1, order.expand(1, image.shape[0], *order.shape))
    inner_size = (spans[0][1] - spans[0][0], spans[1][1] - spans[1][0], spans[2][1] - spans[2][0])
    shuffled = image.clone()
    shuffled[:, d, h, w] = join_units(units, (window[0], window[1], window[2]), inner_size)[0]
    return shuffled


def noise_like(image: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise over the range of grey values of `image`."""
    low, scale = _range(image)
    return low + scale * torch.rand(image.shape, generator=generator).to(image)


def boxes(size: Sequence[int], edges: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    """bool (D, H, W), true inside `count` boxes whose edges are a random part of the image's from the range `edges`."""
    inside = torch.zeros(tuple(size), dtype=torch.bool)
    for _ in range(count):
        inside[_box(size, edges, generator)] = True
    return inside


def boxes_of_share(size: Sequence[int], edges: tuple[float, float], share: float, generator: torch.Generator) -> Tensor:
    """bool (D, H, W), boxes until they cover at least `share` of the image."""
    inside = torch.zeros(tuple(size), dtype=torch.bool)
    while float(inside.float().mean()) < share:
        inside[_box(size, edges, generator)] = True
    return inside


def _box(size: Sequence[int], edges: tuple[float, float], generator: torch.Generator) -> tuple[slice, slice, slice]:
    spans = []
    for s in size:
        length = min(s, max(1, round(s * draw(generator, *edges))))
        first = draw_whole(generator, 0, s - length)
        spans.append(slice(first, first + length))
    return spans[0], spans[1], spans[2]


def _range(image: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest value and width of the range of each channel, (C, 1, 1, 1)."""
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return low, (high - low).clamp(min=1e-6)
