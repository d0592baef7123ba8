"""The boundary scores of the BSDS benchmark: ODS, OIS and AP."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.metrics._counts import check_shapes
from medusa_core.metrics.boundary_matching import count_matches
from medusa_core.metrics.thinning import thin

_THRESHOLDS = torch.tensor([step / 100 for step in range(1, 100)], dtype=torch.float64)
_COUNT = len(_THRESHOLDS)
_PIXELS = 1 << 17
"""Of all the maps that are thinned and matched at once, so that they stay in the cache."""


class BoundaryF(Metric):
    """Figures `odsf`, `oisf` and `ap` of a boundary probability, fractions in `[0, 1]`.

    At each threshold 0.01, 0.02 … 0.99, pixels that reach it are thinned (`thin`) and matched with
    the thinned true boundary, one to one, within `max_distance` times the diagonal of the image
    (`count_matches`). Precision is matched over predicted pixels, recall matched over true ones, F
    their harmonic mean; counts are pooled over the set before any of them is formed.

    * `odsf`: F at the one threshold that is best for the set.
    * `oisf`: F of the counts of each image at the threshold that is best for it; of equally good
      ones, at the highest.
    * `ap`: area under precision over recall. Between the recalls of the thresholds precision is
      linear, below the lowest it is that at the lowest, above the highest it is zero; of thresholds
      of equal recall the best precision counts, and thresholds that predict nothing do not.

    Pixels that are invalid are on neither side: predicted and true boundaries are cleared there
    before they are thinned. A predicted pixel beside an invalid region whose true counterpart lies
    in that region counts as wrong.

    Differences from the benchmark's program (Arbelaez et al., IEEE TPAMI 33, 2011): it looks for
    the best F between the thresholds, too; its area is zero below the lowest recall; it takes the
    lowest of an image's equally good thresholds; it does not thin the truth, which is thin there.
    Where several people drew the boundaries of an image, it matches each drawing alone; here an
    image has one true map.

    Statistics: at each threshold the matched and the predicted pixels, then both at the best
    threshold of the image, then the true ones (`K = 201`).
    """

    costly: ClassVar[bool] = True

    def __init__(self, max_distance: float = 0.0075) -> None:
        if not 0 <= max_distance <= 1:
            raise ValueError(f"max_distance is {max_distance}, not from 0 to 1")
        self.max_distance = max_distance

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Counts from `(B, H, W)` probabilities in `[0, 1]` and int64 maps, 1 being boundary."""
        check_shapes(decoded, target, valid)
        edges = _THRESHOLDS.to(decoded.device, decoded.dtype)
        reached = torch.bucketize(decoded.contiguous(), edges, right=True)
        reached = reached.masked_fill(~valid | decoded.isnan(), 0).to(torch.uint8)
        images = zip(reached.cpu().numpy(), ((target == 1) & valid).cpu().numpy(), strict=True)
        counts = np.array([self._count(*image) for image in images])
        return torch.from_numpy(counts.reshape(-1, 2 * _COUNT + 3))

    def compute(self, total: Tensor) -> dict[str, float]:
        """Figures from pooled counts, NaN where there is no true boundary; see `Metric.compute`."""
        true = float(total[-1])
        if true == 0:
            return dict.fromkeys(("odsf", "oisf", "ap"), math.nan)
        matched, predicted = total[:-3].reshape(2, _COUNT)
        matched_best, predicted_best = total[-3:-1].tolist()
        return {
            "odsf": float((2 * matched / (predicted + true)).max()),
            "oisf": 2 * matched_best / (predicted_best + true),
            "ap": _area(matched, predicted, true),
        }

    def _count(self, reached: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Statistics of one image.

        Args:
            reached: `(H, W) uint8`, how many thresholds each pixel reaches.
            true: `(H, W) bool`.
        """
        line = thin(true)
        radius = self.max_distance * math.hypot(*true.shape)
        occurs = np.bincount(reached.reshape(-1), minlength=_COUNT + 1)[:_COUNT] > 0
        occurs[0] = True
        levels = np.flatnonzero(occurs)  # no pixel falls out at the thresholds between them
        at_once = max(1, _PIXELS // max(1, reached.size))
        counts = [
            _count_at(reached, levels[start : start + at_once], line, radius)
            for start in range(0, len(levels), at_once)
        ]
        found = np.concatenate(counts, axis=1, dtype=np.float64)
        matched, predicted = found[:, np.cumsum(occurs) - 1]
        pixels = np.count_nonzero(line)
        scores = 2 * matched / np.maximum(predicted + pixels, 1)
        best = _COUNT - 1 - int(scores[::-1].argmax())
        return np.concatenate([matched, predicted, [matched[best], predicted[best], pixels]])


def _count_at(
    reached: np.ndarray, levels: np.ndarray, line: np.ndarray, radius: float
) -> np.ndarray:
    """`(2, N)` matched and predicted pixels of the maps that reach more than N numbers."""
    drawn = thin(reached > levels[:, None, None])
    return np.stack([count_matches(drawn, line, radius), drawn.sum(axis=(1, 2))])


def _area(matched: Tensor, predicted: Tensor, true: float) -> float:
    """Area under the precision-recall curve; see `BoundaryF`."""
    found = predicted > 0
    best: dict[float, float] = {}
    for hits, drawn in zip(matched[found].tolist(), predicted[found].tolist(), strict=True):
        best[hits / true] = max(best.get(hits / true, 0.0), hits / drawn)
    if not best:
        return 0.0
    recall = sorted(best)
    curve = [(0.0, best[recall[0]]), *((r, best[r]) for r in recall)]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))
