"""Backbones: shapes, freezing, identity, and where their weights may come from. No network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.backbones.pretrained import download_pretrained, load_weights
from medusa_core.backbones.timm_backbone import (
    LEVEL_STRIDES,
    Backbone,
    BackboneDescription,
    build,
    check_name,
    describe,
    pad_to_stride,
    require_any_size,
)
from medusa_core.errors import UnknownNameError, UsageError
from medusa_core.heads.blocks import enlarged

CHANNELS = {
    "hrnet_w18_small_v2": (18, 36, 72, 144),
    "resnet18": (64, 128, 256, 512),
    "mobilenetv2_100": (24, 32, 96, 320),
    "convnext_atto": (40, 80, 160, 320),
    "test_vit": (64, 64, 64, 64),
    "vit_tiny_patch16_224": (192, 192, 192, 192),
    "eva02_tiny_patch14_224": (192, 192, 192, 192),
    "swin_tiny_patch4_window7_224": (96, 192, 384, 768),
    "mambaout_femto": (48, 96, 192, 288),
}
MODELS = tuple(CHANNELS)
TINY = "test_resnet"


@pytest.fixture(scope="module")
def backbones() -> Callable[[str], Backbone]:
    """Frozen backbones with settled statistics, built once each. Do not change them."""
    built: dict[str, Backbone] = {}

    def get(name: str) -> Backbone:
        if name not in built:
            torch.manual_seed(0)
            built[name] = _settled(build(describe(name))).freeze()
        return built[name]

    return get


def _settled(backbone: Backbone) -> Backbone:
    """BatchNorm statistics other than those of a new network, so that losing them shows."""
    generator = torch.Generator().manual_seed(1)
    for key, tensor in backbone.net.state_dict().items():
        if key.endswith("running_mean"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        if key.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return backbone


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _images(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
def test_levels_are_what_is_promised(name: str, backbones: Callable[[str], Backbone]) -> None:
    backbone = backbones(name)
    assert backbone.info.channels == CHANNELS[name]
    assert backbone.info.strides == LEVEL_STRIDES
    computed = (16, 16, 16, 32) if backbone.patch else LEVEL_STRIDES
    assert backbone.info.computed == computed
    for height, width in ((33, 47), (64, 96)):
        images = pad_to_stride(_images(height, width, 2), backbone.stride, backbone.mean)
        with torch.no_grad():
            levels = backbone(images)
        padded_height, padded_width = images.shape[-2:]
        assert [tuple(level.shape) for level in levels] == [
            (2, channels, padded_height // stride, padded_width // stride)
            for channels, stride in zip(CHANNELS[name], computed, strict=True)
        ]
        assert all(level.isfinite().all() for level in levels)
        assert all(level.dtype == torch.float32 for level in levels)


@pytest.mark.parametrize(
    ("size", "padded"), [((1, 1), (32, 32)), ((33, 47), (64, 64)), ((64, 32), (64, 32))]
)
def test_padding_adds_the_fill_below_and_to_the_right(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    images = _images(*size, batch=2)
    fill = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    result = pad_to_stride(images, 32, fill)
    assert tuple(result.shape) == (2, 3, *padded)
    assert torch.equal(result[..., : size[0], : size[1]], images)
    outside = torch.ones(padded, dtype=torch.bool)
    outside[: size[0], : size[1]] = False
    assert torch.equal(result[..., outside], fill.view(1, 3, 1).expand(2, 3, int(outside.sum())))
    assert torch.equal(images, _images(*size, batch=2))


def test_padding_is_black_to_the_network() -> None:
    """The mean colour becomes zero, so what is padded looks like a convolution's own padding."""
    backbone = build(describe(TINY)).freeze()
    seen: list[Tensor] = []
    backbone.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    backbone(pad_to_stride(_images(33, 33), 32, backbone.mean))
    assert (seen[0][..., 33:, :] == 0).all()
    assert (seen[0][..., :, 33:] == 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_frozen_means_that_no_bit_moves(name: str, backbones: Callable[[str], Backbone]) -> None:
    backbone = backbones(name)
    before = _copy(backbone.weights())
    inputs = _images(64, 64, 2).requires_grad_()
    backbone.train()
    outer = torch.nn.ModuleDict({"backbone": backbone, "head": torch.nn.Conv2d(3, 1, 1)}).train()
    assert outer["head"].training
    assert not any(module.training for module in backbone.modules())
    parameters = list(outer.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=1.0)
    sum(level.sum() for level in outer["backbone"](inputs)).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    after = backbone.weights()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_backbone_that_is_not_frozen_does_move() -> None:
    """The test above can fail."""
    backbone = build(describe(TINY)).train()
    before = _copy(backbone.weights())
    backbone(_images(64, 64, 2))
    moved = [k for k, tensor in backbone.weights().items() if not torch.equal(tensor, before[k])]
    assert any(key.endswith("running_mean") for key in moved)


@pytest.mark.parametrize("name", [TINY, "test_vit"])
def test_equal_weights_have_equal_fingerprints(name: str) -> None:
    def make() -> Backbone:
        torch.manual_seed(3)
        return build(describe(name))

    def mark(backbone: Backbone) -> str:
        return fingerprint(backbone.description.identity(), backbone.weights())

    one, other = make(), make()
    assert mark(one) == mark(other)
    buffers = [k for k, _ in other.net.named_buffers() if k in other.weights()]
    tensor = other.weights()[buffers[0] if buffers else next(iter(other.weights()))]
    tensor.view(-1).view(torch.int32)[0] ^= 1
    assert mark(one) != mark(other)


def test_a_description_is_that_of_timm() -> None:
    description = describe(TINY)
    assert description == describe(TINY)
    config = timm.get_pretrained_cfg(TINY)
    assert (description.mean, description.std) == (config.mean, config.std)
    assert description.out_indices == (1, 2, 3, 4)  # not the stem, whose stride is 2
    assert describe("hrnet_w18_small_v2").kwargs == {"feature_location": ""}
    assert describe("test_vit").kwargs == {"dynamic_img_size": True}


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_back_under_either_name(
    name: str, backbones: Callable[[str], Backbone], tmp_path: Path
) -> None:
    """From a file in the feature model's names, and from one of the full timm model."""
    backbone = backbones(name)
    images = _images(64, 64)
    own = tmp_path / "own.safetensors"
    save_file({k: t.contiguous() for k, t in backbone.weights().items()}, own)
    torch.manual_seed(7)
    restored = build(backbone.description).freeze()
    assert load_weights(restored, load_file(own), "own") == []
    assert all(torch.equal(t, restored.weights()[k]) for k, t in backbone.weights().items())
    for here, there in zip(backbone(images), restored(images), strict=True):
        assert torch.equal(here, there)

    torch.manual_seed(9)
    options = {k: v for k, v in backbone.description.kwargs.items() if k == "dynamic_img_size"}
    full = timm.create_model(name, **options)
    path = tmp_path / "full.safetensors"
    save_file({k: t.contiguous() for k, t in full.state_dict().items()}, path)
    left_over = load_weights(restored, load_file(path), "full")
    assert left_over
    assert set(left_over) < set(full.state_dict())
    used = len(full.state_dict()) - len(left_over)
    assert used == len(restored.weights())

    # timm's own loading of the same weights into its feature model must give the same features
    original = timm.create_model(
        name,
        features_only=True,
        out_indices=backbone.description.out_indices,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path), "hf_hub_id": None, "url": None},
        **backbone.description.kwargs,
    ).eval()
    x = (images - backbone.mean) / backbone.std
    size = 64 if backbone.patch is None else 64 * backbone.patch // 16
    if size != 64:
        x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = original.to(memory_format=torch.channels_last)(x)
        seen: list[list[Tensor]] = []
        handle = restored.net.register_forward_hook(lambda m, i, output: seen.append(output))
        restored(images)
        handle.remove()
    for ours, theirs in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", [check_name, describe])
def test_an_unknown_name_has_a_near_match(call: Callable[[str], Any]) -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet81'. Did you mean 'resnet\w+'"):
        call("resnet81")
    with pytest.raises(UnknownNameError, match=r"'resnet18\.a1_in2k'. Did you mean"):
        call("resnet18.a1_in2k")
    check_name("resnet18.a1_in1k")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "hf_hub:timm/resnet18",
            "hf-hub:timm/resnet18.a1_in1k",
            "local-dir:/tmp",
            "timm/resnet18",
        ),
        *("../x", "/etc/passwd", "resnet18/../x", "https://host/resnet18", "file:///resnet18"),
        *("", ".", "resnet18.", "resnet18.hf-hub:x", "resnet18./../mobilenetv2_100", " resnet18"),
        *("resnet18\0", "resnet18.a1_in1k\n", "RESNET18"),
    ],
)
def test_names_that_would_fetch_something_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        describe(name)
    with pytest.raises(UnknownNameError):
        build(BackboneDescription(name, out_indices=(1, 2, 3, 4)))
    with pytest.raises(UnknownNameError):
        download_pretrained(name)


@pytest.mark.parametrize("name", ["efficientvit_m0", "pit_ti_224"])
def test_models_that_lack_levels_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}.*strides 4, 8, 16, 32 are needed"):
        describe(name)


def test_a_model_of_a_fixed_input_size_is_refused() -> None:
    with pytest.raises(UsageError, match="coat_lite_tiny.* fails on a 128×128") as e:
        build(describe("coat_lite_tiny"))
    assert "fixed input size" in str(e.value.hint)


def test_an_error_without_a_word_is_named() -> None:
    with pytest.raises(UsageError, match=r"halonet26t.* fails on a 128×128 image: AssertionError"):
        build(describe("halonet26t"))


def test_weights_of_five_axes_are_in_no_way() -> None:
    require_any_size(build(describe("lambda_resnet26t")))


def test_a_model_of_images_up_to_a_size_is_refused() -> None:
    with pytest.raises(UsageError, match="mvitv2_tiny.* fails on a 224×416") as e:
        require_any_size(build(describe("mvitv2_tiny")))
    assert "fixed input size" in str(e.value.hint)


def test_a_model_whose_levels_are_a_pixel_short_is_refused() -> None:
    with pytest.raises(UsageError, match=r"legacy_xception.* strides 4, 8, 16, 32: .*31, 31"):
        build(describe("legacy_xception"))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mambaout_femto"])
def test_levels_in_another_order_are_those_of_timm(
    name: str, backbones: Callable[[str], Backbone]
) -> None:
    backbone, images = backbones(name), _images(96, 160, 2)
    with torch.no_grad():
        levels = backbone(images)
        timms = backbone.net((images - backbone.mean) / backbone.std)
    for level, other in zip(levels, timms, strict=True):
        assert torch.equal(level, other.permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_levels_of_a_plain_vit_are_its_tokens_resampled(
    name: str, backbones: Callable[[str], Backbone]
) -> None:
    backbone, images = backbones(name), _images(96, 160, 2)
    size = (96, 160) if backbone.patch == 16 else (84, 140)
    with torch.no_grad():
        levels = backbone(images)
        shown = F.interpolate(
            (images - backbone.mean) / backbone.std, size, mode="bilinear", antialias=True
        )
        tokens = backbone.net(shown)
    for level, read, by, stride in zip(
        levels, tokens, backbone.info.upsampling, LEVEL_STRIDES, strict=True
    ):
        expected = F.interpolate(read, (96 // stride, 160 // stride), mode="bilinear")
        torch.testing.assert_close(enlarged(level, by), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224"])
def test_a_shifted_window_network_reads_its_own_size_as_timm_does(name: str) -> None:
    backbone = build(describe(name)).freeze()
    fixed = timm.create_model(name, features_only=True).eval()
    fixed.load_state_dict(backbone.net.state_dict())
    images = _images(224, 224)
    with torch.no_grad():
        levels, timms = backbone.net(images), fixed(images)
    for level, other in zip(levels, timms, strict=True):
        torch.testing.assert_close(level, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kwargs": {"pretrained_cfg": {"file": "/x"}}}, "not allowed: pretrained_cfg"),
        ({"kwargs": {"checkpoint_path": "/x"}}, "not allowed: checkpoint_path"),
        ({"kwargs": {"dynamic_img_size": True}}, "cannot build"),
        ({"out_indices": (1, 2, 3, 9)}, "cannot build"),
        ({"out_indices": (0, 1, 2, 3)}, "strides"),
        ({"out_indices": (1, 2, 3)}, "strides"),
        ({"out_indices": ()}, "cannot build|strides"),
        ({"std": (0.0, 1.0, 1.0)}, "not finite"),
    ],
)
def test_a_hostile_description_is_an_error(changes: dict[str, Any], message: str) -> None:
    fields = {"name": TINY, "out_indices": (1, 2, 3, 4), **changes}
    with pytest.raises(UsageError, match=message):
        build(BackboneDescription(**fields))


def test_a_network_that_reports_wrong_channels_is_refused() -> None:
    net = timm.create_model(TINY, features_only=True, out_indices=(1, 2, 3, 4))
    net.feature_info.info[2]["num_chs"] += 1
    with pytest.raises(UsageError, match="reports channels"):
        Backbone(BackboneDescription(TINY, out_indices=(1, 2, 3, 4)), net)
