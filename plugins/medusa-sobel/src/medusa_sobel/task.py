"""The behaviour of the task. Imported when a head is trained, evaluated or run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medusa_core.api import Metric, Task
from medusa_core.losses import masked_l1
from medusa_core.metrics import MeanAbsoluteError
from medusa_core.viz import apply_colour_map

if TYPE_CHECKING:
    from torch import Tensor

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32) / 255
"""Weights of R, G and B (ITU-R BT.601), for an image of 0…255."""


class Sobel(Task):
    """Edge strength in [0, 1]; raw predictions are logits of it."""

    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        """`(H, W) float32` edge strength of `(H, W, 3) uint8`; `raw` is None."""
        padded = np.pad(image.astype(np.float32) @ LUMINANCE, 1, mode="edge")
        across = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        down = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        magnitude = np.hypot(across[:, 2:] - across[:, :-2], down[2:] - down[:-2])
        return np.minimum(magnitude, 1).astype(np.float32)

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Absolute error of `(B, 1, H, W)` logits against `(B, H, W)` strengths."""
        return {"l1": masked_l1(self.decode(prediction), target, valid)}

    def new_metrics(self) -> list[Metric]:
        """Mean absolute error."""
        return [MeanAbsoluteError()]

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Edges are light, flat areas dark."""
        return apply_colour_map(value)
