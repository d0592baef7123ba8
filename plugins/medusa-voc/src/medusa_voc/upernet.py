"""UPerNet: what is around a pixel by pooling, where its borders are by a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import conv_norm, resample
from medusa_voc.config import UPerNetConfig


class UPerNetHead(Head):
    """Pyramid pooling on the deepest level, top-down additions, all levels fused at the finest."""

    recordable = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: UPerNetConfig) -> None:
        super().__init__()
        width, levels = config.width, len(features.channels)
        self.bins = config.bins
        # A grid of one cell has one value a channel and image: nothing for BatchNorm to measure.
        self.pool = nn.ModuleList(nn.Conv2d(features.channels[-1], width, 1) for _ in self.bins)
        deepest = features.channels[-1] + width * len(self.bins)
        self.context = conv_norm(deepest, width, 3)
        self.lateral = nn.ModuleList(conv_norm(c, width) for c in features.channels[:-1])
        self.smooth = nn.ModuleList(conv_norm(width, width, 3) for _ in range(levels - 1))
        self.fuse = conv_norm(width * levels, width, 3)
        self.predict = nn.Conv2d(width, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction at the finest stride."""
        deepest = features[-1]
        pooled = [
            resample(F.relu(project(F.adaptive_avg_pool2d(deepest, side))), deepest.shape[-2:])
            for side, project in zip(self.bins, self.pool, strict=True)
        ]
        levels = [F.relu(self.context(torch.cat([deepest, *pooled], dim=1)))]
        for project, feature in zip(reversed(self.lateral), reversed(features[:-1]), strict=True):
            above = resample(levels[0], feature.shape[-2:])
            levels.insert(0, F.relu(project(feature)) + above)
        smoothed = [
            F.relu(smooth(level)) for smooth, level in zip(self.smooth, levels[:-1], strict=True)
        ]
        size = levels[0].shape[-2:]
        together = [resample(level, size) for level in (*smoothed, levels[-1])]
        return self.predict(F.relu(self.fuse(torch.cat(together, dim=1))))
