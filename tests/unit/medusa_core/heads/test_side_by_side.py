"""Heads side by side say what each says alone; which heads of others nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.heads import blocks
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import FeatureAttention, Pointwise, Refinement, conv_norm
from medusa_core.heads.medusa import MedusaHead
from medusa_core.heads.side_by_side import side_by_side
from medusa_core.model.assembly import make_head
from medusa_core.plugin_host import default_host

INFOS = (
    FeatureInfo((16, 40, 64, 144), (4, 8, 16, 32)),
    FeatureInfo((6, 10, 14, 18), (4, 8, 16, 32)),
    FeatureInfo((9, 13), (8, 16)),
    FeatureInfo((24, 24), (16, 16)),
    FeatureInfo((24,), (16,)),
    FeatureInfo((24, 24, 24, 24), (4, 8, 16, 32), (16, 16, 16, 32)),
)
CONFIGS: list[dict[str, Any]] = [
    {},
    {"shortcut": True, "subpixel": 2},
    {"context": True, "fused_refinement": 2},
    {"top_down": False, "scale_attention": "sum"},
    {"refinement": "none", "scale_attention": "concatenation"},
    {"refinement": "full", "feature_attention": "none"},
    {"deep_supervision": 0.5, "width": 16},
]


def _moved(module: nn.Module, seed: int) -> nn.Module:
    """In evaluation mode; no number is what it begins with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return module.eval()


def _head(info: FeatureInfo, outputs: int, seed: int = 0, **config: Any) -> Head:
    head = make_head(default_host(), HeadRef(name="medusa", config=config), info, outputs)
    _moved(head, seed)
    return head


def _features(info: FeatureInfo, size: tuple[int, int] = (64, 96), batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return [
        torch.randn(batch, c, size[0] // s, size[1] // s, generator=generator)
        for c, s in zip(info.channels, info.computed, strict=True)
    ]


def _assert_alike(heads: Sequence[Head], features: Sequence[Tensor]) -> None:
    """In double precision: weights over scales enlarge what rounding does to their scores."""
    doubled = [head.double() for head in heads], [level.double() for level in features]
    for found, head in zip(_together(*doubled), doubled[0], strict=True):
        with torch.no_grad():
            torch.testing.assert_close(found, head(doubled[1]), rtol=1e-9, atol=1e-9)


def _together(heads: Sequence[Head], features: Sequence[Tensor]) -> list[Tensor]:
    network = MedusaHead.side_by_side(heads)
    assert network is not None
    with torch.no_grad():
        found: list[Tensor] = network.eval()(features)
    return found


@given(
    info=st.sampled_from(INFOS),
    config=st.sampled_from(CONFIGS),
    outputs=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    batch=st.integers(1, 2),
)
def test_they_say_what_each_says_alone(
    info: FeatureInfo, config: dict[str, Any], outputs: list[int], batch: int
) -> None:
    heads = [_head(info, channels, seed, **config) for seed, channels in enumerate(outputs)]
    _assert_alike(heads, _features(info, batch=batch))


def test_what_follows_the_coarse_levels_may_differ() -> None:
    info, features = INFOS[0], _features(INFOS[0])
    heads = [
        _head(info, 3, 1),
        _head(info, 40, 2, shortcut=True, fused_width=16),
        _head(info, 1, 3, context=True, fused_refinement=1, subpixel=2),
    ]
    assert len({head.family for head in heads}) == 1
    _assert_alike(heads, features)


def test_the_order_of_heads_does_not_matter() -> None:
    features = [level.double() for level in _features(INFOS[0])]
    heads = [_head(INFOS[0], 2, seed).double() for seed in range(3)]
    there, back = _together(heads, features), _together(heads[::-1], features)
    for one, other in zip(there, back[::-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_heads_are_not_changed() -> None:
    info, features = INFOS[0], _features(INFOS[0])
    heads = [_head(info, 2, seed, deep_supervision=0.5) for seed in range(2)]
    before = [{k: v.clone() for k, v in head.state_dict().items()} for head in heads]
    said = [head.training_outputs(features)[0][1] for head in heads]
    _together(heads, features)
    for head, numbers, expected in zip(heads, before, said, strict=True):
        assert head.state_dict().keys() == numbers.keys()
        assert all(torch.equal(head.state_dict()[k], v) for k, v in numbers.items())
        outputs = head.training_outputs(features)
        assert torch.equal(outputs[0][1], expected)
        assert len(outputs) == 1 + len(info.channels)
        assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize(
    "other",
    [{"width": 16}, {"top_down": False}, {"refinement": "none"}, {"feature_attention": "none"}],
    ids=str,
)
def test_heads_of_other_make_are_of_another_family_and_do_not_fit(other: dict[str, Any]) -> None:
    info = INFOS[0]
    heads = [_head(info, 2), _head(info, 2, **other)]
    assert heads[0].family != heads[1].family
    for pair in (heads, heads[::-1]):
        assert MedusaHead.side_by_side(pair) is None


@pytest.mark.parametrize("kind", ["spatial", "channel"])
def test_masks_that_are_not_a_number_for_each_place_and_channel_do_not_fit(kind: str) -> None:
    heads = [_head(INFOS[0], 2, seed, feature_attention=kind) for seed in range(2)]
    assert MedusaHead.side_by_side(heads) is None


@pytest.mark.parametrize("threads", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(3, 3), (5, 7), (16, 20)], ids=str)
def test_sigmoids_have_the_bits_of_each_part(threads: int, size: tuple[int, int]) -> None:
    generator, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for parts, channels, _ in product((1, 2, 6), (16, 32, 144), range(5)):
            maps = 4 * torch.randn(1, parts * channels, *size, generator=generator)
            own = maps.to(memory_format=torch.channels_last).chunk(parts, 1)
            own = [part.contiguous(memory_format=torch.channels_last) for part in own]
            maps = torch.cat(own, dim=1)
            for function in (blocks._sigmoid, blocks._gated):
                found = function(maps.clone(), parts).chunk(parts, 1)
                alone = [function(part.clone(), 1) for part in own]
                assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))
    finally:
        torch.set_num_threads(before)


def test_narrow_levels_have_no_family() -> None:
    """The last bits of channels depend on their place where there are not whole blocks of them."""
    assert _head(INFOS[1], 2).family is None
    assert _head(INFOS[0], 2, width=16).family is not None


def test_sub_classes_and_hooked_parts_do_not_fit() -> None:
    info = INFOS[0]

    class Own(MedusaHead):
        """Whose forward may be anything."""

    heads = [_head(info, 2, seed) for seed in range(2)]
    heads[1].__class__ = Own
    assert MedusaHead.side_by_side(heads) is None
    heads[1].__class__ = MedusaHead
    assert MedusaHead.side_by_side(heads) is not None
    heads[1].refine[-1].register_forward_hook(lambda *_: None)  # type: ignore[union-attr, index]
    assert MedusaHead.side_by_side(heads) is None


def test_architectures_without_a_family_are_run_alone() -> None:
    heads = [make_head(default_host(), HeadRef(name="linear", config={}), INFOS[0], 2)] * 2
    assert heads[0].family is None
    assert type(heads[0]).side_by_side(heads) is None


PARTS = {
    "own 1×1": (lambda: conv_norm(8, 4), False, 8),
    "shared 1×1": (lambda: conv_norm(8, 4), True, 8),
    "own 3×3": (lambda: conv_norm(8, 4, 3), False, 8),
    "shared 3×3": (lambda: conv_norm(8, 4, 3), True, 8),
    "own depthwise": (lambda: conv_norm(8, 8, 3, groups=8), False, 8),
    "attention": (lambda: FeatureAttention(8, 4), True, 8),
    "refinement": (lambda: Refinement(8, separable=True), False, 8),
    "no bias": (lambda: Pointwise(8, 4, bias=False), False, 8),
    "sequence": (lambda: nn.Sequential(Pointwise(8, 4), nn.ReLU(), Pointwise(4, 2)), True, 8),
}


@pytest.mark.parametrize(("make", "shared", "inputs"), PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("number", [1, 3])
def test_parts_give_their_channels_one_after_the_other(
    make: Any, shared: bool, inputs: int, number: int
) -> None:
    parts = [_moved(make(), seed) for seed in range(number)]
    own = [torch.randn(2, inputs, 5, 6) for _ in parts]
    own = own[:1] * number if shared else own
    given = own[0] if shared else torch.cat(own, dim=1)
    found = side_by_side(parts, shared)(given)
    expected = torch.cat([part(x) for part, x in zip(parts, own, strict=True)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


UNFIT = {
    "makes": (nn.ReLU(), nn.Identity()),
    "channels": (Pointwise(4, 4), Pointwise(4, 5)),
    "bias": (Pointwise(4, 4), Pointwise(4, 4, bias=False)),
    "padding": (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1)),
    "padding mode": (
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ),
    "lengths": (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU())),
    "epsilon": (nn.BatchNorm2d(4), nn.BatchNorm2d(4, eps=1e-3)),
    "affine": (nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)),
    "statistics": (nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)),
    "unknown": (nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)),
}


@pytest.mark.parametrize("parts", UNFIT.values(), ids=UNFIT)
def test_parts_that_do_not_fit_are_refused(parts: Sequence[nn.Module]) -> None:
    for pair in (parts, parts[::-1]):
        with pytest.raises(ValueError, match=r"part|fit|channels"):
            side_by_side(pair)
