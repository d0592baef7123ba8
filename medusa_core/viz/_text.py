"""The font of pictures. For this package only."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """Pillow's built-in font at about `size` pixels (one size only if built without FreeType)."""
    return ImageFont.load_default(size)


def font_size_for(height: int, width: int) -> int:
    """Size that reads well in a picture of `(height, width)` pixels."""
    return int(min(max(min(height, width) / 21, 10), 26))


def text_size(text: str, face: Font) -> tuple[int, int]:
    """(width, line height) in pixels; the height is the same for every text."""
    left, _, right, _ = face.getbbox(text)
    _, top, _, bottom = face.getbbox("Hg")
    return round(right - left), round(bottom - top)
