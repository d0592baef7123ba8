"""Counting and summing per image. For the metrics of this package."""

from __future__ import annotations

import torch
from torch import Tensor

_GRAIN = 2.0**20


def check_shapes(decoded: Tensor, target: Tensor, valid: Tensor) -> None:
    """Refuse shapes that would broadcast silently.

    Raises:
        ValueError: the shapes do not belong together.
    """
    vectors = target.ndim == valid.ndim + 1
    expected = (target.shape[0], *target.shape[2:]) if vectors else target.shape
    if decoded.shape != target.shape or valid.shape != expected:
        raise ValueError(
            f"decoded is {tuple(decoded.shape)}, target {tuple(target.shape)} "
            f"and valid {tuple(valid.shape)}"
        )


def count_per_image(bins: Tensor, size: int) -> Tensor:
    """Occurrences of each bin in each image.

    Args:
        bins: `(B, …) int64` in `[0, size]`; the last, `size`, is not counted.
        size: number of bins.

    Returns:
        `(B, size) float64` whole numbers: exact, whatever the batching.
    """
    batch = bins.shape[0]
    offset = torch.arange(batch, device=bins.device) * (size + 1)
    flat = (bins.reshape(batch, -1) + offset[:, None]).reshape(-1)
    counts = torch.bincount(flat, minlength=batch * (size + 1))
    return counts.reshape(batch, size + 1)[:, :size].double()


def sum_per_image(values: Tensor) -> Tensor:
    """`(B,) float64` sum of each image of `(B, …)` values.

    Sums are rounded to multiples of 2^-20: one below 2^-21 (4.8e-7) is 0. Such numbers add without
    rounding up to 2^33 (8.6e9), so that up to there a total does not depend on how images were
    batched, ordered or sharded; beyond, its last bits may.
    """
    sums = values.double().reshape(values.shape[0], -1).sum(dim=1)
    return (sums * _GRAIN).round() / _GRAIN
