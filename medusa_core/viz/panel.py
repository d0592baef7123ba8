"""A contact sheet: rows of captioned pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from medusa_core.viz._text import font, text_size

_PAPER, _INK = (255, 255, 255), (40, 44, 52)


def panel(
    rows: Sequence[Sequence[tuple[np.ndarray, str]]],
    cell: tuple[int, int] | None = None,
    gap: int = 8,
    font_size: int = 13,
) -> np.ndarray:
    """Arrange pictures in rows, the n-th picture of every row in one column.

    Args:
        rows: (image `(H, W, 3) uint8`, caption) pairs; sizes and the lengths of rows may differ.
        cell: (height, width) every picture is scaled to fit, keeping its proportions; None keeps
            the pictures at their size.
        gap: space around pictures in pixels.
        font_size: of the captions, in pixels; a caption too long for its column is cut.

    Returns:
        `(H, W, 3) uint8`; one white gap where there is no picture.
    """
    face = font(font_size)
    scaled = [[(_fit(image, cell), caption) for image, caption in row] for row in rows]
    columns = max((len(row) for row in scaled), default=0)
    widths = [max(row[i][0].width for row in scaled if i < len(row)) for i in range(columns)]
    heights = [max((picture.height for picture, _ in row), default=0) for row in scaled]
    line = text_size("Hg", face)[1] + gap
    captions = [line if any(text for _, text in row) else 0 for row in scaled]
    total = (
        gap + sum(width + gap for width in widths),
        gap + sum(h + c + gap for h, c in zip(heights, captions, strict=True)),
    )
    sheet = Image.new("RGB", total, _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = gap
    for row, height, caption_height in zip(scaled, heights, captions, strict=True):
        x = gap
        for (picture, caption), width in zip(row, widths, strict=False):  # rows may be shorter
            left = x + (width - picture.width) // 2
            sheet.paste(picture, (left, y + caption_height + (height - picture.height) // 2))
            text = _cut(caption, width, font_size)
            draw.text((x, y), text, font=face, fill=_INK)
            x += width + gap
        y += height + caption_height + gap
    return np.array(sheet)


def _fit(image: np.ndarray, cell: tuple[int, int] | None) -> Image.Image:
    picture = Image.fromarray(image)
    if cell is None:
        return picture
    scale = min(cell[0] / picture.height, cell[1] / picture.width)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _cut(text: str, width: int, font_size: int) -> str:
    face = font(font_size)
    if text_size(text, face)[0] <= width:
        return text
    while text and text_size(text + "…", face)[0] > width:
        text = text[:-1]
    return text + "…" if text else ""
