"""What a head may know about the backbone it is attached to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureInfo:
    """The feature levels a backbone exposes, finest first.

    For an image of `(B, 3, H, W)` with H and W multiples of `max(strides)`, level `i` is
    `(B, channels[i], H / strides[i], W / strides[i]) float32`.

    computed: strides at which the backbone computes the levels, multiples of `strides`; the same by
        default. Where one is larger, as for most levels of a plain ViT, the level is what it
        computes, upsampled bilinearly (`Head.upsamples`).

    Raises:
        ValueError: they are no multiples, or not as many.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    computed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.computed:
            object.__setattr__(self, "computed", self.strides)
        if len(self.computed) != len(self.strides):
            raise ValueError(f"{len(self.strides)} strides, {len(self.computed)} computed ones")
        if any(
            computed < stride or computed % stride
            for computed, stride in zip(self.computed, self.strides, strict=True)
        ):
            raise ValueError(f"computed at {self.computed}, no multiples of {self.strides}")

    @property
    def upsampling(self) -> tuple[int, ...]:
        """By how much each level is upsampled: 1 where it is as it was computed."""
        pairs = zip(self.computed, self.strides, strict=True)
        return tuple(computed // stride for computed, stride in pairs)

    def shapes(self, size: tuple[int, int]) -> list[tuple[int, int, int]]:
        """`(C, h, w)` of each level as computed, of an image (H, W) padded to `max(strides)`."""
        coarsest = max(self.strides)
        height, width = (side + -side % coarsest for side in size)
        pairs = zip(self.channels, self.computed, strict=True)
        return [(channels, height // stride, width // stride) for channels, stride in pairs]
