"""Raw predictions at the size of the image, with gradients that cost what they must."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from medusa_core.losses.cross_entropy import CLASSES_LAST

FEW_CHANNELS = 8
"""Fewer lie side by side than a processor computes at once: each channel becomes a map then."""


def upsample(raw: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Bilinear resampling of a raw prediction; itself where the size agrees.

    With a `stride`: every stride-th row and column of the result; the others are not computed.
    """
    if tuple(raw.shape[-2:]) == tuple(size):
        return raw if stride == 1 else raw[..., ::stride, ::stride]
    if stride > 1:
        agrees = tuple(raw.shape[-2:]) == tuple(side / stride for side in size)
        maps: Tensor = _Laid.apply(raw)
        if not agrees or raw.shape[1] < CLASSES_LAST:
            maps = maps.contiguous()
        if agrees:
            lag = 0.5 - 0.5 / stride
            lagging: Tensor = _Lagging.apply(_Lagging.apply(maps, -1, lag), -2, lag)
            return lagging
        rows, columns = (
            _weights(old, new, raw)[:, ::stride]
            for old, new in zip(raw.shape[-2:], size, strict=True)
        )
        return rows.T @ (maps @ columns)
    if raw.requires_grad and raw.device.type == "cpu":
        if raw.shape[1] == 1:
            upsampled: Tensor = _Upsampled.apply(raw, size)
            return upsampled
        if raw.shape[1] < FEW_CHANNELS:
            raw = raw.contiguous()
    return _interpolated(raw, size)


def _interpolated(raw: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(raw, size=size, mode="bilinear", align_corners=False)


class _Laid(torch.autograd.Function):
    """Itself, with a gradient that lies as it does.

    Resampling to a smaller size takes three times as long, or for 40 classes seven times as long,
    with a gradient in the other layout.
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.last = raw.is_contiguous(memory_format=torch.channels_last)
        return raw.view_as(raw)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last) if ctx.last else gradient


class _Lagging(torch.autograd.Function):
    """Bilinear samples of maps along an axis, each `lag` of a cell before one; the first one as is.

    That is what upsampling by n keeps where every n-th sample is taken, with a lag of
    `1/2 - 1/(2 n)`. With the loss, eight images of 15 classes take 3.8 ms, by matrix products 9.4.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, dim: int, lag: float) -> Tensor:
        ctx.dim, ctx.lag, ctx.rest = dim, lag, maps.shape[dim] - 1
        found = maps * (1 - lag)
        found.narrow(dim, 1, ctx.rest).add_(maps.narrow(dim, 0, ctx.rest), alpha=lag)
        found.select(dim, 0).copy_(maps.select(dim, 0))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        found = gradient * (1 - ctx.lag)
        found.narrow(ctx.dim, 0, ctx.rest).add_(
            gradient.narrow(ctx.dim, 1, ctx.rest), alpha=ctx.lag
        )
        found.select(ctx.dim, 0).add_(gradient.select(ctx.dim, 0), alpha=ctx.lag)
        return found, None, None


class _Upsampled(torch.autograd.Function):
    """`upsample` with a gradient by two matrix products: a third of the time for one channel."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.size = raw.shape[-2:]
        return _interpolated(raw, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, columns = (
            _weights(old, new, gradient)
            for old, new in zip(ctx.size, gradient.shape[-2:], strict=True)
        )
        return rows @ (gradient @ columns.T), None


def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """`(old, new)`: how much each of `old` samples counts in each of `new` ones."""
    single = torch.eye(old, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(single, size=new, mode="linear", align_corners=False)[0]
