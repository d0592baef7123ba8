"""Other ways to make one prediction of several levels, at costs like the default head's.

They are what the ablation compares the default head with, beside its own switches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.configs import PeerConfig
from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import Refinement, conv_norm, resample

WIDTH = 48
TOKENS = 16


def refinement(full: bool) -> Refinement:
    """Two full 3×3 convolutions, or a separable one where they are too dear."""
    return Refinement(WIDTH, separable=not full, convolutions=2 if full else 1)


class FPNHead(Head):
    """One width for all levels, a top-down sum, a 3×3 each, and their sum.

    Lin et al., "Feature Pyramid Networks" (CVPR 2017), fused as in Kirillov et al., "Panoptic
    Feature Pyramid Networks" (CVPR 2019); the 3×3 of the finest level is separable for its cost.
    """

    def __init__(self, features: FeatureInfo, out_channels: int, config: PeerConfig) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(channels, WIDTH) for channels in features.channels)
        self.smooth = nn.ModuleList(
            refinement(full=level > 0) for level in range(len(features.channels))
        )
        self.predict = nn.Conv2d(WIDTH, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0, w_0)`."""
        size = features[0].shape[-2:]
        level, summed = None, torch.zeros(())
        for lateral, smooth, feature in reversed(
            list(zip(self.lateral, self.smooth, features, strict=True))
        ):
            own = lateral(feature)
            level = own if level is None else own + resample(level, own.shape[-2:])
            summed = summed + resample(smooth(level), size)
        return self.predict(summed)


class DPTHead(Head):
    """Every level refined, added to what came from below, refined again, and so on upwards.

    The fusion of Ranftl et al., "Vision Transformers for Dense Prediction" (ICCV 2021), after
    RefineNet (Lin et al., CVPR 2017), at one narrow width; separable at the finest level.
    """

    def __init__(self, features: FeatureInfo, out_channels: int, config: PeerConfig) -> None:
        super().__init__()
        levels = range(len(features.channels))
        self.lateral = nn.ModuleList(conv_norm(channels, WIDTH) for channels in features.channels)
        self.before = nn.ModuleList(refinement(full=level > 1) for level in levels)
        self.after = nn.ModuleList(refinement(full=level > 0) for level in levels)
        self.predict = nn.Conv2d(WIDTH, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0, w_0)`."""
        fused = None
        for lateral, before, after, feature in reversed(
            list(zip(self.lateral, self.before, self.after, features, strict=True))
        ):
            own = before(F.relu(lateral(feature)))
            fused = after(own if fused is None else own + resample(fused, own.shape[-2:]))
        return self.predict(fused)


class TokenHead(Head):
    """A few learned queries gather from every level and write back to the finest one.

    Cross-attention in both directions, in the manner of query-based decoders (Cheng et al.,
    "Mask2Former", CVPR 2022): cheap, since attention is between pixels and a few tokens only.
    """

    def __init__(self, features: FeatureInfo, out_channels: int, config: PeerConfig) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(channels, WIDTH) for channels in features.channels)
        self.descend = nn.ModuleList(
            conv_norm(WIDTH, WIDTH, 3 if level else 1)
            for level, _ in enumerate(pairwise(features.channels))
        )
        self.queries = nn.Parameter(torch.randn(TOKENS, WIDTH) / WIDTH**0.5)
        self.gather = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mix = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())
        self.spread = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.refine = refinement(full=False)
        self.predict = nn.Conv2d(WIDTH, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0, w_0)`."""
        levels = [F.relu(lateral(x)) for lateral, x in zip(self.lateral, features, strict=True)]
        coarse = [level.flatten(2).mT for level in levels[1:]]
        tokens = self.queries.expand(len(levels[0]), -1, -1)
        seen = torch.cat(coarse, dim=1)
        tokens = tokens + self.gather(tokens, seen, seen, need_weights=False)[0]
        tokens = tokens + self.mix(tokens)
        fused = levels[-1]
        for level, descend in reversed(list(zip(levels[:-1], self.descend, strict=True))):
            fused = F.relu(descend(level + resample(fused, level.shape[-2:])))
        pixels = fused.flatten(2).mT
        pixels = pixels + self.spread(pixels, tokens, tokens, need_weights=False)[0]
        fused = pixels.mT.unflatten(2, fused.shape[-2:])
        return self.predict(self.refine(fused))
