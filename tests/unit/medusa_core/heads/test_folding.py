"""Heads prepared for inference: fewer steps, the same function, whatever their settings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.heads.blocks import FeatureAttention, Refinement
from medusa_core.model.assembly import make_head
from medusa_core.model.execution import movement
from medusa_core.model.inference import prepare
from medusa_core.plugin_host import default_host

INFO = FeatureInfo((16, 40, 64, 144), (4, 8, 16, 32))
TOLERANCE = 1e-5
SETTINGS: list[dict[str, Any]] = [
    {},
    {"shortcut": True, "subpixel": 2},
    {"fused_width": 8, "top_down": False},
    {"scale_attention": "sum"},
    {"scale_attention": "concatenation"},
    {"context": True},
    {"context": True, "scale_attention": "sum", "fused_refinement": 1},
    {"fused_refinement": 2, "subpixel": 2},
    {"feature_attention": "none"},
    {"feature_attention": "spatial", "refinement": "full"},
    {"feature_attention": "channel", "refinement": "none"},
    {"width": 5, "fused_width": 1, "deep_supervision": 0.5},
]


def _features(size: tuple[int, int] = (64, 96), seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, c, size[0] // s, size[1] // s, generator=generator)
        for c, s in zip(INFO.channels, INFO.strides, strict=True)
    ]


def _trained(settings: dict[str, Any], channels: int = 3) -> nn.Module:
    """A head no parameter or statistic of which is what it begins with, some scales negative."""
    torch.manual_seed(0)
    head = make_head(default_host(), HeadRef(name="medusa", config=settings), INFO, channels)
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.normal_()
                module.bias.normal_(std=0.2)
            elif isinstance(module, nn.Conv2d) and not module.weight.any():
                module.weight.normal_(std=0.2)
    return head.eval().requires_grad_(False)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_prepared_head_says_the_same_at_any_size(settings: dict[str, Any]) -> None:
    head = _trained(settings)
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    fast = prepare(head)
    for size in ((64, 96), (32, 32), (64, 96)):
        features = _features(size)
        expected = head([x.clone() for x in features])
        assert movement(fast(features), expected) < TOLERANCE
    assert all(torch.equal(before[key], tensor) for key, tensor in head.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "score_scale", "left"),
    [
        ({}, 0.7, 0),
        ({}, -0.7, 1),  # of the scores, which weigh the levels: no scaling turns their sign
        ({"scale_attention": "sum"}, -0.7, 0),
        ({"scale_attention": "concatenation"}, 0.7, 1),  # nothing of its own in front of it
        ({"context": True}, 0.7, 0),
        ({"context": True}, -0.7, 1),
        ({"fused_refinement": 2}, 0.7, 1),  # read by more than one projection
    ],
)
def test_what_is_left_to_normalise(settings: dict[str, Any], score_scale: float, left: int) -> None:
    head = _trained(settings)
    with torch.no_grad():
        head.norm.weight[-1] = score_scale
    fast = prepare(head)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == left
    features = _features()
    assert movement(fast(features), head([x.clone() for x in features])) < TOLERANCE


@pytest.mark.parametrize(("score_scale", "left"), [(0.05, 0), (1e-3, 1), (1e-6, 1)])
def test_scores_are_not_drowned_in_a_shift(score_scale: float, left: int) -> None:
    head = _trained({})
    with torch.no_grad():
        head.norm.weight[-1], head.norm.bias[-1] = score_scale, -0.2
    fast = prepare(head)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == left
    features = _features()
    exact = copy.deepcopy(head).double()([x.double() for x in features]).float()
    assert movement(fast(features), exact) < TOLERANCE


def test_mask_and_value_become_one_projection_where_that_is_faster() -> None:
    fast = prepare(_trained({}))
    merged = [m.both is not None for m in fast.modules() if isinstance(m, FeatureAttention)]
    assert merged == [False, True, True, True]  # 16, 32, 64 and 144 channels


def test_refinements_become_one_sequence() -> None:
    steps = [
        len(module.layers)
        for module in prepare(_trained({})).modules()
        if isinstance(module, Refinement)
    ]
    assert steps == [3, 7, 7, 7]


def test_preparing_draws_no_random_numbers() -> None:
    head = _trained({})
    before = torch.get_rng_state()
    prepare(head)
    assert torch.equal(before, torch.get_rng_state())
