"""Views of a sample: one crop, one scale, maybe a flip, applied to image and targets together.

No library does this for us: a flip must negate the x component of normals and exchange left and
right parts, a zoom must divide depth, and what lies outside the picture is invalid, not class 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medusa_core.api import LabelSchema, TargetSpec

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """How a sample is shown.

    zoom: ≥ 1; the picture is enlarged by this much beyond fitting into the canvas.
    offset: (y, x) in [0, 1]; where the visible part of an enlarged picture lies.
    """

    flip: bool = False
    zoom: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Placement:
    """The box of the picture that is shown and the size it takes on the canvas (top left)."""

    box: tuple[float, float, float, float]
    size: Size


IDENTITY = View()


MAX_VIEWS = 22
"""Beyond, `fixed_views` would repeat itself."""


def fixed_views(count: int) -> tuple[View, ...]:
    """The views a feature cache holds, up to `MAX_VIEWS`: as it is, flipped, then zooms."""
    views = [View(), View(flip=True)]
    corners = [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5)]
    for i in range(max(0, count - 2)):
        zoom = (1.25, 1.5, 1.15, 1.35)[i % 4]
        views.append(View(flip=i % 2 == 1, zoom=zoom, offset=corners[i % 5]))
    return tuple(views[:count])


def place(picture: Size, canvas: Size, view: View) -> Placement:
    """Fit a picture into a canvas (keeping its aspect ratio), enlarged by the view's zoom.

    Args:
        picture: (H, W) of the image.
        canvas: (H, W) of the result.
        view: zoom and offset.
    """
    scale = min(canvas[0] / picture[0], canvas[1] / picture[1]) * view.zoom
    shown = [min(c / scale, p) for p, c in zip(picture, canvas, strict=True)]
    start = [(p - s) * o for p, s, o in zip(picture, shown, view.offset, strict=True)]
    size = (
        max(1, min(canvas[0], round(shown[0] * scale))),
        max(1, min(canvas[1], round(shown[1] * scale))),
    )
    box = (start[1], start[0], start[1] + shown[1], start[0] + shown[0])
    return Placement(box, size)


def view_image(image: np.ndarray, canvas: Size, view: View, fill: Sequence[int]) -> np.ndarray:
    """The picture as the view shows it.

    Args:
        image: `(H, W, 3) uint8`.
        canvas: (H, W) of the result.
        view: what to show.
        fill: RGB outside the picture.

    Returns:
        `(*canvas, 3) uint8`; bilinear, antialiased where it shrinks.
    """
    placement = place(image.shape[:2], canvas, view)
    height, width = placement.size
    if image.shape[:2] == canvas and view.zoom == 1:
        shown = image
    else:
        resized = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BILINEAR, box=placement.box
        )
        shown = np.asarray(resized)
    if view.flip:
        shown = shown[:, ::-1]
    if placement.size == canvas:
        return np.ascontiguousarray(shown)
    result = np.empty((*canvas, 3), np.uint8)
    result[:] = np.asarray(fill, np.uint8)
    result[:height, :width] = shown
    return result


def view_target(
    target: np.ndarray, canvas: Size, view: View, spec: TargetSpec, labels: LabelSchema | None
) -> np.ndarray:
    """A dense target as the view shows it; invalid where there is no picture.

    Args:
        target: `(H, W)` or `(H, W, C)`, in the layout of `spec`.
        canvas: (H, W) of the result.
        view: what to show.
        spec: how the values follow the geometry.
        labels: for the ignore index and the pairs that a flip exchanges.

    Returns:
        The same dtype, `(*canvas)` or `(*canvas, C)`; nearest neighbour.
    """
    placement = place(target.shape[:2], canvas, view)
    left, top, right, bottom = placement.box
    rows = _nearest(top, bottom, placement.size[0], target.shape[0])
    columns = _nearest(left, right, placement.size[1], target.shape[1])
    if view.flip:
        columns = columns[::-1]
    shown = target.take(rows, axis=0).take(columns, axis=1)
    moved = _flip_values(shown, spec, labels) if view.flip else shown
    if view.zoom != 1 and spec.zoom == "divide":
        moved = moved / np.asarray(view.zoom, moved.dtype)
    if moved is not shown:
        shown = np.where(known_values(shown, spec, labels), moved, shown)
    if placement.size == canvas:
        return np.ascontiguousarray(shown)
    result = np.full((*canvas, *target.shape[2:]), invalid_value(spec, labels), target.dtype)
    result[: placement.size[0], : placement.size[1]] = shown
    return result


def invalid_value(spec: TargetSpec, labels: LabelSchema | None) -> float:
    """The value that marks a pixel without a measurement."""
    if labels is not None:
        return labels.ignore_index
    return 0.0 if spec.invalid is None else spec.invalid


def known_values(target: np.ndarray, spec: TargetSpec, labels: LabelSchema | None) -> np.ndarray:
    """Like the target, bool: which of its values are not the invalid one."""
    if labels is None and spec.invalid is None:
        return np.ones(target.shape, bool)
    invalid = invalid_value(spec, labels)
    if np.isnan(invalid):
        return ~np.isnan(target)
    known: np.ndarray = target != np.asarray(invalid, target.dtype)
    return known


def valid_mask(target: np.ndarray, spec: TargetSpec, labels: LabelSchema | None) -> np.ndarray:
    """`(H, W) bool`: where a dense target counts."""
    known = known_values(target, spec, labels)
    return np.any(known, axis=2) if known.ndim == 3 else known


def view_value(
    target: np.ndarray, view: View, spec: TargetSpec, labels: LabelSchema | None
) -> np.ndarray:
    """The target of a whole image, `()` or `(C,)`, as a view changes it; see `view_target`."""
    if view.zoom != 1 and spec.zoom == "invalid":
        return np.full_like(target, invalid_value(spec, labels))
    moved = _flip_values(target, spec, labels) if view.flip else target
    if view.zoom != 1 and spec.zoom == "divide":
        moved = moved / np.asarray(view.zoom, moved.dtype)
    return np.where(known_values(target, spec, labels), moved, target)


def value_is_valid(target: np.ndarray, spec: TargetSpec, labels: LabelSchema | None) -> bool:
    """Whether the target of a whole image counts."""
    as_map = np.reshape(target, (1, 1, *target.shape))
    return bool(valid_mask(as_map, spec, labels).all())


def size_votes(sizes: Sequence[Size]) -> Size:
    """The most common size; the largest among equals."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def _nearest(start: float, stop: float, count: int, limit: int) -> np.ndarray:
    centres = start + (np.arange(count) + 0.5) * (stop - start) / count
    return np.clip(np.floor(centres).astype(np.int64), 0, limit - 1)


def _flip_values(target: np.ndarray, spec: TargetSpec, labels: LabelSchema | None) -> np.ndarray:
    if spec.flip == "negate_x":
        if spec.channels is None:
            return -target
        mirrored = target.copy()
        mirrored[..., 0] = -mirrored[..., 0]
        return mirrored
    if spec.flip == "swap_pairs" and labels is not None and labels.swap_pairs:
        swapped = np.array(target)  # of a single class, too
        for a, b in labels.swap_pairs:
            swapped[target == a] = b
            swapped[target == b] = a
        return swapped
    return target
