"""Costs are counted: by hand for single layers, from the literature for a whole backbone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.heads.base import Head
from medusa_core.model.assembly import make_head
from medusa_core.model.costs import backbone_gmacs, head_gmacs, parameters
from medusa_core.plugin_host import default_host

INFO = FeatureInfo((5, 7, 11, 13), (4, 8, 16, 32))


class _Conv(Head):
    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 10, 3, padding=1, groups=groups)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.conv(features[0])


def test_a_convolution_counts_as_on_paper() -> None:
    assert parameters(_Conv()) == 10 * 5 * 9 + 10
    assert head_gmacs(_Conv(), INFO) == pytest.approx(10 * 5 * 9 * 120 * 160 / 1e9)
    assert parameters(_Conv(groups=5)) == 10 * 9 + 10
    assert head_gmacs(_Conv(groups=5), INFO) == pytest.approx(10 * 9 * 120 * 160 / 1e9)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("constant", 3, 0),
        ("linear", 3 * 13 + 3, 3 * 13 * 15 * 20),
        ("hypercolumn", 3 * (5 + 7 + 11 + 13) + 3, 3 * (5 * 64 + 7 * 16 + 11 * 4 + 13) * 15 * 20),
    ],
)
def test_the_baselines_count_as_on_paper(name: str, params: int, macs: int) -> None:
    head = make_head(default_host(), HeadRef(name=name), INFO, 3)
    assert parameters(head) == params
    assert head_gmacs(head, INFO) == pytest.approx(macs / 1e9)


def test_hrnet_costs_what_the_literature_says() -> None:
    backbone = build(describe("hrnet_w18_small_v2")).freeze()
    assert parameters(backbone) == 3_860_720
    assert backbone_gmacs(backbone) == pytest.approx(9.76, abs=0.005)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_counting_changes_nothing(name: str) -> None:
    backbone = build(describe(name)).train()
    before = {k: t.clone() for k, t in backbone.weights().items()}
    state = torch.get_rng_state()
    first = backbone_gmacs(backbone)
    assert first > 0
    assert first == backbone_gmacs(backbone)
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(t.device.type == "cpu" for t in backbone.weights().values())
    assert all(torch.equal(t, before[k]) for k, t in backbone.weights().items())
    assert parameters(backbone.freeze()) == sum(p.numel() for p in backbone.net.parameters())
