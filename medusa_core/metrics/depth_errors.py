"""Errors of positive distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.metrics._counts import check_shapes, sum_per_image

_DELTA = 1.25
_SMALLEST = 1e-6


class DepthErrors(Metric):
    """Figures `rmse` (unit of the target), `absrel`, `rmse_log` and `delta1`.

    All are pooled over the valid pixels of the whole set, not averaged over images. `absrel` is
    |p - t| / t, `rmse_log` uses natural logarithms, `delta1` is the fraction of pixels with
    max(p / t, t / p) < 1.25 (Eigen, Puhrsch & Fergus, NeurIPS 2014). In logarithms and ratios,
    predictions below 1e-6 count as that. A prediction that is NaN makes all of them NaN.

    Statistics: sums of squared, relative and squared log errors, hits, pixels (`K = 5`). The sums
    of an image are rounded to multiples of 2^-20, so that they add exactly up to 2^33. For an image
    of n valid pixels, an `rmse` or `rmse_log` below 7e-4 / √n, or an `absrel` below 5e-7 / n,
    counts as 0; a smaller unit of the target makes the `rmse` larger.
    """

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Sums over `(B, H, W) float32` maps of positive values; see `Metric.statistics`."""
        check_shapes(decoded, target, valid)
        one = torch.ones((), dtype=torch.float64, device=target.device)
        predicted = torch.where(valid, decoded.double(), one)
        true = torch.where(valid, target.double(), one).clamp_min(_SMALLEST)
        error = predicted - true
        ratio = predicted.clamp_min(_SMALLEST) / true
        near = (ratio < _DELTA) & (ratio > 1 / _DELTA) & valid
        terms = (error.square(), error.abs() / true, ratio.log().square(), near, valid)
        return torch.stack([sum_per_image(term) for term in terms], dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        """Figures from pooled sums; see `Metric.compute`."""
        squared, relative, squared_log, near, pixels = total.tolist()
        if pixels == 0 or math.isnan(squared):
            return dict.fromkeys(("rmse", "absrel", "rmse_log", "delta1"), math.nan)
        return {
            "rmse": math.sqrt(squared / pixels),
            "absrel": relative / pixels,
            "rmse_log": math.sqrt(squared_log / pixels),
            "delta1": near / pixels,
        }
