"""Absolute error of values."""

from __future__ import annotations

from torch import Tensor

from medusa_core.losses._valid import check_same_shape, mean_abs_where


def masked_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over valid pixels (and channels).

    Args:
        prediction: `(B, …) float32`, e.g. `(B, H, W)` or `(B, C, H, W)`.
        target: like `prediction`; anything where `valid` is false.
        valid: `(B, H, W) bool` (dense) or `(B,) bool` (global); or of the shape of `prediction`,
            where what is known differs from channel to channel.

    Returns:
        Scalar in the unit of the target; zero, with a gradient path, where nothing is valid.
    """
    check_same_shape(prediction, target)
    return mean_abs_where(prediction - target, valid)
