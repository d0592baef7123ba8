"""How far numbers are off."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.metrics._counts import check_shapes, sum_per_image


class MeanAbsoluteError(Metric):
    """Figure `mae`, in the unit of the target: mean of |p - t| over what is known in the whole set.

    That is every channel of every valid pixel, or image for one value an image; a target that holds
    NaN in some channels is not known there. A prediction that is NaN makes it NaN.

    Statistics: sum of errors, their number (`K = 2`). The sum of an image is rounded to a multiple
    of 2^-20, so that sums add exactly up to 2^33.
    """

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Sums over `(B, …)` numbers of one shape; see `Metric.statistics`."""
        check_shapes(decoded, target, valid)
        known = valid.unsqueeze(1) if target.ndim > valid.ndim else valid
        known = known & ~target.isnan()
        error = torch.where(known, decoded.double() - target.double(), 0.0).abs()
        return torch.stack([sum_per_image(error), sum_per_image(known)], dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        """The mean; see `Metric.compute`."""
        error, numbers = total.tolist()
        return {"mae": error / numbers if numbers else math.nan}
