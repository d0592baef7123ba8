"""The 1×1 convolution of heads is PyTorch's, whichever way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medusa_core.heads.blocks import Pointwise


@pytest.mark.parametrize("batch", [1, 2, 15, 16])
@pytest.mark.parametrize("shape", [(6, 5, 7), (33, 8, 10), (1, 1, 1), (4, 1, 9), (3, 40, 52)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_a_convolution(
    batch: int, shape: tuple[int, int, int], layout: torch.memory_format, bias: bool
) -> None:
    torch.manual_seed(0)
    ours = Pointwise(shape[0], 5, bias=bias).double().to(memory_format=layout)
    plain = nn.Conv2d(shape[0], 5, 1, bias=bias).double().to(memory_format=layout)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(batch, *shape).double().to(memory_format=layout)
    found = _with_gradients(ours, images)
    for value, expected in zip(found, _with_gradients(plain, images), strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("outputs", [2, 15, 40])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_large_maps_of_uneven_channels_are_those_of_a_convolution(
    outputs: int, layout: torch.memory_format, bias: bool
) -> None:
    torch.manual_seed(0)
    ours = Pointwise(18, outputs, bias=bias).to(memory_format=layout)
    images = torch.randn(8, 18, 32, 40).to(memory_format=layout)
    plain = nn.Conv2d(18, outputs, 1, bias=bias).double().to(memory_format=layout)
    plain.load_state_dict(ours.state_dict())
    found = _with_gradients(ours, images)
    for value, expected in zip(found, _with_gradients(plain, images.double()), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=scale * 1e-5)


def test_large_maps_of_uneven_channels_are_trained_in_bfloat16_too() -> None:
    layer, images = Pointwise(18, 15).train(), torch.randn(8, 18, 32, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(images)
    result.float().square().mean().backward()
    assert result.dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def test_features_that_are_not_trained_get_no_gradient() -> None:
    layer, images = Pointwise(18, 15).train(), torch.randn(8, 18, 32, 40)
    layer(images).sum().backward()
    assert images.grad is None
    assert layer.bias is not None
    torch.testing.assert_close(layer.bias.grad, torch.full((15,), 8.0 * 32 * 40))


def test_outside_training_its_bits_are_those_of_a_convolution() -> None:
    torch.manual_seed(0)
    ours = Pointwise(16, 33).eval()
    images = torch.randn(4, 16, 12, 20).to(memory_format=torch.channels_last)
    assert torch.equal(ours(images), nn.Conv2d.forward(ours, images))


def _with_gradients(layer: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    result = layer.train()(images)
    result.square().sum().backward()
    return [
        result.detach(),
        images.grad,
        *(p.grad for p in layer.parameters() if p.grad is not None),
    ]
