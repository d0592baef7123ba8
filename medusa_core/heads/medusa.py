"""The default head: shared feature attention, refinement, multi-scale attention, prediction.

After Spencer, Bowden and Hadfield, "Medusa: Universal Feature Learning via Attentional
Multitasking" (CVPR Workshops 2022). The equations are our reading of it (no code was published).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

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
from medusa_core.heads.side_by_side import side_by_side


class MedusaHead(Head, Foldable):
    """SFA and refinement on every level, MSA across them, one prediction at the finest stride."""

    recordable = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: MedusaConfig) -> None:
        super().__init__()
        widths = level_widths(features, config.width)
        self.family = (widths, config.feature_attention, config.refinement, config.top_down)
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

    @classmethod
    def side_by_side(cls, heads: Sequence[Head]) -> nn.Module | None:
        """All levels but the finest as channels of common maps, on which calls take most time."""
        own = [head for head in heads if type(head) is MedusaHead]
        try:
            return _SideBySide(own) if len(own) == len(heads) else None
        except ValueError:  # parts that cannot be given more channels, or one level
            return None

    def from_coarse(self, features: Sequence[Tensor], coarse: Sequence[Tensor]) -> Tensor:
        """The prediction, where what is read off all levels but the finest is known."""
        return self._prediction(features, _read(features[:1], _parts(self)[:1], coarse))

    def _levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        return _read(features, _parts(self))

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


class _SideBySide(nn.Module):
    """Several heads: their coarse levels together, then what is left of one after the other.

    Raises:
        ValueError: they do not fit together, or there is one level.
    """

    def __init__(self, heads: Sequence[MedusaHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_without_coarse(head) for head in heads)
        _, *coarse = zip(*map(_parts, heads), strict=True)
        if not coarse:
            raise ValueError("one level")
        attend, descend, refine = zip(*(zip(*level, strict=True) for level in coarse), strict=True)
        self.attend = nn.ModuleList(side_by_side(parts, shared=True) for parts in attend)
        if len({head.descend is None for head in heads}) > 1:
            raise ValueError("coarser levels are added by some")
        self.descend = None
        if heads[0].descend is not None:
            self.descend = nn.ModuleList(side_by_side(parts) for parts in descend[:-1])
        self.refine = nn.ModuleList(side_by_side(parts) for parts in refine)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """A prediction of each head."""
        levels = _read(features[1:], _parts(self))
        own = zip(*(level.chunk(len(self.heads), dim=1) for level in levels), strict=True)
        heads: Any = self.heads
        return [head.from_coarse(features, coarse) for head, coarse in zip(heads, own, strict=True)]


def _without_coarse(head: MedusaHead) -> MedusaHead:
    rest = copy.copy(head)
    rest._modules = dict(head._modules)
    rest.attend, rest.refine, rest.level_predict = head.attend[:1], head.refine[:1], None
    if head.descend is not None:
        rest.descend = head.descend[:1]
    return rest


def _parts(network: Any) -> list[tuple[Any, Any, Any]]:
    """What reads each level: its attention, what adds the coarser one, its refinement."""
    descend = [None] * (len(network.attend) - 1) if network.descend is None else network.descend
    return list(zip(network.attend, [*descend, None], network.refine, strict=False))


def _read(
    features: Sequence[Tensor], parts: Sequence[Any], coarse: Sequence[Tensor] = ()
) -> list[Tensor]:
    """From the coarsest level to the finest: `F_s = refine(SFA(X_s) + up(D_s F_(s+1)))`.

    Returns:
        All `F_s`, finest first, and then those coarser ones that were known.
    """
    levels = list(coarse)
    for feature, (attend, down, refine) in zip(reversed(features), reversed(parts), strict=True):
        level = attend(feature)
        if levels and down is not None:
            level = resample(down(levels[0]), level.shape[-2:]).add_(level)
        levels.insert(0, refine(level))
    return levels


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
