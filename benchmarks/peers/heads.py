"""Per-task peers: the head of HRNet, and MTI-Net's decoder for one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.blocks import BasicBlock, concatenated, fusion
from benchmarks.peers.configs import PeerConfig
from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import resample


class PlainHead(Head):
    """All levels concatenated at the finest stride, 1×1, BatchNorm, ReLU, 1×1.

    Sun et al., "High-Resolution Representations for Labeling Pixels and Regions" (2019). It is
    the head of single-task networks and of the shared-backbone baseline.
    """

    def __init__(self, features: FeatureInfo, out_channels: int, config: PeerConfig) -> None:
        super().__init__()
        channels = sum(features.channels)
        self.fuse = fusion(channels)
        self.predict = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0, w_0)`."""
        return self.predict(self.fuse(concatenated(features)))


class TopDownLevel(nn.Module):
    """One task's features of one level of MTI-Net, and its initial prediction from them."""

    def __init__(self, inputs: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.refine = nn.Sequential(BasicBlock(inputs, channels), BasicBlock(channels, channels))
        self.predict = nn.Conv2d(channels, out_channels, 1)

    def forward(self, level: Tensor, coarser: Tensor | None) -> Tensor:
        """The task's features, `(B, channels, h, w)`.

        Args:
            level: `(B, channels, h, w)` of the backbone.
            coarser: what the next coarser level passes on, None at the coarsest.
        """
        if coarser is None:
            return self.refine(level)
        return self.refine(torch.cat([level, resample(coarser, level.shape[-2:])], dim=1))


class MTINetTaskHead(Head):
    """What is left of MTI-Net for one task: everything but what couples tasks.

    Vandenhende, Georgoulis and Van Gool, "MTI-Net" (ECCV 2020). From the deepest level to the
    finest, two BasicBlocks over the level and the upsampled features of the coarser one; HRNet's
    head on top. There is no other task to distil from, and the feature propagation module, whose
    mask is a softmax over tasks, has nothing to choose from: a level's features are passed on as
    they are.
    """

    def __init__(self, features: FeatureInfo, out_channels: int, config: PeerConfig) -> None:
        super().__init__()
        self.levels: Any = nn.ModuleList(
            TopDownLevel(inputs, channels, out_channels)
            for inputs, channels in top_down_channels(features)
        )
        self.head = PlainHead(features, out_channels, config)

    def _refined(self, features: Sequence[Tensor]) -> list[Tensor]:
        refined: list[Tensor] = []
        coarser = None
        for module, level in zip(reversed(self.levels), reversed(features), strict=True):
            coarser = module(level, coarser)
            refined.insert(0, coarser)
        return refined

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0, w_0)`."""
        return self.head(self._refined(features))

    def training_outputs(self, features: Sequence[Tensor]) -> list[tuple[float, Tensor]]:
        """The prediction and the initial one of each level, all of weight 1, as in MTI-Net.

        The loss that its authors published adds the loss of every initial prediction, at the size
        of the image, to that of the prediction, with the weight of the task and no other factor.
        """
        refined = self._refined(features)
        initial = [(1.0, m.predict(x)) for m, x in zip(self.levels, refined, strict=True)]
        return [(1.0, self.head(refined)), *initial]


def top_down_channels(features: FeatureInfo) -> list[tuple[int, int]]:
    """(channels in, channels out) of every level of a top-down chain, finest first."""
    passed_on = [*features.channels[1:], 0]
    return [(own + more, own) for own, more in zip(features.channels, passed_on, strict=True)]
