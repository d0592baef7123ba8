"""Saliency: class-balanced cross-entropy, maximal F, the rest of the picture dimmed."""

from __future__ import annotations

import numpy as np

from medusa_core.api import Metric
from medusa_core.metrics import MaxF
from medusa_core.viz import dim, outline
from medusa_tasks._binary_map import BinaryMapTask

_OUTLINE = (255, 196, 0)


class Saliency(BinaryMapTask):
    """The probability that a pixel belongs to what draws the eye first."""

    def new_metrics(self) -> list[Metric]:
        """F with squared beta 0.3 at the best of 19 thresholds."""
        return [MaxF("max_f", beta2=0.3, thresholds=[i / 20 for i in range(1, 20)])]

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The salient region as it is, outlined; the rest dark and grey."""
        picture = dim(image, 1 - np.clip(value, 0, 1))
        return outline(picture, (value >= 0.5).astype(np.int64), _OUTLINE, alpha=1.0)
