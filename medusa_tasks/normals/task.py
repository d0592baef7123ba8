"""Surface normals: L1 on unit vectors, pooled angles, the usual colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medusa_core.api import Metric, Task
from medusa_core.losses import direction_l1
from medusa_core.metrics import AngularErrors

if TYPE_CHECKING:
    from torch import Tensor


class Normals(Task):
    """The direction every visible surface faces."""

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Absolute error of normalised `(B, 3, H, W)` predictions and unit vectors."""
        return {"direction_l1": direction_l1(prediction, target, valid)}

    def new_metrics(self) -> list[Metric]:
        """Pooled angles between prediction and target."""
        return [AngularErrors()]

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Red, green and blue are (x + 1) / 2, (y + 1) / 2 and (z + 1) / 2; unknown is black."""
        unit = (np.clip(value, -1, 1) + 1) * 127.5
        picture = np.ascontiguousarray(np.rint(unit).astype(np.uint8).transpose(1, 2, 0))
        picture[~value.any(axis=0)] = 0
        return picture
