"""Attention of many small windows, with a bias that all of them share: the fastest way for where it runs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """q, k, v (B * windows, heads, L, head dim); `bias` (1, heads, L, L) and `mask` (windows, 1, L, L), both added to
    the scores -> (B * windows, heads, L, head dim)."""
    q = q.to(k.dtype)  # skip attention's query was not projected, so autocast has not made it what keys are
    additive = (bias if mask is None else bias + mask).to(q.dtype)
    if torch.compiler.is_compiling() or q.device.type != "cpu":
        return _scaled_dot_product(q, k, v, additive)
    if torch.is_grad_enabled() and (q.requires_grad or bias.requires_grad):
        with torch.autocast("cpu", enabled=False):
            attended: Tensor = _Attention.apply(q, k, v, bias, additive)
        return attended
    # The kernel reads one mask per sequence: given image by image, no copy of it has to be made for each.
    if mask is None or len(mask) == len(q):
        return _scaled_dot_product(q, k, v, additive)
    images = zip(q.split(len(mask)), k.split(len(mask)), v.split(len(mask)), strict=True)
    return torch.cat([_scaled_dot_product(*image, additive) for image in images])


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, additive: Tensor) -> Tensor:
    if len(additive) not in (1, len(q)):
        additive = additive.repeat(len(q) // len(additive), 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=additive)


class _Attention(torch.autograd.Function):
    """Scores, softmax and mixture with a gradient for the bias, on a CPU. The library's own way to train with a bias
    scales q and k in copies, looks for rows without any key, and computes bf16 in fp32."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, additive: Tensor) -> Tensor:
        count, heads, length, dim = q.shape
        q, k, v = (part.reshape(count * heads, length, dim) for part in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, *additive.shape)
        torch.add(additive, scores, alpha=dim**-0.5, out=scores)
        weights = scores.view(count * heads, length, length).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.bias_shape, ctx.bias_dtype = bias.shape, bias.dtype
        return torch.bmm(weights, v).view(count, heads, length, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        count, heads, length, dim = gradient.shape
        gradient = gradient.reshape(count * heads, length, dim)
        of_weights = torch.bmm(gradient, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_bias = of_scores.view(count, *ctx.bias_shape[1:]).sum(0, keepdim=True, dtype=ctx.bias_dtype)
        scale, shape = dim**-0.5, (count, heads, length, dim)
        of_q = torch.bmm(of_scores, k).mul_(scale).view(shape)
        of_k = torch.bmm(of_scores.transpose(1, 2), q).mul_(scale).view(shape)
        of_v = torch.bmm(weights.transpose(1, 2), gradient).view(shape)
        return of_q, of_k, of_v, of_bias, None
