"""Edges: weighted cross-entropy, exact-pixel and boundary F, dark lines on white."""

from __future__ import annotations

import numpy as np

from medusa_core.api import Metric
from medusa_core.metrics import BoundaryF, MaxF
from medusa_tasks._binary_map import BinaryMapTask
from medusa_tasks.edges.config import EdgesConfig


class Edges(BinaryMapTask):
    """The probability of a boundary at every pixel."""

    positive_weight = 0.95

    def new_metrics(self) -> list[Metric]:
        """F of exact pixels at the best of 99 thresholds; the scores of the BSDS benchmark."""
        config = self.config or EdgesConfig()
        return [
            MaxF("pixel_f", beta2=1.0, thresholds=[i / 100 for i in range(1, 100)]),
            BoundaryF(config.max_distance),
        ]

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Dark lines on white: the darker, the more probable."""
        grey = np.rint(255 * (1 - np.clip(value, 0, 1))).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
