"""Coupled peers: PAD-Net and MTI-Net, whose tasks read one another's features.

Both predict all tasks at once, grow with the square of their number, and have to be trained anew
when a task comes or goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.blocks import (
    BasicBlock,
    Bottleneck,
    PairwiseDistillation,
    PerTask,
    SqueezeExcitation,
    concatenated,
    fusion,
)
from benchmarks.peers.configs import PeerConfig
from benchmarks.peers.heads import PlainHead, TopDownLevel, top_down_channels
from medusa_core.api import FeatureInfo

PADNET_WIDTH = 256


class CoupledDecoder(nn.Module, ABC):
    """Turns feature levels into the raw predictions of several tasks.

    Sub-classes are built as `implementation(features: FeatureInfo, out_channels)`, where
    `out_channels` is task → channels of its raw prediction, in the order of the tasks.
    """

    def given(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """As `Head.given`: the backbones that it is for compute levels at their strides."""
        return features

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Task → `(B, C, h_0, w_0)`, without the initial predictions, which training alone needs.

        Args:
            features: `(B, C_i, H / stride_i, W / stride_i) float32` of each level, finest first.
        """

    @abstractmethod
    def training_outputs(self, features: Sequence[Tensor]) -> dict[str, list[tuple[float, Tensor]]]:
        """Task → (weight, raw prediction) pairs: the prediction, then the initial ones.

        All weights are 1, as in the losses that MTI-Net's authors published for both networks.
        """


class PADNet(CoupledDecoder):
    """Xu et al., "PAD-Net" (CVPR 2018), on concatenated levels at the finest stride."""

    def __init__(self, features: FeatureInfo, out_channels: Mapping[str, int]) -> None:
        super().__init__()
        channels = sum(features.channels)
        self.fuse = fusion(channels)
        self.refine = PerTask(
            {
                name: nn.Sequential(
                    Bottleneck(channels, PADNET_WIDTH), Bottleneck(PADNET_WIDTH, PADNET_WIDTH)
                )
                for name in out_channels
            }
        )
        self.initial = PerTask(
            {name: nn.Conv2d(PADNET_WIDTH, count, 1) for name, count in out_channels.items()}
        )
        self.distil = PairwiseDistillation(list(out_channels), PADNET_WIDTH)
        self.heads = PerTask(
            {
                name: nn.Sequential(
                    Bottleneck(PADNET_WIDTH, PADNET_WIDTH),
                    Bottleneck(PADNET_WIDTH, PADNET_WIDTH),
                    nn.Conv2d(PADNET_WIDTH, count, 1),
                )
                for name, count in out_channels.items()
            }
        )
        self.names = tuple(out_channels)

    def _refined(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        fused = self.fuse(concatenated(features))
        return self.refine.each(dict.fromkeys(self.names, fused))

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Task → raw prediction at the finest stride."""
        return self.heads.each(self.distil(self._refined(features)))

    def training_outputs(self, features: Sequence[Tensor]) -> dict[str, list[tuple[float, Tensor]]]:
        """The predictions and the initial ones."""
        refined = self._refined(features)
        initial = self.initial.each(refined)
        final = self.heads.each(self.distil(refined))
        return {name: [(1.0, final[name]), (1.0, initial[name])] for name in self.names}


class FeaturePropagation(nn.Module):
    """What a level of MTI-Net passes on to the next finer one.

    A mask over the tasks' features chooses, at every pixel and channel, between tasks; what is
    left is reduced to the channels of one task and added to each with factors of its own. (In
    the code that its authors published the softmax runs over neighbouring channels, most of them
    of one task. Here it runs over tasks, as in their paper, at the same cost.)
    """

    def __init__(self, names: Sequence[str], channels: int) -> None:
        super().__init__()
        every = len(names) * channels
        self.mask = nn.Sequential(
            BasicBlock(every, every // 4),
            BasicBlock(every // 4, every // 4),
            nn.Conv2d(every // 4, every, 1),
        )
        self.reduce = BasicBlock(every, channels)
        self.excite = PerTask({name: SqueezeExcitation(channels) for name in names})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task → `(B, channels, h, w)`; the same shapes."""
        joined = torch.cat(list(features.values()), dim=1)
        by_task = (len(features), -1)
        mask = self.mask(joined).unflatten(1, by_task).softmax(dim=1)
        shared = self.reduce((mask * joined.unflatten(1, by_task)).flatten(1, 2))
        return {name: x + self.excite.of(name)(shared) for name, x in features.items()}


class MTINet(CoupledDecoder):
    """Vandenhende, Georgoulis and Van Gool, "MTI-Net" (ECCV 2020)."""

    def __init__(self, features: FeatureInfo, out_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(out_channels)
        self.levels: Any = nn.ModuleList(
            PerTask({n: TopDownLevel(inputs, channels, out_channels[n]) for n in self.names})
            for inputs, channels in top_down_channels(features)
        )
        self.propagate = nn.ModuleList(
            FeaturePropagation(self.names, channels) for channels in features.channels[1:]
        )
        self.distil = nn.ModuleList(
            PairwiseDistillation(self.names, channels) for channels in features.channels
        )
        self.heads = PerTask(
            {n: PlainHead(features, count, PeerConfig()) for n, count in out_channels.items()}
        )

    def _refined(self, features: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """A level: task → its features before distillation."""
        refined: list[dict[str, Tensor]] = []
        coarser: dict[str, Tensor] = {}
        for index in reversed(range(len(features))):
            own = {
                name: self.levels[index].of(name)(features[index], coarser.get(name))
                for name in self.names
            }
            refined.insert(0, own)
            if index:
                coarser = self.propagate[index - 1](own)
        return refined

    def _final(self, refined: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        levels = [distil(own) for distil, own in zip(self.distil, refined, strict=True)]
        return {name: self.heads.of(name)([own[name] for own in levels]) for name in self.names}

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Task → raw prediction at the finest stride."""
        return self._final(self._refined(features))

    def training_outputs(self, features: Sequence[Tensor]) -> dict[str, list[tuple[float, Tensor]]]:
        """The predictions and the initial ones of every level."""
        refined = self._refined(features)
        final = self._final(refined)
        return {
            name: [(1.0, final[name])]
            + [
                (1.0, level.of(name).predict(own[name]))
                for level, own in zip(self.levels, refined, strict=True)
            ]
            for name in self.names
        }
