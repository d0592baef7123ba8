"""What tasks that give every pixel a probability have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from medusa_core.api import Task
from medusa_core.losses import balanced_bce

if TYPE_CHECKING:
    from torch import Tensor


class BinaryMapTask(Task):
    """One probability a pixel, learned from 0 and 1."""

    positive_weight: ClassVar[float | None] = None
    """Fixed weight of positive pixels; None balances each batch."""

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Balanced cross-entropy of `(B, 1, H, W)` scores and `(B, H, W) int64` maps."""
        scores = prediction.squeeze(1)
        return {"balanced_bce": balanced_bce(scores, target, valid, self.positive_weight)}
