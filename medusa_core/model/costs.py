"""Parameters and multiply-accumulates, counted, not estimated."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medusa_core.api import FeatureInfo
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.heads.base import Head
from medusa_core.store.manifest import COST_SIZE


def parameters(module: nn.Module) -> int:
    """Number of trainable values (frozen or not), without buffers."""
    return sum(p.numel() for p in module.parameters())


def backbone_gmacs(backbone: Backbone) -> float:
    """10⁹ multiply-accumulates of one `COST_SIZE` image; convolutions and matrix products."""
    twin = copy.deepcopy(backbone).to("meta").eval().requires_grad_(False)
    return _gmacs(twin, torch.empty(1, 3, *COST_SIZE, device="meta"))


def head_gmacs(head: Head, features: FeatureInfo) -> float:
    """10⁹ multiply-accumulates of a head for one `COST_SIZE` image, the backbone not included."""
    twin = copy.deepcopy(head).to("meta").eval().requires_grad_(False)
    levels = [torch.empty(1, *shape, device="meta") for shape in features.shapes(COST_SIZE)]
    return _gmacs(twin, twin.given(levels))


def _gmacs(module: nn.Module, inputs: object) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(inputs)
    return counter.get_total_flops() / 2e9
