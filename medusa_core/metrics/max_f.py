"""F-measure of a probability map at its best threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.metrics._counts import check_shapes, count_per_image


class MaxF(Metric):
    """One figure, `name`: the best F over thresholds, a fraction in `[0, 1]`.

    F = (1 + b) P R / (b P + R) with b = `beta2`, from counts of pixels pooled over the whole set at
    each threshold; a pixel is predicted positive where its probability is at least the threshold.
    Pixels must match exactly: there is no thinning and no tolerance in position, so for boundaries
    this is stricter than, and not comparable with, the odsF of the BSDS benchmark.

    Statistics: for each threshold the true and the predicted positives, then the positives
    (`K = 2 T + 1`).
    """

    def __init__(self, name: str, beta2: float, thresholds: Sequence[float]) -> None:
        if not thresholds or sorted(set(thresholds)) != list(thresholds):
            raise ValueError("thresholds must be increasing, and at least one")
        self.name = name
        self.beta2 = beta2
        self.thresholds = tuple(thresholds)

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Counts from `(B, H, W)` probabilities in `[0, 1]` and int64 maps, 1 being positive."""
        check_shapes(decoded, target, valid)
        size = len(self.thresholds) + 1
        edges = torch.tensor(self.thresholds, dtype=decoded.dtype, device=decoded.device)
        reached = torch.bucketize(decoded.contiguous(), edges, right=True)
        reached.masked_fill_(decoded.isnan(), 0)  # reaches no threshold
        bins = torch.where(target == 1, reached + size, reached)
        counts = count_per_image(bins.masked_fill_(~valid, 2 * size), 2 * size)
        negative, positive = counts.reshape(-1, 2, size).unbind(1)
        at_least = [each.flip(1).cumsum(1).flip(1) for each in (positive, negative + positive)]
        return torch.cat([each[:, 1:] for each in at_least] + [at_least[0][:, :1]], dim=1)

    def compute(self, total: Tensor) -> dict[str, float]:
        """The best F from pooled counts, NaN where there are no positives; see `Metric.compute`."""
        positives = float(total[-1])
        if positives == 0:
            return {self.name: math.nan}
        right, predicted = total[:-1].reshape(2, -1)
        scores = (1 + self.beta2) * right / (self.beta2 * positives + predicted)
        return {self.name: float(scores.max())}
