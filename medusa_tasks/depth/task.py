"""Depth: L1 on log-metres, pooled errors, a colour map with a scale in metres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from medusa_core.api import Metric, Task
from medusa_core.losses import masked_l1
from medusa_core.metrics import DepthErrors
from medusa_core.viz import apply_colour_map, draw_colour_bar

if TYPE_CHECKING:
    from torch import Tensor

LOG_RANGE = (-7.0, 7.0)
"""Log-metres that are told apart: 0.9 mm to 1.1 km."""


class Depth(Task):
    """Distance from the camera plane in metres; raw predictions are log-metres."""

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Absolute error of log-metres of `(B, 1, H, W)` predictions, `(B, H, W)` metres.

        The prediction is not clamped here, so that one beyond `LOG_RANGE` finds its way back.
        """
        low, high = LOG_RANGE
        metres = torch.where(valid, target, target.new_ones(()))
        log_metres = metres.log().clamp(low, high)
        return {"log_l1": masked_l1(prediction.squeeze(1), log_metres, valid)}

    def new_metrics(self) -> list[Metric]:
        """Pooled errors in metres."""
        return [DepthErrors()]

    def decode(self, prediction: Tensor) -> Tensor:
        """`(B, H, W) float32` metres: always positive and finite."""
        return prediction.squeeze(1).clamp(*LOG_RANGE).exp()

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Near is bright and warm, far is dark, unknown (0) is black; the scale is drawn in."""
        known = np.isfinite(value) & (value > 0)
        if not known.any():
            return np.zeros((*value.shape, 3), np.uint8)
        near, far = np.percentile(value[known], (1, 99))
        # Equal steps of colour are equal ratios of distance, as in the loss.
        span = max(np.log(far / near), 1e-6)
        position = 1 - np.log(np.where(known, value, near) / near) / span
        picture = apply_colour_map(position)
        picture[~known] = 0
        return draw_colour_bar(picture, f"{near:.1f} m", f"{far:.1f} m", reverse=True)
