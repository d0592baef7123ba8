"""Angles between directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.metrics._counts import check_shapes, count_per_image, sum_per_image

_WIDTH = 3 / 32
"""Degrees a bin: a binary fraction of which 11.25, 22.5, 30 and 180 are whole multiples."""
_BINS = 1 + round(180 / _WIDTH)
"""The first bin holds angles that are zero up to rounding."""
_ZERO = 1e-3
_SHORTEST = 1e-6


class AngularErrors(Metric):
    """Figures `mean_angle`, `median_angle` (degrees) and `within_11_25`, `_22_5`, `_30` (%).

    All are pooled over the valid pixels of the whole set. The median is interpolated in a histogram
    with bins of 3/32 degree; the percentages count angles strictly below the limit. A prediction
    that is NaN makes all of them NaN.

    Statistics: sum of angles and the histogram (`K = 1922`).
    """

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Sums over `(B, C, H, W) float32` vectors; see `Metric.statistics`."""
        check_shapes(decoded, target, valid)
        angle = angle_between(decoded, target).masked_fill_(~valid, 0)
        bins = (angle / _WIDTH).nan_to_num(nan=_BINS).long().add_(1).clamp_(max=_BINS - 1)
        bins[angle < _ZERO] = 0
        histogram = count_per_image(bins.masked_fill_(~valid, _BINS), _BINS)
        return torch.cat([sum_per_image(angle)[:, None], histogram], dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        """Figures from pooled sums; see `Metric.compute`."""
        histogram = total[1:]
        pixels = float(histogram.sum())
        limits = {"within_11_25": 11.25, "within_22_5": 22.5, "within_30": 30.0}
        if pixels == 0 or math.isnan(total[0]):
            return dict.fromkeys(("mean_angle", "median_angle", *limits), math.nan)
        within = {
            name: 100 * float(histogram[: 1 + round(limit / _WIDTH)].sum()) / pixels
            for name, limit in limits.items()
        }
        return {
            "mean_angle": float(total[0]) / pixels,
            "median_angle": _median(histogram, pixels),
            **within,
        }


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Angle in degrees between `(B, C, …)` vectors along axis 1, `(B, …) float64`.

    Their lengths may be from 1e-6 to 1e18; a shorter vector counts as up to 90° from all others.

    Uses 2 atan2(|a - b|, |a + b|) of unit vectors (Kahan), exact to rounding at every angle, where
    the arc cosine of a float32 dot product cannot tell angles below 0.02 degrees apart.
    """
    a = first / _length(first).clamp_min(_SHORTEST).unsqueeze(1)
    b = second / _length(second).clamp_min(_SHORTEST).unsqueeze(1)
    # In float32 the last bit of an arc tangent depends on its place in the vector registers.
    half = torch.atan2(_length(a - b).double(), _length(a + b).double())
    return half.mul_(360 / math.pi)


def _length(vectors: Tensor) -> Tensor:
    """Length along axis 1, added channel by channel.

    `Tensor.norm` picks the order of its sum by the shape of the batch, which shows in the last bit.
    """
    x, *others = vectors.unbind(1)
    squared = x * x
    for other in others:
        squared = squared + other * other
    return squared.sqrt()


def _median(histogram: Tensor, pixels: float) -> float:
    below = histogram.cumsum(0)
    index = int((below >= pixels / 2).nonzero()[0])
    if index == 0:
        return 0.0
    inside = (pixels / 2 - float(below[index - 1])) / float(histogram[index])
    return (index - 1 + inside) * _WIDTH
