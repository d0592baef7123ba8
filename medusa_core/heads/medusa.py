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
    CHANNEL_BLOCK,
    FeatureAttention,
    Foldable,
    Pointwise,
    Refinement,
    ScaleFusion,
    enlarged,
    resample,
    start_at_zero,
)
from medusa_core.heads.configs import MedusaConfig
from medusa_core.heads.side_by_side import side_by_side

_FINEST = 2
"""Heads whose finest levels are read together: more do not stay in the processor's cache."""


class MedusaHead(Head, Foldable):
    """SFA and refinement on every level, MSA across them, one prediction at the finest stride."""

    recordable = True
    upsamples = True

    def __init__(self, features: FeatureInfo, out_channels: int, config: MedusaConfig) -> None:
        super().__init__()
        self.upsampling = features.upsampling
        widths = level_widths(features, config.width)
        if not any(width % CHANNEL_BLOCK for width in widths):  # or bits depend on the place
            self.family = (widths, config.feature_attention, config.refinement, config.top_down)
        self.attend = nn.ModuleList(
            FeatureAttention(inputs, width, config.feature_attention, factor)
            for inputs, width, factor in zip(
                features.channels, widths, self.upsampling, strict=True
            )
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
        """Levels as channels of common maps: operations on coarse ones are mostly calls."""
        own = [head for head in heads if type(head) is MedusaHead]
        try:
            return _SideBySide(own) if len(own) == len(heads) else None
        except ValueError:  # parts that cannot be given more channels
            return None

    def _levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What is read off every level, finest first."""
        levels: list[Tensor] = []
        for feature, parts in zip(reversed(features), reversed(_parts(self)), strict=True):
            levels.insert(0, _read(feature, *levels[:1], parts=parts))
        return levels

    def prediction(self, features: Sequence[Tensor], levels: Sequence[Tensor]) -> Tensor:
        """From what is read off every level; `features` for the shortcut."""
        fused = self.norm(self.fuse(levels))
        if self.context is not None:
            fused.add_(self.context(levels[-1].mean(dim=(2, 3), keepdim=True)))
        fused = F.relu(fused, inplace=True)
        prediction = self.predict(fused if self.refine_fused is None else self.refine_fused(fused))
        if self.shortcut is not None:
            read = [
                enlarged(part(x), factor)
                for part, x, factor in zip(self.shortcut, features, self.upsampling, strict=True)
            ]
            # In place, but not into a projection: what that gives is a view in training, and the
            # gradient of a write into a view takes copies in another layout.
            prediction = _from_the_coarsest(read).add_(prediction)
        return F.pixel_shuffle(prediction, self.subpixel) if self.subpixel > 1 else prediction

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h_0 · subpixel, w_0 · subpixel)`."""
        return self.prediction(features, self._levels(features))

    def training_outputs(self, features: Sequence[Tensor]) -> list[tuple[float, Tensor]]:
        """The prediction and, with deep supervision, one of each level on its own."""
        levels = self._levels(features)
        outputs = [(1.0, self.prediction(features, levels))]
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
    """Several heads: coarse levels together, the finest by twos, the rest one after the other.

    Raises:
        ValueError: they do not fit together.
    """

    def __init__(self, heads: Sequence[MedusaHead]) -> None:
        super().__init__()
        finest, *coarse = zip(*map(_parts, heads), strict=True)
        self.coarse = nn.ModuleList(_Level(level) for level in coarse)
        self.finest = nn.ModuleList(
            _Level(finest[start : start + _FINEST]) for start in range(0, len(heads), _FINEST)
        )
        self.rest: Any = nn.ModuleList(_without_levels(head) for head in heads)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """A prediction of each head."""
        coarse: list[Tensor] = []
        for feature, level in zip(reversed(features[1:]), reversed(self.coarse), strict=True):
            coarse.insert(0, level(feature, *coarse[:1]))
        own = [level.unflatten(1, (len(self.rest), -1)).split(_FINEST, dim=1) for level in coarse]
        predictions: list[Tensor] = []
        for index, finest in enumerate(self.finest):
            levels = [group[index].flatten(1, 2) for group in own]
            levels.insert(0, finest(features[0], *levels[:1]))
            for mine in zip(*(level.chunk(finest.heads, dim=1) for level in levels), strict=True):
                predictions.append(self.rest[len(predictions)].prediction(features, mine))
        return predictions


class _Level(nn.Module):
    """What reads one level for several heads: `(B, heads · channels, h, w)`."""

    def __init__(self, parts: Sequence[tuple[Any, Any, Any]]) -> None:
        super().__init__()
        self.heads = len(parts)
        attend, down, refine = zip(*parts, strict=True)
        if len({part is None for part in down}) > 1:
            raise ValueError("coarser levels are added by some")
        self.attend = side_by_side(attend, shared=True)
        self.down = None if down[0] is None else side_by_side(down)
        self.refine = side_by_side(refine)

    def forward(self, feature: Tensor, coarser: Tensor | None = None) -> Tensor:
        """`feature` is that of the backbone, `coarser` what was read off the next level."""
        return _read(feature, coarser, parts=(self.attend, self.down, self.refine))


def _without_levels(head: MedusaHead) -> MedusaHead:
    rest = copy.copy(head)
    rest._modules = dict(head._modules)
    rest.attend, rest.refine = nn.ModuleList(), nn.ModuleList()
    rest.descend = rest.level_predict = None
    return rest


def _parts(head: MedusaHead) -> list[tuple[Any, Any, Any]]:
    """What reads each level: its attention, what adds the coarser one, its refinement."""
    descend = [None] * len(head.attend) if head.descend is None else [*head.descend, None]
    return list(zip(head.attend, descend, head.refine, strict=True))


def _read(feature: Tensor, coarser: Tensor | None = None, *, parts: tuple[Any, Any, Any]) -> Tensor:
    """`F_s = refine(SFA(X_s) + up(D_s F_(s+1)))`."""
    attend, down, refine = parts
    level: Tensor = attend(feature)
    if coarser is not None and down is not None:
        level = resample(down(coarser), level.shape[-2:]).add_(level)
    level = refine(level)
    return level


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
    multiples of `CHANNEL_BLOCK` where that many are left.
    """
    finest = features.strides[0]
    wanted = (
        min(channels, width * min(8, stride // finest))
        for channels, stride in zip(features.channels, features.strides, strict=True)
    )
    return tuple(count - count % CHANNEL_BLOCK or count for count in wanted)
