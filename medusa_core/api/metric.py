"""What a metric is: additive statistics of single images, and figures computed from their sum.

Because statistics add, a metric is pooled over the whole set by construction, merges over any
sharding, and is bootstrapped over images without a second pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class Metric(ABC):
    """One or more figures of a task. Metrics hold settings only, no state."""

    costly: ClassVar[bool] = False
    """Too slow to choose weights by: trainings leave it out, `medusa eval` reports it. A metric
    with the primary figure must not be."""

    @abstractmethod
    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Additive statistics of each image.

        Args:
            decoded: `(B, …)` what `Task.decode` returned.
            target: `(B, H, W)` or `(B, C, H, W)` (dense), `(B, …)` (global), of all
                pixels, float32 or int64 as for `Task.loss`.
            valid: `(B, H, W) bool` (dense) or `(B,) bool` (global): where the target counts.

        Returns:
            `(B, K) float64`. An image without a valid pixel must contribute zeros.
        """

    @abstractmethod
    def compute(self, total: Tensor) -> dict[str, float]:
        """Figures from a sum of statistics over images.

        Args:
            total: `(K,) float64`.

        Returns:
            Name of a `MetricRef` of the task → value; NaN where nothing was counted.
        """
