"""Prepared networks say what the plain ones say, whatever modules they are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.model import inference
from medusa_core.model.execution import movement
from medusa_core.model.inference import (
    Chain,
    PackedConv2d,
    PackedLinear,
    PackedPointwise,
    PackedProduct,
    computes_bfloat16,
    prepare,
)

TOLERANCE = 1e-5
"""The tolerance that is stated for prepared networks: RMS of the difference / RMS of the value."""


def _with_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose BatchNorms do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            if module.affine:
                module.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
                module.bias.data.copy_(torch.randn(shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "hrnet_w18_small",
        "mobilenetv2_050",
        "tf_mobilenetv3_small_minimal_100",
        "test_convnext",
        "test_vit",
        "eva02_tiny_patch14_224",
        "swinv2_tiny_window8_256",
    ],
)
@pytest.mark.parametrize("most", [0, 1 << 30])
def test_a_prepared_backbone_says_the_same_at_any_size(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_small_product", lambda: most)
    torch.manual_seed(0)
    backbone = _with_statistics(build(describe(name)).freeze())
    before = copy.deepcopy(backbone.state_dict())
    fast = prepare(backbone)
    for shape in [(1, 3, 64, 96), (2, 3, 32, 32), (1, 3, 64, 96)]:
        images = _images(*shape)
        with torch.no_grad():
            pairs = list(zip(fast(images), backbone(images), strict=True))
        assert max(movement(found, expected) for found, expected in pairs) < TOLERANCE
    after = backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_batch_norms_are_folded_and_convolutions_packed() -> None:
    fast = prepare(build(describe("hrnet_w18_small")).freeze())
    kinds = {type(module) for module in fast.modules()}
    assert nn.BatchNorm2d not in kinds
    assert {PackedConv2d, PackedPointwise, Chain} <= kinds
    assert nn.Sequential not in kinds


class _Untraceable(nn.Module):
    """A branch that depends on values; its parts can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) if float(x.mean()) < 1e9 else x


class _ReadTwice(nn.Module):
    """What feeds the BatchNorm is needed elsewhere, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x


class _CalledTwice(nn.Module):
    """One convolution, followed by BatchNorm once only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


class _Functional(nn.Module):
    """Its convolution's weights are used without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(x, self.conv.weight, self.conv.bias))


class _Curious(nn.Module):
    """Looks at its layers, and reads the weights of one without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(10, 2)
        self.single = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        row = self.conv.kernel_size[0] // 2
        x = self.conv(F.pad(x, (row, row, row, row)))
        x = F.conv2d(self.one(x), self.one.weight, self.one.bias) * self.single.out_channels
        return (
            self.fc(x[..., : self.fc.in_features - 2].repeat(1, 1, 1, 2)[..., :10])
            + self.single(x).mean()
        )


class _Attention(nn.Module):
    """Layers of PyTorch, which reads weights of some parts without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x.flatten(1, 2))
        return self.last(x) + F.linear(x, self.last.weight)


class _Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def _hooked_linear() -> nn.Module:
    network = nn.Sequential(nn.Linear(12, 4), nn.GELU())
    network[0].register_forward_hook(_doubling)
    return network


def _doubling(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return output * 2


def _hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network[0].register_forward_hook(_doubling)
    network[1].register_forward_hook(_doubling)
    return network


def _normalised() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "untraceable": _Untraceable,
    "read twice": _ReadTwice,
    "called twice": _CalledTwice,
    "functional": _Functional,
    "hooked": _hooked,
    "parametrised": _normalised,
    "no statistics": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "BatchNorm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU()),
    "a hook deep inside": lambda: nn.Sequential(nn.Sequential(_hooked()), nn.ReLU()),
    "1×1, but": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1, stride=2), nn.Conv2d(6, 6, 1, groups=2), nn.Conv2d(6, 4, 1, padding=1)
    ),
    "strange padding": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    ),
    "dilated": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, (2, 1), (2, 3), (2, 1)), nn.BatchNorm2d(4)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d(4)),
    "a lone convolution": lambda: nn.Conv2d(3, 4, 1),
    "curious": _Curious,
    "attention": _Attention,
    "a hooked product": _hooked_linear,
    "a parametrised product": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(12, 4))
    ),
    "a product of other rows": lambda: nn.Sequential(
        _Transposed(), nn.Linear(3, 4, bias=False), nn.Linear(4, 1)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("most", [0, 1 << 30])
def test_any_network_says_the_same(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_small_product", lambda: most)
    torch.manual_seed(0)
    plain = _with_statistics(NETWORKS[name]())
    fast = prepare(plain)
    images = _images(2, 3, 9, 12)
    with torch.no_grad():
        assert movement(fast(images), plain(images)) < TOLERANCE


def test_parts_of_an_untraceable_network_are_folded() -> None:
    fast = prepare(_with_statistics(_Untraceable()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


def test_a_prepared_network_can_be_copied() -> None:
    fast = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(36, 5)))
    images = _images(1, 3, 8, 8)
    expected = fast(images)
    assert torch.equal(copy.deepcopy(fast)(images), expected)


def test_matrix_products_are_packed_but_those_that_do_more() -> None:
    fast = prepare(build(describe("test_vit")).freeze())
    assert not any(type(module) is nn.Linear for module in fast.modules())
    assert any(type(module) is PackedLinear for module in fast.modules())
    assert type(prepare(_hooked_linear())[0]) is nn.Linear  # type: ignore[index]


@pytest.mark.skipif(not computes_bfloat16(torch.device("cpu")), reason="no bfloat16")
def test_packed_products_follow_their_weights_into_another_format() -> None:
    fast = prepare(nn.Sequential(nn.Linear(12, 5)))
    images = _images(2, 3, 12)
    expected = fast(images)
    found = fast.to(torch.bfloat16)(images)
    assert found.dtype == torch.bfloat16
    assert movement(found.float(), expected) < 0.02


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("most", [0, 1 << 30])
def test_1x1_convolutions_say_the_same_whichever_library_multiplies(
    outputs: int, bias: bool, layout: torch.memory_format, most: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(inference, "_small_product", lambda: most)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, outputs, 1, bias=bias)).eval()
    fast = prepare(plain)
    assert type(fast[0]) is (PackedProduct if outputs == 1 else PackedPointwise)
    images = _images(2, 6, 9, 12).to(memory_format=layout)
    with torch.no_grad():
        found, expected = fast(images), plain(images)
    assert found.shape == expected.shape
    assert movement(found, expected) < TOLERANCE


def test_one_output_is_computed_in_the_format_of_its_weights() -> None:
    plain = nn.Conv2d(6, 1, 1)
    found = PackedProduct(plain).bfloat16()(_images(2, 6, 9, 12))
    assert found.dtype == torch.bfloat16


@torch.no_grad()
def test_weights_stay_packed_for_two_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide and high pictures take turns, or threads do."""
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, 3, padding=1)
    fast = prepare(nn.Sequential(plain))
    packed: list[list[int]] = []
    pack = inference.PackedConv2d._pack
    monkeypatch.setattr(
        inference.PackedConv2d,
        "_pack",
        lambda self, shape: packed.append(shape) or pack(self, shape),
    )
    shapes = [(1, 16, 8, 12), (1, 16, 12, 8), (1, 16, 8, 8)]
    for shape in [*shapes[:2] * 3, shapes[2]]:
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        assert torch.allclose(fast(x), plain(x), atol=1e-5)
    assert packed == [torch.Size(shape) for shape in shapes]
