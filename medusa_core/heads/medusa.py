"""The default head: shared feature attention, refinement, multi-scale attention, prediction.

After Spencer, Bowden and Hadfield, "Medusa: Universal Feature Learning via Attentional
Multitasking" (CVPR Workshops 2022). The equations are our reading of it (no code was published).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import (
    FeatureAttention,
    Foldable,
    Pointwise,
    Refinement,
    ScaleFusion,
    resample,
    start_at_zero,
)
from medusa_core.heads.configs import MedusaConfig


class MedusaHead(Head, Foldable):
    """SFA and refinement on every level, MSA across them, one prediction at the finest stride."""

    recordable = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: MedusaConfig) -> None:
        super().__init__()
        widths = level_widths(features, config.width)
        self.attend = nn.ModuleList(
            FeatureAttention(inputs, width, config.feature_attention)
            for inputs, width in zip(features.channels, widths, strict=True)
        )
        self.descend = (
            nn.ModuleList(Pointwise(coarse, fine) for fine, coarse in pairwise(widths))
            if config.top_down
            else None
        )
        if self.descend is not None:
            start_at_zero(self.descend)
        self.refine = nn.ModuleList(
            nn.Identity()
            if config.refinement == "none"
            else Refinement(
                width,
                separable=level == 0 or config.refinement == "separable",
                convolutions=1 if level == 0 else 2,
            )
            for level, width in enumerate(widths)
        )
        self.fuse = ScaleFusion(widths, config.fused_width, config.scale_attention)
        self.norm: nn.Module = nn.BatchNorm2d(self.fuse.outputs)
        self.context = (
            Pointwise(widths[-1], self.fuse.outputs, bias=False) if config.context else None
        )
        if self.context is not None:
            start_at_zero(self.context)
        self.refine_fused = (
            Refinement(self.fuse.outputs, separable=True, convolutions=config.fused_refinement)
            if config.fused_refinement
            else None
        )
        self.subpixel = config.subpixel
        self.predict = Pointwise(self.fuse.outputs, out_channels * self.subpixel**2)
        self.shortcut = (
            nn.ModuleList(
                Pointwise(inputs, self.predict.out_channels, bias=False)
                for inputs in features.channels
            )
            if config.shortcut
            else None
        )
        self.supervision = config.deep_supervision
        self.level_predict = (
            nn.ModuleList(Pointwise(width, out_channels) for width in widths)
            if self.supervision > 0
            else None
        )

    def _levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """From the coarsest level to the finest: `refine(SFA(X_s) + up(D_s F_(s+1)))`."""
        levels: list[Tensor] = []
        descend = [*self.descend, None] if self.descend is not None else [None] * len(features)
        parts = list(zip(features, self.attend, descend, self.refine, strict=True))
        for feature, attend, down, refine in reversed(parts):
            level = attend(feature)
            if levels and down is not None:
                level = resample(down(levels[0]), level.shape[-2:]).add_(level)
            levels.insert(0, refine(level))
        return levels

    def _prediction(self, features: Sequence[Tensor], levels: Sequence[Tensor]) -> Tensor:
        fused = self.norm(self.fuse(levels))
        if self.context is not None:
            fused.add_(self.context(levels[-1].mean(dim=(2, 3), keepdim=True)))
        fused = F.relu(fused, inplace=True)
        prediction = self.predict(fused if self.refine_fused is None else self.refine_fused(fused))
        if self.shortcut is not None:
            read = [part(x) for part, x in zip(self.shortcut, features, strict=True)]
            # In place, but not into a projection: what that gives is a view in training, and the
            # gradient of a write into a view takes copies in another layout.
            prediction = _from_the_coarsest(read).add_(prediction)
        return F.pixel_shuffle(prediction, self.subpixel) if self.subpixel > 1 else prediction

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0 · subpixel, w_0 · subpixel)`."""
        return self._prediction(features, self._levels(features))

    def training_outputs(self, features: Sequence[Tensor]) -> list[tuple[float, Tensor]]:
        """The prediction and, with deep supervision, one of each level on its own."""
        levels = self._levels(features)
        outputs = [(1.0, self._prediction(features, levels))]
        if self.level_predict is not None:
            weight = self.supervision / len(levels)
            outputs += [
                (weight, predict(level))
                for predict, level in zip(self.level_predict, levels, strict=True)
            ]
        return outputs

    def fold_(self) -> None:
        """Have the fusion do what its normalisation does, where one projection reads the result."""
        if self.refine_fused is None and self.fuse.fold_norm(self.norm, self.context, self.predict):
            self.norm = nn.Identity()


def _from_the_coarsest(levels: Sequence[Tensor]) -> Tensor:
    """Sum of maps of equal channels, resampled from level to level, at the finest."""
    *finer, total = levels
    for level in reversed(finer):
        total = resample(total, level.shape[-2:]).add_(level)
    return total


def level_widths(features: FeatureInfo, width: int) -> tuple[int, ...]:
    """Width of each level: `width` at the finest, in proportion to the stride above it.

    Channels are nearly free where the map is coarse, and many classes must be read off the coarse
    levels. No level gets more than 8 × `width`, or more than the backbone has there. All are
    multiples of 16 where that many are left: processors work on channels in blocks of that size.
    """
    finest = features.strides[0]
    wanted = (
        min(channels, width * min(8, stride // finest))
        for channels, stride in zip(features.channels, features.strides, strict=True)
    )
    return tuple(count - count % 16 or count for count in wanted)
