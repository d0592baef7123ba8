"""What a head may know about the backbone it is attached to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureInfo:
    """The feature levels a backbone exposes, finest first.

    For an image of `(B, 3, H, W)` with H and W multiples of `max(strides)`, level `i` is
    `(B, channels[i], H / strides[i], W / strides[i]) float32`.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
