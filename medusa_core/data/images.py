"""Reading image files from outside: bounded, never trusted, errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medusa_core.errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded."""


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        DataError: it is missing, not an image, or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise DataError(f"{path}: cannot be opened: {err}.") from err
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width}×{height} is more than {MAX_PIXELS // 10**6} million pixels.",
            hint="Scale it down first.",
        )
    return image


def decode(image: Image.Image, path: Path) -> Image.Image:
    """Decode an opened image now, so that a damaged file fails here.

    Raises:
        DataError: the file is truncated or damaged.
    """
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, MemoryError, IndexError) as err:
        raise DataError(f"{path}: truncated or damaged: {err}.") from err
    return image


def read_rgb(path: Path) -> np.ndarray:
    """`(H, W, 3) uint8` RGB, turned upright as its EXIF says; grey repeated, alpha dropped."""
    with open_image(path) as image:
        upright = ImageOps.exif_transpose(decode(image, path))
        return np.asarray(upright.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, from the header alone."""
    with open_image(path) as image:
        width, height = image.size
        sideways = image.getexif().get(0x0112, 1) >= 5
        return (width, height) if sideways else (height, width)


def read_raw(path: Path) -> np.ndarray:
    """The stored pixel values: `(H, W)` or `(H, W, C)`, palette images as their indices."""
    with open_image(path) as image:
        decoded = decode(image, path)
        if decoded.mode in {"1", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"}:
            raise DataError(
                f"{path}: pixel format {decoded.mode!r} cannot hold a target.",
                hint="Use 8- or 16-bit grey, palette or RGB PNG files, or .npy files.",
            )
        return np.asarray(decoded)
