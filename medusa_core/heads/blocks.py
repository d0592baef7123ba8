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


def resample(level: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resampling of `(B, C, h, w)` to `(B, C, *size)`; the input itself if it fits."""
    if level.shape[-2:] == torch.Size(size):
        return level
    return F.interpolate(level, size=tuple(size), mode="bilinear", align_corners=False)


class FeatureAttention(nn.Module):
    """SFA: a learned mask over a learned projection, `sigmoid(A * X) ⊙ relu(V * X)`.

    The shared feature is what every task sees; the mask and projection are the task's own.
    `(B, inputs, h, w)` → `(B, outputs, h, w)`.
    """

    def __init__(self, inputs: int, outputs: int, mask: bool = True) -> None:
        super().__init__()
        self.value = conv_norm(inputs, outputs)
        self.mask = conv_norm(inputs, outputs) if mask else None

    def forward(self, feature: Tensor) -> Tensor:
        """Select from a shared feature what the task needs."""
        value = F.relu(self.value(feature))
        return value if self.mask is None else torch.sigmoid(self.mask(feature)) * value


class Refinement(nn.Module):
    """Residual 3×3 refinement of one level: two full convolutions, or a cheap separable one."""

    def __init__(self, width: int, separable: bool) -> None:
        super().__init__()
        if separable:
            self.layers = nn.Sequential(
                conv_norm(width, width, 3, groups=width), nn.ReLU(), conv_norm(width, width)
            )
        else:
            self.layers = nn.Sequential(
                conv_norm(width, width, 3), nn.ReLU(), conv_norm(width, width, 3)
            )

    def forward(self, feature: Tensor) -> Tensor:
        """`(B, width, h, w)` → the same shape."""
        return F.relu(feature + self.layers(feature))


class ScaleAttention(nn.Module):
    """MSA: per pixel, a softmax over the levels weighs their projections.

    `G = Σ_s softmax_s(up(w_s · F_s)) ⊙ up(P_s F_s)`. Each level is projected before it is
    upsampled, which equals projecting after (both are linear) at a fraction of the cost. Without
    attention the projections are averaged.
    """

    def __init__(self, inputs: Sequence[int], outputs: int, attention: bool = True) -> None:
        super().__init__()
        self.outputs = outputs
        self.project = nn.ModuleList(
            nn.Conv2d(width, outputs + attention, 1, bias=True) for width in inputs
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels, finest first → `(B, outputs, h_0, w_0)`."""
        size = features[0].shape[-2:]
        levels = [
            resample(project(x), size) for project, x in zip(self.project, features, strict=True)
        ]
        stacked = torch.stack(levels)
        values = stacked[:, :, : self.outputs]
        if stacked.shape[2] == self.outputs:
            return values.mean(dim=0)
        return (stacked[:, :, self.outputs :].softmax(dim=0) * values).sum(dim=0)
