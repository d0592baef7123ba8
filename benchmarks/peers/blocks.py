"""Parts that the peers share. Convolutions have no bias and a BatchNorm, unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medusa_core.heads.blocks import conv_norm, resample


class _Residual(nn.Module):
    """`relu(shortcut(x) + layers(x))`; the shortcut is a 1×1 where the channels change."""

    def __init__(self, inputs: int, outputs: int, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if inputs == outputs else conv_norm(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h, w)`."""
        return F.relu(self.shortcut(x) + self.layers(x))


class BasicBlock(_Residual):
    """Two 3×3 convolutions, as in ResNet-18 (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            inputs,
            outputs,
            conv_norm(inputs, outputs, 3),
            nn.ReLU(),
            conv_norm(outputs, outputs, 3),
        )


class Bottleneck(_Residual):
    """1×1 to a quarter of the outputs, 3×3, 1×1, as in ResNet-50 (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        middle = outputs // 4
        super().__init__(
            inputs,
            outputs,
            conv_norm(inputs, middle),
            nn.ReLU(),
            conv_norm(middle, middle, 3),
            nn.ReLU(),
            conv_norm(middle, outputs),
        )


class SpatialAttention(nn.Module):
    """What one task takes from another: `sigmoid(A * x) ⊙ (V * x)`, both 3×3, no BatchNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.value = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` → the same shape."""
        return torch.sigmoid(self.mask(x)) * self.value(x)


class SqueezeExcitation(nn.Module):
    """A factor for every channel, from the means of all (Hu et al., CVPR 2018), ratio 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(1, channels // 16)
        self.layers = nn.Sequential(
            nn.Linear(channels, middle), nn.ReLU(), nn.Linear(middle, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` → the same shape."""
        return x * self.layers(x.mean(dim=(2, 3)))[:, :, None, None]


class PerTask(nn.ModuleDict):
    """A module a task. Keys are prefixed: `train`, `float`, … are taken by `nn.Module`."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__({f"task_{name}": module for name, module in modules.items()})

    def of(self, name: str) -> Any:
        """The module of one task."""
        return self[f"task_{name}"]

    def each(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every task's module on that task's input."""
        return {name: self.of(name)(x) for name, x in inputs.items()}


class PairwiseDistillation(nn.Module):
    """Adds to each task's feature what `SpatialAttention` takes from every other task's.

    Its cost grows with the number of ordered pairs. With a single task it does nothing.
    """

    def __init__(self, names: Sequence[str], channels: int) -> None:
        super().__init__()
        self.takers = PerTask(
            {
                taker: PerTask({giver: SpatialAttention(channels) for giver in others})
                for taker, others in _others(names)
            }
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task → `(B, channels, h, w)`; the same shapes."""
        result = {}
        for taker, others in _others(list(features)):
            result[taker] = features[taker]
            for giver in others:
                result[taker] = result[taker] + self.takers.of(taker).of(giver)(features[giver])
        return result


def concatenated(features: Sequence[Tensor]) -> Tensor:
    """All levels at the size of the finest, as one `(B, Σ C_i, h_0, w_0)`."""
    size = features[0].shape[-2:]
    return torch.cat([resample(level, size) for level in features], dim=1)


def fusion(channels: int) -> nn.Sequential:
    """1×1 with bias, BatchNorm, ReLU over concatenated levels (Sun et al., HRNetV2, 2019)."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())


def _others(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for name in names:
        yield name, [other for other in names if other != name]
