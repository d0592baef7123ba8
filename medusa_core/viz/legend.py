"""Small legends drawn inside a picture. Pictures too small for one stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from medusa_core.viz._text import Font, font, font_size_for, text_size
from medusa_core.viz.colours import colour_map

SMALLEST = 140
"""Pictures with a shorter side get no legend: it would hide too much of them."""

_BACKGROUND = (16, 18, 24, 178)
_RIM = (255, 255, 255, 96)
_TEXT = (255, 255, 255, 255)


def draw_colour_bar(image: np.ndarray, low: str, high: str, reverse: bool = False) -> np.ndarray:
    """Draw the sequential map with the text of its two ends into the lower left corner.

    Args:
        image: `(H, W, 3) uint8`.
        low: text at the left end, where the map is dark.
        high: text at the right end.
        reverse: whether the light end is left.

    Returns:
        `(H, W, 3) uint8`, a new array.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        return image.copy()
    size = font_size_for(height, width)
    face = font(size)
    gap = size // 2
    left, line = text_size(low, face)
    right, _ = text_size(high, face)
    bar = max(width // 5, 3 * size)
    box = (left + bar + right + 4 * gap, line + 2 * gap)
    if box[0] > width - size or box[1] > height // 4:
        return image.copy()
    x, y = gap, height - box[1] - gap
    canvas, draw = _box(image, (x, y, x + box[0], y + box[1]), gap)
    middle = y + box[1] / 2
    _write(draw, (x + gap, middle), low, face)
    _write(draw, (x + left + bar + 3 * gap, middle), high, face)
    strip = np.tile(colour_map()[None, :: -1 if reverse else 1], (line, 1, 1))
    picture = Image.fromarray(strip).resize((bar, line), Image.Resampling.BILINEAR)
    canvas.paste(picture, (x + left + 2 * gap, y + gap))
    return np.array(canvas)


def draw_swatches(
    image: np.ndarray, entries: Sequence[tuple[str, Sequence[int] | np.ndarray]]
) -> np.ndarray:
    """Draw names with the colour of each into the lower left corner, in a few short lines.

    Args:
        image: `(H, W, 3) uint8`.
        entries: (name, RGB) pairs, most important first; what does not fit into a quarter of the
            picture is left out, and the last line then says how many.

    Returns:
        `(H, W, 3) uint8`, a new array.
    """
    height, width = image.shape[:2]
    size = font_size_for(height, width)
    face = font(size)
    swatch = text_size("Hg", face)[1]
    gap, step = size // 2, round(swatch * 1.35)
    offset = round(1.35 * swatch)
    sizes = [offset + text_size(name, face)[0] for name, _ in entries]
    limit = max(int(0.28 * height) - gap, 0) // step
    lines = _flow(sizes, width - 4 * gap, size, text_size("+99", face)[0], limit)
    placed = [index for line in lines for index in line]
    if not placed or min(height, width) < SMALLEST:
        return image.copy()
    longest = max(sum(sizes[i] + size for i in line) for line in lines) - size
    left_out = f"+{len(entries) - len(placed)}" if len(placed) < len(entries) else ""
    end = sum(sizes[i] + size for i in lines[-1])
    longest = max(longest, end + text_size(left_out, face)[0]) if left_out else longest
    x, y = gap, height - gap - len(lines) * step - gap
    canvas, draw = _box(image, (x, y, x + longest + 2 * gap, height - gap), gap)
    for row, line in enumerate(lines):
        at, middle = float(x + gap), y + gap / 2 + (row + 0.5) * step
        for index in line:
            name, colour = entries[index]
            square = (at, middle - swatch / 2, at + swatch, middle + swatch / 2)
            fill = tuple(int(channel) for channel in colour)
            rim = max(2, swatch // 5)
            draw.rounded_rectangle(square, radius=rim, fill=(*fill, 255), outline=_RIM)
            _write(draw, (at + offset, middle), name, face)
            at += sizes[index] + size
    _write(draw, (x + gap + end, middle), left_out, face)
    return np.array(canvas)


def _flow(
    sizes: Sequence[int], width: int, space: int, reserve: int, limit: int
) -> list[list[int]]:
    """Indices of what stands in each line, in order, with room for a remark in the last one."""
    lines: list[list[int]] = []
    used = 0
    for index, size in enumerate(sizes):
        if lines and used + space + size <= width - reserve * (len(lines) == limit):
            lines[-1].append(index)
            used += space + size
        elif len(lines) < limit and size <= width - reserve:
            lines.append([index])
            used = size
        else:
            break
    return lines


def _box(
    image: np.ndarray, corners: tuple[int, int, int, int], radius: int
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas, "RGBA")
    draw.rounded_rectangle(corners, radius=radius, fill=_BACKGROUND)
    return canvas, draw


def _write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, face: Font) -> None:
    """Write with `at` as the middle of the left side of the line, whatever letters it has."""
    _, top, _, bottom = face.getbbox("H")
    draw.text((at[0], at[1] - (top + bottom) / 2), text, font=face, fill=_TEXT)
