"""Attention of many small windows, with a bias that all of them share: the fastest way for where it runs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(projected: Tensor, query: Tensor | None, bias: Tensor, mask: Tensor | None) -> Tensor:
    """`projected` (B * windows, L, 3, heads, head dim), which holds queries, keys and values, or keys and values where
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
