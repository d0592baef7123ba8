"""Parts that head architectures are built from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, same size, followed by batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def start_at_zero(layer: nn.Module) -> None:
    """Give a layer the parameters 0, so that it adds nothing before it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def resample(level: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resampling of `(B, C, h, w)` to `(B, C, *size)`; the input itself if it fits."""
    if level.shape[-2:] == torch.Size(size):
        return level
    return F.interpolate(level, size=tuple(size), mode="bilinear", align_corners=False)


class FeatureAttention(nn.Module):
    """SFA: a learned mask over a learned projection, `sigmoid(A * X) ⊙ relu(V * X)`.

    The shared feature is what every task sees; the mask and projection are the task's own. `kind`
    says what the mask tells apart: "both" positions and channels, "spatial" positions only,
    "channel" channels only (from their means over the image), "none" nothing: no mask.
    `(B, inputs, h, w)` → `(B, outputs, h, w)`.
    """

    def __init__(self, inputs: int, outputs: int, kind: str = "both") -> None:
        super().__init__()
        self.value = conv_norm(inputs, outputs)
        self.mask: nn.Module | None = None
        if kind == "both":
            self.mask = conv_norm(inputs, outputs)
        elif kind == "spatial":
            self.mask = conv_norm(inputs, 1)
        elif kind == "channel":
            middle = max(8, inputs // 4)
            self.mask = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(inputs, middle, 1),
                nn.ReLU(),
                nn.Conv2d(middle, outputs, 1),
            )

    def forward(self, feature: Tensor) -> Tensor:
        """Select from a shared feature what the task needs."""
        value = F.relu(self.value(feature), inplace=True)
        return value if self.mask is None else torch.sigmoid_(self.mask(feature)) * value


class Refinement(nn.Module):
    """Residual refinement of one level by some 3×3 convolutions, full or separable ones.

    The residual starts at zero (its last normalisation has weight 0): a new head begins with the
    features as they are, which keeps the rare classes of small data sets.
    """

    def __init__(self, width: int, separable: bool, convolutions: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            if separable:
                layers += [conv_norm(width, width, 3, groups=width), nn.ReLU(inplace=True)]
            layers += [conv_norm(width, width, 1 if separable else 3), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        start_at_zero(list(self.layers.modules())[-1])

    def forward(self, feature: Tensor) -> Tensor:
        """`(B, width, h, w)` → the same shape."""
        return F.relu(feature + self.layers(feature), inplace=True)


class ScaleFusion(nn.Module):
    """Levels at one resolution, one feature: MSA, or what it is compared with.

    "attention" is MSA, a softmax over the levels for every pixel:
    `G = Σ_s softmax_s(up(w_s · F_s)) ⊙ up(P_s F_s)`. "sum" leaves the softmax out; that is also
    what a 1×1 convolution of the concatenated levels computes. "concatenation" keeps all channels.
    Each level is projected before it is upsampled, which equals projecting after (both are linear)
    at a fraction of the cost.

    Attributes:
        outputs: channels of the result.
    """

    def __init__(self, inputs: Sequence[int], width: int, kind: str = "attention") -> None:
        super().__init__()
        self.kind = kind
        self.outputs = sum(inputs) if kind == "concatenation" else width
        self.project = nn.ModuleList(
            nn.Identity()
            if kind == "concatenation"
            else nn.Conv2d(channels, width + (kind == "attention"), 1)
            for channels in inputs
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels, finest first → `(B, outputs, h_0, w_0)`."""
        size = features[0].shape[-2:]
        levels = [
            resample(project(x), size) for project, x in zip(self.project, features, strict=True)
        ]
        if self.kind == "concatenation":
            return torch.cat(levels, dim=1)
        if self.kind == "sum":
            return sum(levels[1:], start=levels[0])
        weights = torch.cat([level[:, self.outputs :] for level in levels], dim=1).softmax(dim=1)
        # One level at a time: stacked, they are several times dearer than the rest of the head.
        fused = levels[0][:, : self.outputs] * weights[:, :1]
        for index in range(1, len(levels)):
            fused = fused.addcmul_(levels[index][:, : self.outputs], weights[:, index : index + 1])
        return fused
