"""The honest baselines: a constant, and linear maps of the frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import enlarged, resample
from medusa_core.heads.configs import BaselineConfig


class ConstantHead(Head):
    """A learned constant: what a task scores without looking at the image.

    The best one by the loss of the task, not by its metric.
    """

    upsamples = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: BaselineConfig) -> None:
        super().__init__()
        self.factor = features.upsampling[-1]
        self.value = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The same raw prediction everywhere, at the deepest stride."""
        batch, _, *size = features[-1].shape
        height, width = (side * self.factor for side in size)
        return self.value.view(1, -1, 1, 1).expand(batch, -1, height, width)


class LinearHead(Head):
    """A 1×1 convolution on the deepest level, its inputs standardised."""

    recordable = True
    upsamples = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: BaselineConfig) -> None:
        super().__init__()
        self.factor = features.upsampling[-1]
        self.norm = nn.BatchNorm2d(features.channels[-1], affine=False)
        self.predict = nn.Conv2d(features.channels[-1], out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction at the deepest stride."""
        return self.predict(self.norm(enlarged(features[-1], self.factor)))


class HypercolumnHead(Head):
    """A 1×1 convolution on all levels, standardised and resampled to the finest."""

    recordable = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: BaselineConfig) -> None:
        super().__init__()
        self.norm = nn.ModuleList(nn.BatchNorm2d(c, affine=False) for c in features.channels)
        self.predict = nn.ModuleList(
            nn.Conv2d(c, out_channels, 1, bias=level == 0)
            for level, c in enumerate(features.channels)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction at the finest stride: the sum of the levels' projections."""
        size = features[0].shape[-2:]
        levels = [
            resample(predict(norm(x)), size)
            for norm, predict, x in zip(self.norm, self.predict, features, strict=True)
        ]
        return torch.stack(levels).sum(dim=0)
