"""Cross-entropy of class scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_SKIP = -100


def masked_cross_entropy(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean cross-entropy over valid pixels.

    Args:
        prediction: `(B, C, …) float32` scores before softmax: `(B, C, H, W)` or `(B, C)`.
        target: `(B, …) int64` classes in `[0, C)`; anything (an ignore index) where not valid.
        valid: `(B, …) bool`, like `target`.

    Returns:
        Scalar in nats; zero, with a gradient path, where nothing is valid.
    """
    classes = target.masked_fill(~valid, _SKIP)
    total = F.cross_entropy(prediction, classes, ignore_index=_SKIP, reduction="sum")
    return total / valid.sum().clamp_min(1)
