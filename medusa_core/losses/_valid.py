"""Averages over the pixels that count. For the losses of this package."""

from __future__ import annotations

import torch
from torch import Tensor


def check_same_shape(prediction: Tensor, target: Tensor) -> None:
    """Refuse shapes that would broadcast: `(B, 1, H, W)` against `(B, H, W)` gives `(B, B, H, W)`.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)} but target is {tuple(target.shape)}"
        )


def spread(valid: Tensor, like: Tensor) -> Tensor:
    """`valid` with a channel axis inserted where `like` has one; a view that broadcasts."""
    missing = like.ndim - valid.ndim
    if missing not in (0, 1) or valid.shape[0] != like.shape[0]:
        raise ValueError(f"valid is {tuple(valid.shape)} for values of {tuple(like.shape)}")
    return valid.unsqueeze(1) if missing else valid


def mean_abs_where(difference: Tensor, valid: Tensor) -> Tensor:
    """Mean of `|difference|` over the valid elements, zero with a gradient path if there are none.

    The mask is applied to the difference itself, so that a target that is infinite or NaN at an
    invalid pixel reaches neither the sum nor its gradient. Predictions have to be finite.
    """
    mask = spread(valid, difference)
    kept = torch.where(mask, difference, difference.new_zeros(()))
    per_pixel = difference.numel() // max(mask.numel(), 1)
    return kept.abs().sum() / (valid.sum() * per_pixel).clamp_min(1)
