"""Levels that a backbone computes coarser than heads are given them: who upsamples them, and when.

Tokens of a ViT are the case. Projecting them before they are upsampled is the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import enlarged
from medusa_core.heads.configs import MedusaConfig
from medusa_core.model.assembly import make_head
from medusa_core.model.costs import head_gmacs
from medusa_core.model.inference import prepare
from medusa_core.plugin_host import default_host
from medusa_core.plugin_host.attribution import head_output, training_outputs

CHANNELS, STRIDES = (24, 20, 28, 24), (4, 8, 16, 32)
TOKENS = FeatureInfo(CHANNELS, STRIDES, computed=(16, 16, 16, 32))
DEEP = FeatureInfo(CHANNELS, STRIDES, computed=(32, 32, 32, 64))
MEDUSA: list[dict[str, Any]] = [
    *({"feature_attention": kind} for kind in ("none", "spatial", "channel", "both")),
    {"shortcut": True, "subpixel": 2},
    {"context": True, "fused_refinement": 1, "deep_supervision": 0.5},
    {"top_down": False, "refinement": "none", "scale_attention": "concatenation"},
    {"refinement": "full", "scale_attention": "sum", "width": 16},
]
HEADS = [("medusa", config) for config in MEDUSA] + [("constant", {}), ("linear", {})]


def _features(info: FeatureInfo, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, channels, 64 // stride, 128 // stride, generator=generator)
        for channels, stride in zip(info.channels, info.computed, strict=True)
    ]


def _upsampled(info: FeatureInfo, features: Sequence[Tensor]) -> list[Tensor]:
    """By PyTorch, whatever heads do."""
    sizes = [(64 // stride, 128 // stride) for stride in info.strides]
    return [
        F.interpolate(level, size, mode="bilinear")
        for level, size in zip(features, sizes, strict=True)
    ]


def _settled(name: str, info: FeatureInfo, config: dict[str, Any]) -> Head:
    """In evaluation mode, with numbers as after a training."""
    torch.manual_seed(0)
    head = make_head(default_host(), HeadRef(name=name, config=config), info, 3)
    with torch.no_grad():
        for parameter in head.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
        for seed in range(3):
            training_outputs(head.train(), _features(info, seed))
    return head.eval()


@pytest.mark.parametrize(("name", "config"), HEADS)
@pytest.mark.parametrize("info", [TOKENS, DEEP], ids=["tokens", "deep"])
@pytest.mark.parametrize(
    "ready", [lambda head: head, partial(prepare, pack=False)], ids=["plain", "prepared"]
)
def test_a_head_that_upsamples_says_what_it_says_of_upsampled_levels(
    name: str, config: dict[str, Any], info: FeatureInfo, ready: Any
) -> None:
    head = _settled(name, info, config)
    given = FeatureInfo(info.channels, info.strides)
    other = make_head(default_host(), HeadRef(name=name, config=config), given, 3).eval()
    other.load_state_dict(head.state_dict())
    features = [level.double() for level in _features(info, 9)]
    with torch.no_grad():
        found = ready(head.double())(features)
        expected = other.double()(_upsampled(info, features))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "config"), HEADS)
@pytest.mark.parametrize("info", [TOKENS, DEEP], ids=["tokens", "deep"])
def test_a_head_that_upsamples_learns_the_same_from_upsampled_levels(
    name: str, config: dict[str, Any], info: FeatureInfo
) -> None:
    head = _settled(name, info, config).train().double()
    given = FeatureInfo(info.channels, info.strides)
    other = make_head(default_host(), HeadRef(name=name, config=config), given, 3).double()
    other.load_state_dict(head.state_dict())
    features = [level.double() for level in _features(info, 9)]
    for one, levels in ((head, features), (other, _upsampled(info, features))):
        outputs = one.training_outputs(levels)
        torch.stack([weight * raw.square().mean() for weight, raw in outputs]).sum().backward()
    gradients = dict(other.named_parameters())
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-7, atol=1e-9)
    for buffer, expected in zip(head.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-9, atol=1e-9)


def test_levels_as_large_as_their_strides_are_taken_as_they_are() -> None:
    info = FeatureInfo(CHANNELS, STRIDES)
    assert info.computed == STRIDES
    assert info.upsampling == (1, 1, 1, 1)
    assert info == FeatureInfo(CHANNELS, STRIDES, computed=STRIDES)
    head, features = _full_head(info), _features(info)
    assert all(a is b for a, b in zip(head.given(features), features, strict=True))
    assert enlarged(features[0], 1) is features[0]


class Full(Head):
    """As any plugin's: it counts on levels at their strides."""

    def __init__(self, features: FeatureInfo) -> None:
        super().__init__()
        self.predict = torch.nn.Conv2d(features.channels[0], 3, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """At the finest stride."""
        assert [level.shape[-1] for level in features] == [128 // stride for stride in STRIDES]
        return self.predict(features[0])


def _full_head(info: FeatureInfo) -> Head:
    head = Full(info)
    head.wanted_features = info  # as the host does
    return head


@pytest.mark.parametrize("info", [TOKENS, DEEP], ids=["tokens", "deep"])
def test_a_head_that_does_not_is_given_upsampled_ones(info: FeatureInfo) -> None:
    head, features = _full_head(info), _features(info)
    expected = head(_upsampled(info, features))
    assert torch.equal(head_output(head, features), expected)
    assert torch.equal(training_outputs(head, features)[0][1], expected)


def test_cheaper_is_the_point() -> None:
    """Projections of tokens are counted where they are done."""
    wide = FeatureInfo((384,) * 4, STRIDES, computed=(16, 16, 16, 32))
    config = MedusaConfig().model_dump()
    costs = [
        head_gmacs(make_head(default_host(), HeadRef(name="medusa", config=config), info, 3), info)
        for info in (wide, FeatureInfo(wide.channels, wide.strides))
    ]
    cells = 120 * 160
    saved = 2 * 384 * (32 * (cells - cells / 16) + 64 * (cells / 4 - cells / 16))
    assert costs[1] - costs[0] == pytest.approx(saved / 1e9)


@pytest.mark.parametrize(
    "computed", [(16, 16, 16), (16, 16, 16, 16), (2, 8, 16, 32), (6, 8, 16, 32)]
)
def test_levels_are_never_computed_finer_than_they_are_given(computed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="computed"):
        FeatureInfo(CHANNELS, STRIDES, computed)


def test_heads_that_do_not_upsample_need_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is made of a head that would, say, must not do it a second time."""
    built: list[FeatureInfo] = []
    host = default_host()
    monkeypatch.setattr(
        type(host), "implementation", lambda *_: lambda info, *_: built.append(info) or Full(info)
    )
    head = make_head(host, HeadRef(name="medusa", config={}), TOKENS, 3)
    assert built == [FeatureInfo(CHANNELS, STRIDES)]
    assert head.wanted_features == TOKENS
