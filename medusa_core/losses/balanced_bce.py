"""Binary cross-entropy for maps in which one of the two classes is rare."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medusa_core.losses._valid import check_same_shape

_BALANCE_LIMITS = (0.05, 0.95)


def balanced_bce(
    prediction: Tensor, target: Tensor, valid: Tensor, positive_weight: float | None = None
) -> Tensor:
    """Mean weighted binary cross-entropy over valid pixels.

    A positive pixel weighs w, a negative one 1 - w. Without `positive_weight`, w is the share of
    negatives among the valid pixels of the batch, kept within [0.05, 0.95] so that a batch without
    positives still teaches the prediction to stay low (class-balanced cross-entropy of
    Xie & Tu, *Holistically-Nested Edge Detection*, ICCV 2015).

    Args:
        prediction: `(B, …) float32` scores before the sigmoid.
        target: like `prediction`, int64: 1 is positive, everything else negative.
        valid: like `target`, bool.
        positive_weight: fixed w in `[0, 1]`.

    Returns:
        Scalar in nats; zero, with a gradient path, where nothing is valid.
    """
    check_same_shape(prediction, target)
    positive = target == 1
    count = valid.sum()
    if positive_weight is None:
        negatives = count - (positive & valid).sum()
        share = (negatives / count.clamp_min(1)).clamp(*_BALANCE_LIMITS)
    else:
        share = torch.tensor(positive_weight, device=prediction.device)
    share = share.to(prediction.dtype)
    weight = torch.where(positive, share, 1 - share) * valid
    total = F.binary_cross_entropy_with_logits(
        prediction, positive.to(prediction.dtype), weight=weight, reduction="sum"
    )
    return total / count.clamp_min(1)
