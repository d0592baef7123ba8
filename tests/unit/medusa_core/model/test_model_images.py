"""Upsampling predictions: one function, whichever way its gradient is computed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medusa_core.losses.cross_entropy import CLASSES_LAST
from medusa_core.model.upsampling import FEW_CHANNELS, upsample

SIZES = [((4, 6), (16, 24)), ((5, 3), (7, 11)), ((1, 8), (9, 8)), ((8, 9), (4, 3))]


@pytest.mark.parametrize("channels", [1, 3, FEW_CHANNELS])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_upsampling_is_bilinear_and_so_is_its_gradient(
    channels: int, layout: torch.memory_format, old: tuple[int, int], new: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    raw = torch.randn(2, channels, *old, dtype=torch.double).to(memory_format=layout)
    raw.requires_grad_()
    plain = raw.detach().clone().requires_grad_()
    expected = F.interpolate(plain, size=new, mode="bilinear", align_corners=False)
    found = upsample(raw, new)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(raw.grad, plain.grad)


def test_nothing_is_done_where_the_size_agrees() -> None:
    raw = torch.randn(1, 1, 4, 6, requires_grad=True)
    assert upsample(raw, (4, 6)) is raw


@pytest.mark.parametrize("channels", [15, CLASSES_LAST])
@pytest.mark.parametrize("cells", [(8, 12), (16, 24)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_at_a_stride_lies_as_the_prediction_does(
    layout: torch.memory_format, cells: tuple[int, int], channels: int
) -> None:
    torch.manual_seed(0)
    raw = torch.randn(2, channels, *cells).to(memory_format=layout).requires_grad_()
    weights = torch.randn(2, channels, 16, 24)
    [found] = torch.autograd.grad((upsample(raw, (32, 48), 2) * weights).sum(), raw)
    whole = upsample(raw, (32, 48))[..., ::2, ::2]
    [expected] = torch.autograd.grad((whole * weights).sum(), raw)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3, 15, CLASSES_LAST])
def test_what_lags_behind_cells_is_every_stride_th_pixel(stride: int, channels: int) -> None:
    """Values and gradients of predictions with a cell for each pixel that is kept."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(2, channels, 32 // stride, 64 // stride, generator=generator).double()
    raw = raw.to(memory_format=torch.channels_last)
    found, naive = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    kept = upsample(found, (32, 64), stride)
    whole = F.interpolate(naive, size=(32, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(kept, whole[..., ::stride, ::stride])
    weight = torch.rand(kept.shape, generator=generator).double()
    (kept * weight).sum().backward()
    (whole[..., ::stride, ::stride] * weight).sum().backward()
    torch.testing.assert_close(found.grad, naive.grad)
