"""Errors between directions."""

from __future__ import annotations

import torch
from torch import Tensor

from medusa_core.losses._valid import check_same_shape, mean_abs_where

_SOFTENING = 1e-6
"""Added to the squared length: predictions near zero get a large but bounded gradient."""


def _direction(vectors: Tensor) -> Tensor:
    squared = (vectors * vectors).sum(dim=1, keepdim=True)
    return vectors * (squared + _SOFTENING).rsqrt()


def direction_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error of the coordinates of unit vectors over valid pixels and channels.

    Args:
        prediction: `(B, C, H, W) float32` vectors of any length; they are normalised here.
        target: like `prediction`, unit vectors; anything where not valid.
        valid: `(B, H, W) bool`.

    Returns:
        Scalar without a unit; zero, with a gradient path, where nothing is valid.
    """
    check_same_shape(prediction, target)
    return mean_abs_where(_direction(prediction) - target, valid)


def cosine_distance(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of 1 - cos(angle) over valid pixels, in `[0, 2]`.

    Flat where the angle is small, where `direction_l1` keeps its slope. Arguments and the value
    without valid pixels are as in `direction_l1`.
    """
    check_same_shape(prediction, target)
    known = torch.where(valid.unsqueeze(1), target, target.new_zeros(()))
    cosine = (_direction(prediction) * known).sum(dim=1)
    return mean_abs_where(1 - cosine, valid)
