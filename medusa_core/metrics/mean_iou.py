"""Intersection over union of classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.errors import DataError
from medusa_core.metrics._counts import check_shapes, count_per_image


class MeanIoU(Metric):
    """Figures `miou`, `pixel_accuracy` (fractions in `[0, 1]`) and `classes`.

    IoU is tp / (tp + fp + fn) of counts pooled over the whole set, averaged over the classes that
    occur in the ground truth; `classes` is how many those are. A class that is only predicted
    lowers the IoU of the classes it was taken for, and is not averaged itself.

    Statistics: for each class the pixels that are right, predicted and true (`K = 3 C`).
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Counts from `(B, H, W) int64` class maps; see `Metric.statistics`.

        Raises:
            DataError: a valid pixel of the target is not one of the classes.
        """
        check_shapes(decoded, target, valid)
        self._check_range(decoded, target, valid)
        skip = self.num_classes
        true = torch.where(valid, target, skip)
        predicted = torch.where(valid, decoded, skip)
        right = torch.where(true == predicted, true, skip)
        counts = [count_per_image(bins, skip) for bins in (right, predicted, true)]
        return torch.cat(counts, dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        """Figures from pooled counts; see `Metric.compute`."""
        right, predicted, true = total.reshape(3, self.num_classes)
        present = true > 0
        classes = int(present.sum())
        if classes == 0:
            return {"miou": math.nan, "pixel_accuracy": math.nan, "classes": math.nan}
        iou = right[present] / (predicted + true - right)[present]
        return {
            "miou": float(iou.mean()),
            "pixel_accuracy": float(right.sum() / true.sum()),
            "classes": float(classes),
        }

    def _check_range(self, decoded: Tensor, target: Tensor, valid: Tensor) -> None:
        if target.numel() == 0:
            return
        count = self.num_classes
        for classes in (target, decoded):
            low, high = (int(value) for value in torch.where(valid, classes, 0).aminmax())
            if low >= 0 and high < count:
                continue
            wrong = f"class {low if low < 0 else high} of {count} (0 to {count - 1})"
            if classes is decoded:
                raise ValueError(f"the prediction holds {wrong}")
            raise DataError(
                f"The target holds {wrong}.",
                hint="Check the ignore index and the label names of the data set.",
            )
